"""How ONNX types are held in a MIL program, whose arithmetic knows few of them."""

from __future__ import annotations

import numpy as np

INT32 = np.iinfo(np.int32)

_ENDS = 2**62


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


def lost(value: np.ndarray) -> str:
    """Return what of a constant the type that holds it cannot say; empty where nothing is lost.

    The ends of 64-bit integers (beyond 2^62) mean "the largest there is", and may become those of
    32 bits.
    """
    held = held_as(value.dtype.name)
    if held is None:
        return f"the type {value.dtype.name}, which Core ML lacks"
    if held == "int32" and value.size:
        beyond = value[(value > INT32.max) | (value < INT32.min)]
        beyond = beyond[(beyond < _ENDS) & (beyond > -_ENDS)]
        if beyond.size:
            return f"the value {beyond.flat[0]}, and Core ML has integers of 32 bits"
    if value.dtype == np.float64:
        with np.errstate(over="ignore", under="ignore"):
            narrow = value.astype(np.float32)
        gone = value[np.isfinite(value) & (~np.isfinite(narrow) | ((narrow == 0) & (value != 0)))]
        if gone.size:
            return f"the value {gone.flat[0]:g}, and Core ML has no wider floats than float32"
    return ""


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
