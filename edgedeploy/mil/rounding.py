"""Rounding float32 to what float16 can hold, without leaving float32.

NumPy converts to float16 and back one element at a time; programs in float16 spent most of their
time there. Integer arithmetic on the bits does the same several elements at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_BLOCK = 1 << 15
"""Elements at a time: what fits into the nearest cache."""

_FEW = 2048
"""Up to so many elements NumPy's own conversion is faster."""

_LARGEST = np.float32(65504)
_SMALLEST_NORMAL = np.float32(2.0**-14)
_SUBNORMAL_GRID = np.float32(0.75)
"""Its neighbours in float32 are 2**-24 apart, as float16 is below its smallest normal number."""


def to_half(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a float32 array rounded to float16, to the nearest, halves to even.

    Args:
        array: Any shape; what exceeds float16 becomes infinite, NaN stays NaN.
    """
    if array.size <= _FEW:
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(np.float32)
    source = np.ascontiguousarray(array, np.float32).reshape(-1)
    rounded = np.empty_like(source)
    for start in range(0, source.size, _BLOCK):
        _round(source[start : start + _BLOCK], rounded[start : start + _BLOCK])
    return rounded.reshape(array.shape)


def _round(source: np.ndarray[Any, Any], rounded: np.ndarray[Any, Any]) -> None:
    """Round a vector into another: the low 13 of 23 bits of the fraction go."""
    size = np.abs(source)
    plain = (size >= _SMALLEST_NORMAL) & (size <= _LARGEST)
    bits = rounded.view(np.uint32)
    np.right_shift(source.view(np.uint32), 13, out=bits)
    bits &= 1
    bits += source.view(np.uint32)
    bits += 0xFFF
    bits &= 0xFFFFE000
    if plain.all():
        return
    small = np.copysign((size + _SUBNORMAL_GRID) - _SUBNORMAL_GRID, source)
    np.copyto(rounded, small, where=size < _SMALLEST_NORMAL)
    outside = ~(size <= _LARGEST)
    with np.errstate(over="ignore"):
        rounded[outside] = source[outside].astype(np.float16)
