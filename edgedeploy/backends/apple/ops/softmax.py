"""Softmax and its kin, over one axis (opset 13 on; the normal form has no older one)."""

from __future__ import annotations

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import like


@op("Softmax")
def softmax(node: Node) -> Var:
    """Return ``exp(x) / sum(exp(x))`` over an axis."""
    return mb.softmax(x=node.var(0), axis=_axis(node))


@op("LogSoftmax")
def log_softmax(node: Node) -> Var:
    """Return ``x - log(sum(exp(x)))`` over an axis, shifted by the maximum.

    The logarithm of MIL's ``softmax`` would be minus infinity where that rounds to zero.
    """
    x, axes = node.var(0), [_axis(node)]
    shifted = mb.sub(x=x, y=mb.reduce_max(x=x, axes=axes, keep_dims=True))
    total = mb.reduce_sum(x=mb.exp(x=shifted), axes=axes, keep_dims=True)
    return mb.sub(x=shifted, y=mb.log(x=total, epsilon=like(x, 0.0)))


@op("Hardmax")
def hardmax(node: Node) -> Var:
    """Return 1 for the first maximum along an axis, else 0.

    MIL does not say which of equal maxima ``reduce_argmax`` finds, so the lowest place is sought.
    """
    x, axis = node.var(0), _axis(node)
    size = node.shape(0)[axis]
    if not isinstance(size, (int, np.integer)):
        node.refuse("an open size along its axis", "bind the model's dims")
    places = np.arange(size, dtype=np.int32).reshape([-1] + [1] * (x.rank - axis - 1))
    highest = mb.equal(x=x, y=mb.reduce_max(x=x, axes=[axis], keep_dims=True))
    # The place of every maximum, and past the end for all others.
    others = mb.mul(x=mb.cast(x=mb.logical_not(x=highest), dtype="int32"), y=np.int32(size))
    first = mb.reduce_min(x=mb.add(x=others, y=places), axes=[axis], keep_dims=True)
    kind = "fp16" if node.dtype(0) == "float16" else "fp32"
    return mb.cast(x=mb.equal(x=first, y=mb.add(x=others, y=places)), dtype=kind)


def _axis(node: Node) -> int:
    return node.axis(node.attribute("axis", -1), node.rank(0))
