"""Operations that work on each element by itself."""

from __future__ import annotations

import numpy as np

from edgedeploy.mil.registry import Array, op


@op("add")
def add(x: Array, y: Array) -> Array:
    """Return ``x + y``, broadcast."""
    return x + y


@op("relu")
def relu(x: Array) -> Array:
    """Return ``max(x, 0)``."""
    return np.maximum(x, 0)


@op("cast", call=True)
def cast(call: object, x: Array, dtype: str) -> Array:
    """Return ``x`` in another type; floats are truncated to integers, and nonzero is True."""
    if dtype == "bool":
        return x != 0
    if dtype.startswith(("int", "uint")) and x.dtype.kind == "f":
        return np.trunc(x)
    return x


@op("identity")
def identity(x: Array) -> Array:
    """Return ``x``."""
    return x
