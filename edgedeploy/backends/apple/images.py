"""Inputs that take pixels: the arithmetic of ``edgedeploy.data.preprocess`` inside the program.

``(pixel * scale - mean) / std`` in float, in that order; what is 1 or 0 throughout is left out.
Core ML itself decodes and resizes, and gives the program ``[1, channels, height, width]``.
"""

from __future__ import annotations

import numpy as np

from edgedeploy.backends.apple.interface import Port
from edgedeploy.backends.apple.mil_api import Var, ct, mb
from edgedeploy.errors import BuildError, Diagnostic
from edgedeploy.profile.types import ImagePreprocess


def pixel_dims(port: Port) -> tuple[int | str, ...]:
    """Return the shape in which the program gets the pixels of an input.

    Raises:
        BuildError: The input cannot be an image (E344).
    """
    image = port.image
    channels = 1 if image is not None and image.colour == "gray" else 3
    dims = port.dims
    if image is not None and len(dims) == 4 and image.layout == "nhwc":
        dims = (dims[0], dims[3], dims[1], dims[2])
    if len(dims) != 4 or dims[0] != 1 or dims[1] != channels:
        raise BuildError(
            Diagnostic(
                code="E344",
                message=f"Core ML: {port.onnx_name!r} cannot be an image: its shape is "
                f"{list(port.dims)}, and one image with {channels} channels is wanted",
                subject=port.onnx_name,
                hint="bind the batch to 1, or leave `images` off for this target",
            )
        )
    return dims


def normalised(pixels: Var, image: ImagePreprocess) -> Var:
    """Return the model's input of pixels, as MIL values."""
    value = pixels
    if image.scale != 1:
        value = mb.mul(x=value, y=np.float32(image.scale))
    if any(image.mean):
        value = mb.sub(x=value, y=_per_channel(image.mean))
    if any(item != 1 for item in image.std):
        value = mb.real_div(x=value, y=_per_channel(image.std))
    return mb.transpose(x=value, perm=[0, 2, 3, 1]) if image.layout == "nhwc" else value


def _per_channel(values: tuple[float, ...]) -> np.ndarray:
    array = np.asarray(values, np.float32)
    return array.reshape(1, -1, 1, 1)


def image_type(port: Port, sizes: object) -> object:
    """Return what coremltools takes for an input of pixels."""
    colour = "rgb" if port.image is None else port.image.colour
    layout = {
        "rgb": ct.colorlayout.RGB,
        "bgr": ct.colorlayout.BGR,
        "gray": ct.colorlayout.GRAYSCALE,
    }[colour]
    return ct.ImageType(name=port.name, shape=sizes, color_layout=layout)
