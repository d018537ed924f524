"""Comparison, logic and choice.

ONNX, "Logical operators" and ``Where``; MIL compares no booleans and selects among equal shapes.
"""

from __future__ import annotations

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import is_float, like
from edgedeploy.backends.apple.shapes import alike

_BINARY = {
    "And": "logical_and",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Or": "logical_or",
    "Xor": "logical_xor",
}


@op(*_BINARY)
def binary(node: Node) -> Var:
    """Return a comparison or a logical function of two tensors, broadcast."""
    return getattr(mb, _BINARY[node.op])(x=node.var(0), y=node.var(1))


@op("Equal")
def equal(node: Node) -> Var:
    """Return where two tensors are equal."""
    x, y = node.var(0), node.var(1)
    if node.dtype(0) == "bool":
        return mb.logical_not(x=mb.logical_xor(x=x, y=y))
    return mb.equal(x=x, y=y)


@op("Not")
def not_(node: Node) -> Var:
    """Return the negation."""
    return mb.logical_not(x=node.var(0))


@op("IsNaN")
def is_nan(node: Node) -> Var:
    """Return where there is no number: nothing else differs from itself."""
    x = node.var(0)
    return mb.not_equal(x=x, y=x)


@op("IsInf")
def is_inf(node: Node) -> Var:
    """Return where there is an infinity of the wanted signs."""
    x = node.var(0)
    negative = bool(node.attribute("detect_negative", 1))
    positive = bool(node.attribute("detect_positive", 1))
    if negative and positive:
        return mb.equal(x=mb.abs(x=x), y=like(x, np.inf))
    if negative or positive:
        return mb.equal(x=x, y=like(x, np.inf if positive else -np.inf))
    return mb.logical_and(x=mb.equal(x=x, y=x), y=np.bool_(False))


@op("Where")
def where(node: Node) -> Var:
    """Return elements of one tensor or the other; all three are broadcast before."""
    cond, a, b = alike(node.var(0), node.var(1), node.var(2))
    if is_float(a) and a.dtype != b.dtype:
        node.refuse("its choices differ in type", "cast one of them in the model")
    return mb.select(cond=cond, a=a, b=b)
