"""Reductions, and sums and products along an axis.

ONNX ``Reduce* ArgMax ArgMin CumSum CumProd``; MIL, ``reduction`` and ``cumsum``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedeploy.backends.apple.integers import quotient, wrapped
from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import is_float, like
from edgedeploy.backends.apple.shapes import alike, product, scalar, sizes, vector

_REDUCTIONS = {
    "ReduceL1": "reduce_l1_norm",
    "ReduceL2": "reduce_l2_norm",
    "ReduceLogSum": "reduce_log_sum",
    "ReduceLogSumExp": "reduce_log_sum_exp",
    "ReduceMax": "reduce_max",
    "ReduceMean": "reduce_mean",
    "ReduceMin": "reduce_min",
    "ReduceProd": "reduce_prod",
    "ReduceSum": "reduce_sum",
    "ReduceSumSquare": "reduce_sum_square",
}
_OF_FLOATS = ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp")
_OF_ONE = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
"""Reductions that leave a single element as it is."""


@op(*_REDUCTIONS)
def reduce(node: Node) -> Var:
    """Return a reduction over some axes, by default over all."""
    x, rank = node.var(0), node.rank(0)
    axes = _axes(node, rank)
    if axes is None:
        return x
    if not rank:
        x, axes = mb.expand_dims(x=x, axes=[0]), [0]
    keep_dims = bool(node.attribute("keepdims", 1)) and rank > 0
    if node.dtype(0) == "bool":
        made = getattr(mb, _REDUCTIONS[node.op])(
            x=mb.cast(x=x, dtype="int32"), axes=axes, keep_dims=keep_dims
        )
        return mb.not_equal(x=made, y=np.int32(0))
    if not is_float(x):
        return _of_integers(node, x, axes, keep_dims)
    return getattr(mb, _REDUCTIONS[node.op])(x=x, axes=axes, keep_dims=keep_dims)


def _axes(node: Node, rank: int) -> list[int] | None:
    """Return the axes to reduce; None where nothing is to be done."""
    listed: Any = node.attribute("axes")
    if node.given(1):
        listed = node.need_constant(1, "the list of axes")
    if listed is not None and len(listed):
        return sorted(node.axis(int(axis), rank) for axis in listed)
    if not node.attribute("noop_with_empty_axes", 0):
        return list(range(rank))
    if node.op not in _OF_ONE:
        node.refuse("noop_with_empty_axes, which runtimes read differently here", "list the axes")
    return None


def _of_integers(node: Node, x: Var, axes: list[int], keep_dims: bool) -> Var:
    if node.op in _OF_FLOATS:
        node.refuse("a root or logarithm of integers", "cast to float before it")
    if node.op == "ReduceMean":
        total = mb.reduce_sum(x=x, axes=axes, keep_dims=keep_dims)
        count = scalar(product(sizes(x)[axis] for axis in axes))
        return quotient(total, count, node.dtype(0))
    made = getattr(mb, _REDUCTIONS[node.op])(x=x, axes=axes, keep_dims=keep_dims)
    return wrapped(made, node.dtype(0))


@op("ArgMax", "ArgMin")
def arg_extreme(node: Node) -> Var:
    """Return where the largest or smallest element stands, the first or the last such."""
    x, largest = node.var(0), node.op == "ArgMax"
    axis = node.axis(node.attribute("axis", 0), node.rank(0))
    keep_dims = bool(node.attribute("keepdims", 1))
    if not node.attribute("select_last_index", 0):
        find = mb.reduce_argmax if largest else mb.reduce_argmin
        return find(x=x, axis=axis, keep_dims=keep_dims)
    # the last of equal ones: MIL promises nothing for these, so the places are compared
    extreme = mb.reduce_max if largest else mb.reduce_min
    hit = mb.equal(x=x, y=extreme(x=x, axes=[axis], keep_dims=True))
    count = scalar(sizes(x)[axis])
    places = mb.range_1d(start=np.int32(0), end=count, step=np.int32(1))
    others = [other for other in range(node.rank(0)) if other != axis]
    places = mb.expand_dims(x=places, axes=others) if others else places
    hit, places, none = alike(hit, places, mb.const(val=np.int32(-1)))
    found = mb.select(cond=hit, a=places, b=none)
    return mb.reduce_max(x=found, axes=[axis], keep_dims=keep_dims)


@op("CumSum")
def cum_sum(node: Node) -> Var:
    """Return sums of all elements up to each one along an axis."""
    axis = int(node.need_constant(1, "the axis"))
    return mb.cumsum(
        x=node.var(0),
        axis=node.axis(axis, node.rank(0)),
        exclusive=bool(node.attribute("exclusive", 0)),
        reverse=bool(node.attribute("reverse", 0)),
    )


@op("CumProd")
def cum_prod(node: Node) -> Var:
    """Return products of all elements up to each one along an axis, by doubling the reach."""
    x, rank = node.var(0), node.rank(0)
    axis = node.axis(int(node.need_constant(1, "the axis")), rank)
    size = node.static_shape(0)[axis]
    reverse = bool(node.attribute("reverse", 0))
    if reverse:
        x = mb.reverse(x=x, axes=[axis])
    if node.attribute("exclusive", 0):
        x = _delayed(x, axis, 1)
    reach = 1
    while reach < size:
        x = mb.mul(x=x, y=_delayed(x, axis, reach))
        reach *= 2
    return mb.reverse(x=x, axes=[axis]) if reverse else x


def _delayed(x: Var, axis: int, steps: int) -> Var:
    """Return a tensor moved along an axis, with ones where nothing was."""
    have = sizes(x)
    front = [*have[:axis], steps, *have[axis + 1 :]]
    ones = mb.fill(shape=vector(front), value=like(x, 1))
    end = [0] * len(have)
    end[axis] = have[axis] - steps
    mask = [place != axis for place in range(len(have))]
    rest = mb.slice_by_index(x=x, begin=[0] * len(have), end=end, end_mask=mask)
    return mb.concat(values=[ones, rest], axis=axis)
