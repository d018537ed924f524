"""Image files through the input's declared ``image:`` preprocessing.

Decoding, the same for every app: the first frame; EXIF orientation applied; palette and bilevel
images expanded; an alpha channel dropped (the stored colour is kept, nothing is blended); 16-bit
gray brought to 8 bits as ``(value * 255 + 32767) // 65535``; gray repeated into three channels for
``rgb`` and ``bgr``; for ``gray`` colour becomes luma of ITU-R BT.601,
``(19595 R + 38470 G + 7471 B + 32768) >> 16``; colour profiles are not applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedeploy.data.preprocess import fit_image, normalise
from edgedeploy.data.readers import RawSample, Request, broken, declared_input
from edgedeploy.profile.types import ImagePreprocess
from edgedeploy.signature import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image


def read(request: Request) -> Iterator[RawSample]:
    """Yield one sample per image file.

    Raises:
        DataError: A file cannot be decoded (E259); no input declares ``image:`` (E288).
    """
    spec, words = declared_input(request, "image")
    image_spec = words.image
    if image_spec is None:  # declared_input found one; this tells the type checker
        return
    fixed_width = _fixed_width(spec, image_spec)
    for name in request.selection.names:
        pixels = decode(request.selection.root / name, name, gray=image_spec.colour == "gray")
        fitted, geometry = fit_image(pixels, image_spec, fixed_width=fixed_width)
        yield RawSample(
            id=name,
            tensors={spec.name: normalise(fitted, image_spec)},
            truth=request.truth(name, (geometry.width, geometry.height)),
            geometry=geometry.to_json(),
        )


def _fixed_width(spec: TensorSpec, image_spec: ImagePreprocess) -> int | None:
    if spec.dims is None or len(spec.dims) != 4:
        return None
    width = spec.dims[3 if image_spec.outside.layout == "nchw" else 2]
    return width if isinstance(width, int) else None


def decode(file: Path, name: str, *, gray: bool) -> np.ndarray:
    """Return the pixels of an image file.

    Args:
        file: The file.
        name: Its name in messages.
        gray: Whether one channel is wanted rather than RGB.

    Returns:
        uint8 ``[height, width, 3]``, or ``[height, width, 1]`` for gray.

    Raises:
        DataError: The file cannot be decoded (E259).
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            pixels = _eight_bit(image, "L" if gray else "RGB")
    except Exception as error:  # decoders of damaged files raise what they like
        raise broken(name, error) from error
    return pixels[..., None] if gray else pixels


def _eight_bit(image: Image, mode: str) -> np.ndarray:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("pixel values do not fit 16 bits")
        narrow = ((values * 255 + 32767) // 65535).astype(np.uint8)
        return narrow if mode == "L" else np.repeat(narrow[..., None], 3, axis=2)
    if mode == "L" and image.mode in ("P", "PA"):
        image = image.convert("RGB")  # a palette's own luma tables round differently
    return np.asarray(image.convert(mode))
