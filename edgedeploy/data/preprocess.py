"""The declared image preprocessing, as much of it as is not baked into the model.

The algorithm is that of :mod:`edgedeploy.data.pixels`, which packages for apps carry too.
"""

from __future__ import annotations

import numpy as np

from edgedeploy.data.pixels import Geometry, arranged, fit_image, plan_fit
from edgedeploy.errors import DataError
from edgedeploy.profile.types import ImagePreprocess

__all__ = ["Geometry", "fit_image", "normalise", "plan_fit", "unbaked"]


def normalise(image: np.ndarray, spec: ImagePreprocess) -> np.ndarray:
    """Return the model input of a fitted image.

    Steps that are baked into the model are left out here.

    Args:
        image: uint8 ``[h, w, channels]``, RGB or gray.
        spec: The declared preprocessing.

    Returns:
        ``[1, channels, h, w]`` or ``[1, h, w, channels]``; uint8 where no arithmetic was done,
        otherwise float32.

    Raises:
        DataError: ``mean`` or ``std`` does not match the channels (E288).
    """
    return _arranged(image[None], spec.outside)


def unbaked(tensor: np.ndarray, spec: ImagePreprocess) -> np.ndarray:
    """Return what the model without baked steps takes of what the one with them takes.

    Args:
        tensor: As :func:`normalise` made it, or a batch of such.
        spec: The declared preprocessing.

    Returns:
        ``[n, channels, h, w]`` or ``[n, h, w, channels]`` as ``spec.layout`` says; of the tensor's
        own type where no arithmetic was done, otherwise float32.

    Raises:
        DataError: As :func:`normalise`.
    """
    pixels = tensor if spec.outside.layout == "nhwc" else tensor.transpose(0, 2, 3, 1)
    return _arranged(pixels, spec.inside)


def _arranged(batch: np.ndarray, words: ImagePreprocess) -> np.ndarray:
    try:
        return np.ascontiguousarray(arranged(batch, words))
    except ValueError as error:
        channels = batch.shape[3]
        raise DataError(
            f"image: {error}", code="E288", hint=f"Give one value or {channels}."
        ) from error
