"""Resizing 8-bit images: one algorithm in whole numbers, the same in every generated app.

Every mode is separable. Along one axis, output pixel ``i`` of ``m`` is a weighted sum of input
pixels of ``n``; the weights are integers with a common denominator, pixel centres lie at half
positions (``centre = (i + 1/2) * n / m - 1/2``), there is no antialiasing filter, and pixels beyond
the border repeat the border. Both axes are summed exactly and the result is rounded once, half up,
and held to 0..255. As nothing is rounded in between and no floating point takes part, any
implementation in any language gives the same bytes (``tests/unit/data/resize_vectors.json``).

* ``nearest``: pixel ``floor((i + 1/2) * n / m)``, denominator 1.
* ``bilinear``: two pixels by distance from the centre, denominator ``2 m``.
* ``bicubic``: Keys' cubic convolution (IEEE Trans. ASSP 29-6, 1981) with a = -3/4 over four
  pixels; weights rounded half up to multiples of 2**-14, the rest goes to the pixel nearest to the
  centre so that they sum to one.
* ``area``: mean over the stretch of input that the output pixel covers, denominator ``n``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

Resample = Literal["bilinear", "nearest", "bicubic", "area"]
CUBIC_DENOMINATOR = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxisWeights:
    """Weights along one axis: ``out[i] = sum_k weight[i, k] * in[index[i, k]] / denominator``.

    Attributes:
        index: Input positions, int64 ``[m, taps]``.
        weight: Integer weights, int64 ``[m, taps]``; each row sums to ``denominator``.
    """

    index: np.ndarray
    weight: np.ndarray
    denominator: int


def _nearest(n: int, m: int) -> AxisWeights:
    i = np.arange(m, dtype=np.int64)[:, None]
    return AxisWeights(
        index=(2 * i + 1) * n // (2 * m), weight=np.ones((m, 1), np.int64), denominator=1
    )


def _bilinear(n: int, m: int) -> AxisWeights:
    i = np.arange(m, dtype=np.int64)
    numerator = (2 * i + 1) * n - m  # centre = numerator / (2 m)
    left, rest = np.divmod(numerator, 2 * m)
    return AxisWeights(
        index=np.clip(np.stack([left, left + 1], axis=1), 0, n - 1),
        weight=np.stack([2 * m - rest, rest], axis=1),
        denominator=2 * m,
    )


def _cubic_weight(distance: int, unit: int) -> int:
    """Return Keys' kernel (a = -3/4) at ``distance / unit`` in 2**-14ths, rounded half up."""
    d, u = abs(distance), unit
    if d <= u:  # (a + 2) d^3 - (a + 3) d^2 + 1, times 4 u^3
        numerator = 5 * d**3 - 9 * d**2 * u + 4 * u**3
    elif d < 2 * u:  # a d^3 - 5 a d^2 + 8 a d - 4 a, times 4 u^3
        numerator = -3 * d**3 + 15 * d**2 * u - 24 * d * u**2 + 12 * u**3
    else:
        numerator = 0
    return (numerator * CUBIC_DENOMINATOR * 2 + 4 * u**3) // (8 * u**3)


def _bicubic(n: int, m: int) -> AxisWeights:
    unit = 2 * m
    index = np.empty((m, 4), np.int64)
    weight = np.empty((m, 4), np.int64)
    for i in range(m):
        left, rest = divmod((2 * i + 1) * n - m, unit)
        taps = [_cubic_weight(rest - offset * unit, unit) for offset in (-1, 0, 1, 2)]
        taps[1 if 2 * rest < unit else 2] += CUBIC_DENOMINATOR - sum(taps)
        weight[i] = taps
        index[i] = [min(max(left + offset, 0), n - 1) for offset in (-1, 0, 1, 2)]
    return AxisWeights(index=index, weight=weight, denominator=CUBIC_DENOMINATOR)


def _area(n: int, m: int) -> AxisWeights:
    i = np.arange(m, dtype=np.int64)[:, None]
    first = i * n // m
    taps = int(np.max(((i + 1) * n + m - 1) // m - first))
    index = first + np.arange(taps, dtype=np.int64)[None, :]
    # In units of 1/m of an input pixel, output i covers [i n, (i + 1) n).
    overlap = np.minimum((index + 1) * m, (i + 1) * n) - np.maximum(index * m, i * n)
    return AxisWeights(index=np.minimum(index, n - 1), weight=np.maximum(overlap, 0), denominator=n)


_MODES = {"nearest": _nearest, "bilinear": _bilinear, "bicubic": _bicubic, "area": _area}


@lru_cache(maxsize=64)
def axis_weights(n: int, m: int, resample: Resample) -> AxisWeights:
    """Return the weights that turn ``n`` pixels into ``m``."""
    return _MODES[resample](n, m)


def _along_rows(image: np.ndarray, weights: AxisWeights) -> np.ndarray:
    """Return the weighted sums over axis 0, int64, not yet divided."""
    total = np.zeros((len(weights.index), *image.shape[1:]), np.int64)
    shape = (-1,) + (1,) * (image.ndim - 1)
    for tap in range(weights.index.shape[1]):
        total += image[weights.index[:, tap]] * weights.weight[:, tap].reshape(shape)
    return total


def resize(image: np.ndarray, height: int, width: int, resample: Resample) -> np.ndarray:
    """Return ``image`` at another size.

    Args:
        image: uint8 ``[h, w, channels]``.
        height: Rows of the result, at least 1.
        width: Columns of the result, at least 1.
        resample: See the module's text.

    Returns:
        uint8 ``[height, width, channels]``.
    """
    if image.shape[:2] == (height, width):
        return image
    rows = axis_weights(image.shape[0], height, resample)
    columns = axis_weights(image.shape[1], width, resample)
    total = _along_rows(image.astype(np.int64), rows)
    total = _along_rows(total.swapaxes(0, 1), columns).swapaxes(0, 1)
    denominator = rows.denominator * columns.denominator
    rounded = (2 * total + denominator) // (2 * denominator)
    return np.ascontiguousarray(np.clip(rounded, 0, 255).astype(np.uint8))
