"""From a model's input back to the pixels that it was made of."""

from __future__ import annotations

import numpy as np

from edgedeploy.errors import BuildError
from edgedeploy.profile.types import ImagePreprocess


def pixels_of(array: np.ndarray, image: ImagePreprocess, name: str) -> np.ndarray:
    """Return the whole pixel values (float32, ``[1, channels, height, width]``) of an input.

    The samples of a build are preprocessed by ``(pixel * scale - mean) / std``; an app gives Core
    ML the pixels. What lies between two pixel values becomes the nearer one, as no image holds it.

    Args:
        array: The input as the ONNX model takes it.
        image: How pixels become it.
        name: Of the input.

    Raises:
        BuildError: A value that no pixel makes (E345).
    """
    axis = -1 if image.layout == "nhwc" else 1
    shape = [1] * array.ndim
    shape[axis] = -1
    value = array.astype(np.float64)
    if image.std:
        value = value * np.reshape(image.std, shape)
    if image.mean:
        value = value + np.reshape(image.mean, shape)
    pixels = np.rint(value / image.scale)
    if pixels.size and (pixels.min() < 0 or pixels.max() > 255):
        raise BuildError(
            f"input {name!r} is an image, and a sample has the value "
            f"{pixels.min():g} to {pixels.max():g} where a pixel has 0 to 255",
            code="E345",
            subject=name,
            hint="evaluate on images, or leave `images` off for this target",
        )
    if image.layout == "nhwc":
        pixels = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels, np.float32)
