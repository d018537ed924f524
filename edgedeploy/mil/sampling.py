"""Where a resized image reads its input: grids of points, and values between pixels.

The grids follow SamplingMode of Core ML's NeuralNetwork.proto and ``resize_bilinear`` of the MIL
operations, for an interval of ``size`` pixels from 0 to ``size - 1``.
"""

from __future__ import annotations

import numpy as np

from edgedeploy.mil.registry import Array

BETWEEN_ENDS = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS")
"""Modes whose points run from end to end: they have a meaning in intervals of any length too."""


def grid(size: float, count: int, mode: str) -> Array:
    """Return the points of a sampling mode, float64.

    Args:
        size: Pixels of the interval.
        count: How many points.
        mode: ``STRICT_ALIGN_CORNERS``, ``ALIGN_CORNERS``, ``DEFAULT``, ``OFFSET_CORNERS`` or
            ``UNALIGN_CORNERS``.

    Raises:
        ValueError: The mode is unknown.
    """
    steps = np.arange(count, dtype=np.float64)
    if mode in BETWEEN_ENDS:
        # The strict mode begins at the first pixel also where there is but one point.
        alone = (size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0
        return steps * (size - 1) / (count - 1) if count > 1 else steps + alone
    if mode == "DEFAULT":
        points = steps * size / count
    elif mode == "OFFSET_CORNERS":
        points = (steps + 0.5) * max(1.0, size - 1) / count
    elif mode == "UNALIGN_CORNERS":
        points = (steps + 0.5) * size / count - 0.5
    else:
        raise ValueError(f"sampling mode {mode!r} is unknown")
    return np.clip(points, 0, size - 1)


def between(x: Array, axis: int, points: Array) -> Array:
    """Return values at points of an axis, linear between pixels.

    Args:
        x: Any shape.
        axis: Which one.
        points: ``[count]``, from 0 to the size of the axis less 1.
    """
    low = np.floor(points).astype(np.int64)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = -1
    share = (points - low).astype(np.float32).reshape(shape)
    first, second = np.take(x, low, axis), np.take(x, high, axis)
    return first * (1 - share) + second * share


def nearest(points: Array) -> Array:
    """Return the pixels nearest to points.

    Raises:
        ValueError: A point lies in the middle of two: which one Core ML takes is not documented.
    """
    pixels = np.rint(points).astype(np.int64)
    if (np.abs(points - pixels) > 0.5 - 1e-6).any():
        raise ValueError("a point lies in the middle of two pixels")
    return pixels
