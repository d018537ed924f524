"""Tensors from nothing, or from the shape of others.

ONNX ``Constant ConstantOfShape EyeLike NonZero OneHot Range Trilu``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedeploy.backends.apple import dtypes
from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import is_float, like
from edgedeploy.backends.apple.shapes import (
    Size,
    alike,
    check_rank,
    elements,
    known,
    scalar,
    sizes,
    vector,
)


@op("Constant")
def constant(node: Node) -> Var:
    """Return the node's tensor; only one that is an output of the model is still a node."""
    value = node.attribute("value")
    if value is None:
        node.refuse("it holds no tensor", "write its value as a tensor")
    return mb.const(val=dtypes.constant(np.asarray(value)))


@op("ConstantOfShape")
def constant_of_shape(node: Node) -> Var:
    """Return a tensor of one value, by default a float zero."""
    value = dtypes.constant(np.asarray(node.attribute("value", np.zeros(1, np.float32))))
    fixed = node.constant(0)
    wanted = elements(node.var(0)) if fixed is None else [int(size) for size in fixed]
    check_rank(len(wanted))
    if any(known(size) and size == 0 for size in wanted):
        node.refuse("it makes a tensor without elements", "drop what has no elements")
    if all(map(known, wanted)):
        return mb.const(val=np.full(wanted, value.reshape(())))
    return mb.fill(shape=vector(wanted), value=value.reshape(())[()])


@op("Range")
def range_(node: Node) -> Var:
    """Return numbers at equal distances."""
    known_now = [node.constant(index) for index in range(3)]
    if all(value is not None for value in known_now):
        made = np.arange(*(np.asarray(value).item() for value in known_now))
        return mb.const(val=dtypes.constant(made.astype(node.dtype(0))))
    start, end, step = (_as_scalar(node.var(index)) for index in range(3))
    return mb.range_1d(start=start, end=end, step=step)


def _as_scalar(x: Var) -> Var:
    return mb.squeeze(x=x, axes=[0]) if x.shape else x


@op("EyeLike")
def eye_like(node: Node) -> Var:
    """Return ones on a diagonal."""
    x, offset = node.var(0), int(node.attribute("k", 0))
    wanted = dtypes.held_as(node.made_dtype())
    if wanted is None:
        node.refuse(f"type {node.made_dtype()}", "make it a matrix of floats")
    rows, columns = sizes(x)
    if known(rows) and known(columns):
        return mb.const(val=np.eye(rows, columns, offset, dtype=wanted))
    diagonal = mb.equal(x=_offsets(rows, columns), y=np.int32(offset))
    if wanted == "bool":
        return diagonal
    return mb.cast(x=diagonal, dtype=wanted.replace("float", "fp"))


def _offsets(rows: Size, columns: Size) -> Any:
    """Return the column minus the row of every element of a matrix, in int32."""
    if known(rows) and known(columns):
        return np.arange(columns, dtype=np.int32)[None] - np.arange(rows, dtype=np.int32)[:, None]
    down = mb.expand_dims(x=_counted(rows), axes=[1])
    return mb.sub(x=mb.expand_dims(x=_counted(columns), axes=[0]), y=down)


def _counted(size: Size) -> Var:
    return mb.range_1d(start=np.int32(0), end=scalar(size), step=np.int32(1))


@op("Trilu")
def trilu(node: Node) -> Var:
    """Return the upper or lower triangle, and zeros elsewhere."""
    x, upper = node.var(0), bool(node.attribute("upper", 1))
    k = int(node.need_constant(1, "the diagonal")) if node.given(1) else 0
    if upper and k <= 0:
        return mb.band_part(x=x, lower=-k, upper=-1)
    if not upper and k >= 0:
        return mb.band_part(x=x, lower=-1, upper=k)
    # what band_part cannot say: the triangle does not reach the main diagonal
    rows, columns = sizes(x)[-2:]
    offsets = mb.add(x=_offsets(rows, columns), y=np.int32(0))
    if upper:
        inside = mb.greater_equal(x=offsets, y=np.int32(k))
    else:
        inside = mb.less_equal(x=offsets, y=np.int32(k))
    inside, x, zero = alike(inside, x, mb.const(val=like(x, 0)))
    return mb.select(cond=inside, a=x, b=zero)


@op("OneHot")
def one_hot(node: Node) -> Var:
    """Return ``on`` where a new axis counts to the index, and ``off`` elsewhere.

    MIL's own ``one_hot`` knows neither negative indices nor what to do beyond the depth.
    """
    depth = int(node.need_constant(1, "the depth").reshape(-1)[0])
    indices = node.var(0)
    if is_float(indices):
        indices = mb.cast(x=indices, dtype="int32")
    rank = node.rank(0) + 1
    check_rank(rank)
    axis = node.axis(node.attribute("axis", -1), rank)
    negative = mb.cast(x=mb.less(x=indices, y=np.int32(0)), dtype="int32")
    indices = mb.add(x=indices, y=mb.mul(x=negative, y=np.int32(depth)))
    counter = np.arange(depth, dtype=np.int32).reshape([-1] + [1] * (rank - 1 - axis))
    hit = mb.equal(x=mb.expand_dims(x=indices, axes=[axis]), y=counter)
    off, on = _parts(node.var(2))
    hit, on, off = alike(hit, on, off)
    return mb.select(cond=hit, a=on, b=off)


def _parts(pair: Var) -> tuple[Var, Var]:
    """Return the two elements of a vector as scalars."""
    if pair.val is not None:
        return mb.const(val=pair.val[0]), mb.const(val=pair.val[1])
    first, second = mb.split(x=pair, num_splits=2, axis=0)
    return mb.squeeze(x=first, axes=[0]), mb.squeeze(x=second, axes=[0])


@op("NonZero")
def non_zero(node: Node) -> Var:
    """Return the places of what is not zero, one column per element."""
    x = node.var(0)
    if not x.shape:
        node.refuse("a scalar", "give it an axis")
    return mb.transpose(x=mb.non_zero(x=x), perm=[1, 0])
