"""How ONNX types are held in a MIL program, whose arithmetic knows few of them."""

from __future__ import annotations

import numpy as np

INT32 = np.iinfo(np.int32)


def held_as(dtype: str) -> str | None:
    """Return the MIL dtype that holds values of an ONNX dtype; None where there is none.

    Args:
        dtype: NumPy name, such as ``int64``.

    64-bit integers are held in 32 bits, for MIL computes in no wider ones; float64 as float32.
    """
    if dtype in ("float16", "float32", "bool"):
        return dtype
    if dtype == "float64":
        return "float32"
    if dtype.startswith(("int", "uint")) and dtype.lstrip("uint").isdigit():
        return "int32"
    return None


def constant(value: np.ndarray) -> np.ndarray:
    """Return a constant in the type that holds it; integers beyond 32 bits become the limits.

    Exporters write ``INT64_MAX`` for "to the end", which must not wrap to -1.
    """
    name = held_as(value.dtype.name)
    if name is None:
        raise TypeError(f"a constant of type {value.dtype.name}")
    if name == "int32" and value.dtype != np.int32:
        value = np.clip(value, INT32.min, INT32.max)
    return value.astype(name)
