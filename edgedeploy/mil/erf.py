"""The Gauss error function on arrays: NumPy has none."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

_STEPS = 256
"""Table entries per unit."""

_END = 6.0
"""From here on 1 - erf is below 2.2e-17: nothing next to 1 in float64."""


@functools.cache
def _table() -> np.ndarray[Any, Any]:
    return np.array([math.erf(index / _STEPS) for index in range(int(_END * _STEPS) + 1)])


def erf(x: Any) -> Any:
    """Return erf of every element, in float64.

    A Taylor polynomial of degree 3 around the nearest of 1537 exact values: the distance is at most
    1/512, so that its error stays below 1e-11, far below what float32 can tell.

    Args:
        x: Floats of any shape.
    """
    x = np.asarray(x, np.float64)
    size = np.minimum(np.abs(x), _END)
    known = np.isfinite(size)
    index = np.rint(np.where(known, size, 0) * _STEPS).astype(np.intp)
    node = index / _STEPS
    step = size - node
    slope = 2 / math.sqrt(math.pi) * np.exp(-node * node)
    series = step * (1 - step * node + step * step * (2 * node * node - 1) / 3)
    return np.copysign(_table()[index] + slope * series, x)
