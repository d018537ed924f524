"""Resizing one axis as a matrix: which elements each new element is made of, and how much of each.

The rules are those of ONNX Resize-19. Coordinates are rounded where ONNX Runtime (1.32, measured)
rounds them, because that decides which of two elements is nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "asymmetric",
    "align_corners",
    "tf_crop_and_resize",
)
"""The values of ``coordinate_transformation_mode``."""

_HALF = 1e-6
"""How far from a half ONNX Runtime still takes one: between 9.5e-7 and 1.01e-6 (measured)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How to resize, as the attributes of Resize say it.

    Attributes:
        mode: ``nearest``, ``linear`` or ``cubic``.
        coordinates: ``coordinate_transformation_mode``.
        rounding: ``nearest_mode``.
        cubic_a: ``cubic_coeff_a``.
        exclude_outside: Whether what lies outside has no weight, instead of the edge's value.
        antialias: Whether shrinking widens the filter.
    """

    mode: str
    coordinates: str
    rounding: str = "round_prefer_floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis to resize.

    Attributes:
        size: Of the input.
        made: Of the output.
        scale: Their ratio as the model gives it; ``made / size`` where it gives sizes.
        crop: Start and end of ``tf_crop_and_resize``, relative to the axis.
    """

    size: int
    made: int
    scale: float
    crop: tuple[float, float] = field(default=(0.0, 1.0))


def coordinates(axis: Axis, mode: str) -> np.ndarray:
    """Return the place in the input of every element of the output: ``[made]``, float32.

    Args:
        axis: The axis.
        mode: One of :data:`COORDINATES`.
    """
    x = np.arange(axis.made, dtype=np.float32)
    scale, half = np.float32(axis.scale), np.float32(0.5)
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and axis.made > 1):
        return (x + half) / scale - half
    if mode == "asymmetric":
        return x / scale
    if mode == "half_pixel_symmetric":
        # What rounding the size down cut off is taken from both ends.
        adjustment = np.float32(axis.made) / (scale * np.float32(axis.size))
        offset = np.float32(axis.size) / 2 * (1 - adjustment)
        exact = float(offset) + (x.astype(np.float64) + 0.5) / float(scale) - 0.5
        return exact.astype(np.float32)
    if mode == "align_corners":
        return x * np.float32(axis.size - 1) / np.float32(max(axis.made - 1, 1))
    if mode == "tf_crop_and_resize":
        start, end = map(np.float32, axis.crop)
        last = np.float32(axis.size - 1)
        if axis.made == 1:
            return half * (start + end) * last + 0 * x
        return start * last + x * ((end - start) * last / np.float32(axis.made - 1))
    return 0 * x  # pytorch_half_pixel of one element


def nearest(axis: Axis, method: Method) -> np.ndarray:
    """Return the index of the element that each new one takes: ``[made]``, int32."""
    x = coordinates(axis, method.coordinates)
    # A half is one up to what its computation lost.
    x = np.where(np.abs(x - np.floor(x) - 0.5) < _HALF, np.floor(x) + 0.5, x)
    places = {
        "round_prefer_floor": np.ceil(x - 0.5),
        "round_prefer_ceil": np.floor(x + 0.5),
        "floor": np.floor(x),
        "ceil": np.ceil(x),
    }[method.rounding]
    return np.asarray(np.clip(places, 0, axis.size - 1), np.int32)


def weights(axis: Axis, method: Method) -> np.ndarray:
    """Return the matrix ``[made, size]``, float64, that resizes an axis linearly or cubically."""
    x = coordinates(axis, method.coordinates).astype(np.float64)
    kernel, radius = _kernel(method)
    shrink = min(axis.scale, 1.0) if method.antialias else 1.0
    reach = math.ceil(radius / shrink)
    places = np.floor(x).astype(int)[:, None] + np.arange(-reach, reach + 2)
    amounts = kernel(np.abs(places - x[:, None]) * shrink)
    if method.exclude_outside:
        amounts = np.where((places >= 0) & (places < axis.size), amounts, 0.0)
    amounts = amounts / amounts.sum(axis=1, keepdims=True)
    matrix = np.zeros((axis.made, axis.size))
    rows = np.broadcast_to(np.arange(axis.made)[:, None], places.shape)
    np.add.at(matrix, (rows, np.clip(places, 0, axis.size - 1)), amounts)
    return matrix


def outside(axis: Axis, method: Method) -> np.ndarray:
    """Return which elements a crop takes from outside of the input: ``[made]``, bool."""
    if method.coordinates != "tf_crop_and_resize":
        return np.zeros(axis.made, bool)
    x = coordinates(axis, method.coordinates)
    return np.asarray((x < 0) | (x > axis.size - 1))


def _kernel(method: Method) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Return the weight by distance, and the distance from where on it is zero."""
    if method.mode == "linear":
        return (lambda d: np.maximum(1 - d, 0)), 1
    a = method.cubic_a

    def cubic(d: np.ndarray) -> np.ndarray:
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = (((d - 5) * d + 8) * d - 4) * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    return cubic, 2
