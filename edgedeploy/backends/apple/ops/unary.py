"""Functions of one number.

ONNX, "Elementwise operators"; MIL, ``elementwise_unary``. ``log``, ``rsqrt`` and ``inverse`` of MIL
add an epsilon unless told not to.
"""

from __future__ import annotations

from edgedeploy.backends.apple.integers import wrapped
from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import like
from edgedeploy.backends.apple.shapes import alike

_PLAIN = {
    "Abs": "abs",
    "Acos": "acos",
    "Asin": "asin",
    "Atan": "atan",
    "Atanh": "atanh",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Tan": "tan",
}


@op(*_PLAIN)
def plain(node: Node) -> Var:
    """Return what MIL has a function for; ``Round`` takes halves to even numbers in both."""
    made = getattr(mb, _PLAIN[node.op])(x=node.var(0))
    return wrapped(made, node.dtype(0)) if node.op == "Abs" else made


@op("Neg")
def neg(node: Node) -> Var:
    """Return ``-x``."""
    x = node.var(0)
    return wrapped(mb.mul(x=x, y=like(x, -1)), node.dtype(0))


@op("Log")
def log(node: Node) -> Var:
    """Return the natural logarithm."""
    return _log(node.var(0))


@op("Reciprocal")
def reciprocal(node: Node) -> Var:
    """Return ``1 / x``."""
    return _inverse(node.var(0))


@op("Asinh")
def asinh(node: Node) -> Var:
    """Return the inverse of ``sinh``: near zero by ``atanh``, else by logarithms.

    Neither overflows in float16, as the square of the textbook formula does from 256 on.
    """
    x = node.var(0)
    size, one = mb.abs(x=x), like(x, 1)
    inner = mb.minimum(x=size, y=one)
    root = mb.sqrt(x=mb.add(x=mb.square(x=inner), y=one))
    small = mb.atanh(x=mb.real_div(x=inner, y=root))
    outer = mb.maximum(x=size, y=one)
    ratio = mb.sqrt(x=mb.add(x=mb.square(x=_inverse(outer)), y=one))
    large = mb.add(x=_log(outer), y=_log(mb.add(x=ratio, y=one)))
    cond, a, b = alike(mb.less(x=size, y=one), small, large)
    return mb.mul(x=mb.sign(x=x), y=mb.select(cond=cond, a=a, b=b))


@op("Acosh")
def acosh(node: Node) -> Var:
    """Return the inverse of ``cosh``, exact near one and without an overflow in float16."""
    x = node.var(0)
    one = like(x, 1)
    below = mb.real_div(x=mb.sub(x=x, y=one), y=x)
    above = mb.add(x=_inverse(x), y=one)
    root = mb.sqrt(x=mb.mul(x=below, y=above))
    return mb.add(x=_log(x), y=_log(mb.add(x=root, y=one)))


def _log(x: Var) -> Var:
    return mb.log(x=x, epsilon=like(x, 0))


def _inverse(x: Var) -> Var:
    return mb.inverse(x=x, epsilon=like(x, 0))
