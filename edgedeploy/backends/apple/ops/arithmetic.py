"""Arithmetic with broadcasting.

ONNX, "Elementwise operators"; MIL, ``elementwise_binary``. MIL's ``floor_div`` and ``mod`` round
down, where ONNX's ``Div`` of integers and ``Mod`` with ``fmod=1`` round to zero.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from edgedeploy.backends.apple.integers import quotient, wrapped
from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import is_float, like
from edgedeploy.backends.apple.shapes import alike

_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul"}
_FOLDED = {"Max": "maximum", "Min": "minimum", "Sum": "add", "Mean": "add"}


@op("Add", "Sub", "Mul")
def binary(node: Node) -> Var:
    """Return the sum, difference or product; narrow integers wrap around."""
    made = getattr(mb, _BINARY[node.op])(x=node.var(0), y=node.var(1))
    return wrapped(made, node.dtype(0))


@op("Div")
def div(node: Node) -> Var:
    """Return the quotient; that of integers without its fraction."""
    x, y = node.var(0), node.var(1)
    if is_float(x):
        return mb.real_div(x=x, y=y)
    return wrapped(quotient(x, y, node.dtype(0)), node.dtype(0))


@op("Mod")
def mod(node: Node) -> Var:
    """Return the remainder, with the sign of the divisor or (``fmod=1``) of the dividend."""
    x, y = node.var(0), node.var(1)
    fmod = bool(node.attribute("fmod", 0))
    if node.dtype(0).startswith("uint"):
        return mb.mod(x=x, y=y)
    if fmod:
        # the sign of a zero is not kept
        return mb.mul(x=mb.sign(x=x), y=mb.mod(x=mb.abs(x=x), y=mb.abs(x=y)))
    return _floor_mod(x, y) if is_float(x) else mb.mod(x=x, y=y)


def _floor_mod(x: Var, y: Var) -> Var:
    """Return the remainder of floats with the sign of the divisor, also by an infinite one.

    MIL says ``x - floor(x / y) * y``, which is not a number where ``y`` is infinite.
    """
    plain = mb.mod(x=x, y=y)
    infinite = mb.equal(x=mb.abs(x=y), y=like(y, np.inf))
    apart = mb.less(x=mb.mul(x=mb.sign(x=x), y=mb.sign(x=y)), y=like(x, 0))
    finite = mb.less(x=mb.abs(x=x), y=like(x, np.inf))
    infinite, apart, finite, x, y, plain = alike(infinite, apart, finite, x, y, plain)
    by_infinite = mb.select(cond=apart, a=y, b=x)
    return mb.select(cond=mb.logical_and(x=infinite, y=finite), a=by_infinite, b=plain)


@op("Pow")
def pow_(node: Node) -> Var:
    """Return the power in the type of the base; an integer's by floats without its fraction."""
    x, y = node.var(0), node.var(1)
    if is_float(x):
        return mb.pow(x=x, y=_as(x, y))
    if not is_float(y):
        return wrapped(mb.pow(x=x, y=y), node.dtype(0))
    whole = mb.floor(x=y)
    by_integer = mb.pow(x=x, y=mb.cast(x=whole, dtype="int32"))
    known = node.constant(1)
    if known is not None and bool((np.floor(known) == known).all()):
        return wrapped(by_integer, node.dtype(0))
    by_float = mb.cast(x=mb.pow(x=mb.cast(x=x, dtype="fp32"), y=_fp32(y)), dtype="int32")
    cond, a, b = alike(mb.equal(x=whole, y=y), by_integer, by_float)
    return wrapped(mb.select(cond=cond, a=a, b=b), node.dtype(0))


def _as(x: Var, y: Var) -> Var:
    """Return ``y`` in the dtype of ``x``."""
    if x.dtype == y.dtype:
        return y
    return mb.cast(x=y, dtype="fp16" if like(x, 0).dtype == np.float16 else "fp32")


def _fp32(x: Var) -> Var:
    return x if like(x, 0).dtype == np.float32 else mb.cast(x=x, dtype="fp32")


@op("Max", "Min", "Sum", "Mean")
def folded(node: Node) -> Var:
    """Return the largest, smallest, sum or mean of any number of tensors."""
    combine: Callable[..., Var] = getattr(mb, _FOLDED[node.op])
    values = [node.var(index) for index in range(len(node.inputs))]
    made = functools.reduce(lambda x, y: combine(x=x, y=y), values)
    return mb.real_div(x=made, y=like(made, len(values))) if node.op == "Mean" else made
