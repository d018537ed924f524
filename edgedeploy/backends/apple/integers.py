"""Integer arithmetic as ONNX has it, in the one integer type that MIL computes in."""

from __future__ import annotations

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb

_WIDEST_WRAPPED = 16
"""Wider integers are held in 32 bits and overflow there."""


def limits(dtype: str) -> tuple[int, int]:
    """Return the lowest and highest value of an ONNX integer type, such as ``uint4``."""
    bits = int(dtype.lstrip("uint"))
    if dtype.startswith("u"):
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def wrapped(x: Var, dtype: str) -> Var:
    """Return what is left of a result in a narrow integer type, which overflows as in C.

    Args:
        x: A result; one in floats stays as it is.
        dtype: The ONNX type that it should have; all but integers of up to 16 bits stay as they
            are.
    """
    if "int" not in dtype or int(dtype.lstrip("uint")) > _WIDEST_WRAPPED:
        return x
    lowest, highest = limits(dtype)
    span, offset = np.int32(highest - lowest + 1), np.int32(-lowest)
    if not offset:
        return mb.mod(x=x, y=span)
    return mb.sub(x=mb.mod(x=mb.add(x=x, y=offset), y=span), y=offset)


def quotient(x: Var, y: Var, dtype: str) -> Var:
    """Return ``x / y`` without its fraction, as ONNX divides; ``floor_div`` rounds down.

    Args:
        x: int32.
        y: int32.
        dtype: The ONNX type of both.
    """
    if dtype.startswith("u"):
        return mb.floor_div(x=x, y=y)
    size = mb.floor_div(x=mb.abs(x=x), y=mb.abs(x=y))
    return mb.mul(x=size, y=mb.mul(x=mb.sign(x=x), y=mb.sign(x=y)))
