"""The declared image preprocessing: fit, then ``(value * scale - mean) / std``, then layout.

The documented order, which every generated app follows: decode to 8-bit (:mod:`.readers.images`),
fit (whole-number resize of :mod:`.resize`, still 8-bit), channel order, scale, mean, std, layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.data.resize import resize
from edgedeploy.errors import DataError
from edgedeploy.profile.types import ImagePreprocess


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where an image went in the model input.

    A point ``(x, y)`` of the original (pixel edges, so that the image spans ``0..width``) lies at
    ``(x * scale_x + left, y * scale_y + top)`` of the input.

    Attributes:
        width, height: Size of the original in pixels, after EXIF orientation.
        input_width, input_height: Size of the model input in pixels.
        scale_x, scale_y: Size of the resized image over the original's.
        left, top: Offset of the resized image in pixels; negative where ``crop`` cut it.
    """

    width: int
    height: int
    input_width: int
    input_height: int
    scale_x: float
    scale_y: float
    left: int
    top: int

    def to_json(self) -> dict[str, Any]:
        """Return the geometry as JSON data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Geometry:
        """Return the geometry that :meth:`to_json` wrote."""
        return cls(**data)


def _scaled(size: int, numerator: int, denominator: int) -> int:
    """Return ``size * numerator / denominator`` rounded half up, at least 1."""
    return max(1, (2 * size * numerator + denominator) // (2 * denominator))


def plan_fit(
    height: int, width: int, spec: ImagePreprocess, *, fixed_width: int | None = None
) -> tuple[Geometry, tuple[int, int]]:
    """Return where an image of ``height x width`` goes and the size that it is resized to.

    Args:
        height: Rows of the original.
        width: Columns of the original.
        spec: The declared preprocessing. With ``width`` None the width follows the aspect ratio;
            where the model's own width is fixed, ``pad``, ``letterbox`` and ``crop`` fill it.
        fixed_width: The width that the model input has, if it is fixed.
    """
    goal_h, goal_w = spec.height, spec.width
    if goal_w is None and spec.fit != "stretch":
        goal_w = fixed_width
    if goal_w is None:
        goal_w = _scaled(width, goal_h, height)
    new_h, new_w = goal_h, goal_w
    if spec.fit != "stretch":
        # Compare goal_h / height with goal_w / width in whole numbers.
        height_limits = goal_h * width <= goal_w * height
        if height_limits == (spec.fit != "crop"):
            new_w = _scaled(width, goal_h, height)
        else:
            new_h = _scaled(height, goal_w, width)
    centred = spec.fit in ("letterbox", "crop")
    geometry = Geometry(
        width=width,
        height=height,
        input_width=goal_w,
        input_height=goal_h,
        scale_x=new_w / width,
        scale_y=new_h / height,
        left=(goal_w - new_w) // 2 if centred else 0,
        top=(goal_h - new_h) // 2 if centred else 0,
    )
    return geometry, (new_h, new_w)


def fit_image(
    image: np.ndarray, spec: ImagePreprocess, *, fixed_width: int | None = None
) -> tuple[np.ndarray, Geometry]:
    """Return the image at the input's size and where it went.

    Args:
        image: uint8 ``[h, w, channels]``.
        spec: The declared preprocessing.
        fixed_width: As in :func:`plan_fit`.

    Returns:
        uint8 ``[input_height, input_width, channels]`` and its geometry.
    """
    geometry, (new_h, new_w) = plan_fit(
        image.shape[0], image.shape[1], spec, fixed_width=fixed_width
    )
    resized = resize(image, new_h, new_w, spec.resample)
    goal = (geometry.input_height, geometry.input_width)
    if resized.shape[:2] == goal:
        return resized, geometry
    if spec.fit == "crop":
        top, left = -geometry.top, -geometry.left
        return resized[top : top + goal[0], left : left + goal[1]], geometry
    canvas = np.full((*goal, image.shape[2]), spec.pad_value, np.uint8)
    canvas[geometry.top : geometry.top + new_h, geometry.left : geometry.left + new_w] = resized
    return canvas, geometry


def _per_channel(values: tuple[float, ...], channels: int, what: str) -> np.ndarray:
    if len(values) not in (1, channels):
        raise DataError(
            f"image: {what} has {len(values)} values, but the image has {channels} channels",
            code="E288",
            hint=f"Give one value or {channels}.",
        )
    return np.asarray(values, np.float32)


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
    return np.ascontiguousarray(_steps(image[None], spec.outside))


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
    return np.ascontiguousarray(_steps(pixels, spec.inside))


def _steps(batch: np.ndarray, words: ImagePreprocess) -> np.ndarray:
    """Return ``[n, h, w, channels]`` in other channel and axis order and range, in float32."""
    if words.colour == "bgr":
        batch = batch[..., ::-1]
    channels, value = batch.shape[3], batch
    if words.scale != 1.0:
        value = value.astype(np.float32) * np.float32(words.scale)
    if words.mean:
        value = value.astype(np.float32) - _per_channel(words.mean, channels, "mean")
    if words.std:
        value = value.astype(np.float32) / _per_channel(words.std, channels, "std")
    return value.transpose(0, 3, 1, 2) if words.layout == "nchw" else value
