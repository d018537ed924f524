"""Shapes and order: the same elements, seen or placed otherwise.

ONNX ``Reshape Flatten Transpose Squeeze Unsqueeze Identity Shape Size DepthToSpace SpaceToDepth``.
"""

from __future__ import annotations

import numpy as np

from edgedeploy.backends.apple.high_rank import lowered_later
from edgedeploy.backends.apple.mil_api import Var, is_symbolic, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import is_float
from edgedeploy.backends.apple.shapes import (
    MAX_RANK,
    Size,
    check_rank,
    elements,
    known,
    product,
    quotient,
    reshape,
    scalar,
    sizes,
    times,
    vector,
)


@op("Reshape")
def reshape_(node: Node) -> Var:
    """Return a tensor in other sizes; zeros and ``-1`` are resolved as far as they can be."""
    x, copy_zeros = node.var(0), not node.attribute("allowzero", 0)
    fixed = node.constant(1)
    wanted: list[Size] = elements(node.var(1)) if fixed is None else [int(size) for size in fixed]
    have: list[Size] | None = None
    inferred = node.outputs[0].shape
    for place, size in enumerate(wanted):
        if known(size) and size == 0:
            if not copy_zeros:
                node.refuse("it makes a tensor without elements", "drop what has no elements")
            have = have or sizes(x)
            wanted[place] = have[place]
        elif not known(size) and inferred is not None:
            found = inferred[place]
            wanted[place] = found if isinstance(found, int) else size
    if len(wanted) > MAX_RANK and lowered_later(node.outputs[0]):
        return mb.reshape(x=x, shape=list(node.outputs[0].shape or ()))
    return reshape(x, wanted)


@op("Flatten")
def flatten(node: Node) -> Var:
    """Return a matrix: the axes before ``axis``, and the others."""
    x, rank = node.var(0), node.rank(0)
    axis = node.attribute("axis", 1)
    axis = axis + rank if axis < 0 else axis
    have = sizes(x)
    return reshape(x, [product(have[:axis]), product(have[axis:])])


@op("Transpose")
def transpose(node: Node) -> Var:
    """Return a tensor with its axes in another order, by default the reverse."""
    x, rank = node.var(0), node.rank(0)
    order = node.attribute("perm") or list(reversed(range(rank)))
    return x if order == list(range(rank)) else mb.transpose(x=x, perm=order)


@op("Squeeze")
def squeeze(node: Node) -> Var:
    """Return a tensor without axes of size one."""
    x, rank = node.var(0), node.rank(0)
    if node.given(1):
        axes = [node.axis(int(axis), rank) for axis in node.need_constant(1, "the list of axes")]
    else:
        axes = [axis for axis, size in enumerate(node.static_shape(0)) if size == 1]
    if not axes:
        return x
    if any(is_symbolic(x.shape[axis]) for axis in axes):
        return reshape(x, [size for axis, size in enumerate(sizes(x)) if axis not in axes])
    return mb.squeeze(x=x, axes=sorted(axes))


@op("Unsqueeze")
def unsqueeze(node: Node) -> Var:
    """Return a tensor with further axes of size one."""
    x, axes = node.var(0), node.need_constant(1, "the list of axes")
    rank = node.rank(0) + len(axes)
    check_rank(rank)
    places = sorted(node.axis(int(axis), rank) for axis in axes)
    return mb.expand_dims(x=x, axes=places) if places else x


@op("Identity")
def identity(node: Node) -> Var:
    """Return what came in."""
    return node.var(0)


@op("Shape")
def shape(node: Node) -> Var:
    """Return the sizes from ``start`` to ``end``."""
    x, rank = node.var(0, raw=True), node.rank(0)
    start, end = (
        min(max(place + rank if place < 0 else place, 0), rank)
        for place in (node.attribute("start", 0), node.attribute("end", rank))
    )
    if start >= end:
        node.refuse("it makes a list of no sizes", "drop what has no elements")
    made = vector(sizes(x)[start:end])
    return mb.const(val=made) if isinstance(made, np.ndarray) else made


@op("Size")
def size(node: Node) -> Var:
    """Return the number of elements."""
    made = scalar(product(sizes(node.var(0, raw=True))))
    return mb.const(val=made) if isinstance(made, np.generic) else made


@op("DepthToSpace")
def depth_to_space(node: Node) -> Var:
    """Move blocks of channels into height and width."""
    x, block = node.var(0), int(node.attribute("blocksize"))
    columns_first = node.attribute("mode", "DCR") == "CRD"
    if is_float(x):
        if columns_first:
            return mb.pixel_shuffle(x=x, upscale_factor=block)
        return mb.depth_to_space(x=x, block_size=block)
    batch, channels, height, width = sizes(x)
    kept = quotient(channels, block * block)
    # in two steps, one per direction: rank 6 is too high for one
    if columns_first:
        x = reshape(x, [times(batch, times(kept, block)), block, height, width])
        x = mb.transpose(x=x, perm=[0, 2, 3, 1])
        x = reshape(x, [times(batch, kept), block, height, times(width, block)])
        x = mb.transpose(x=x, perm=[0, 2, 1, 3])
    else:
        x = reshape(x, [times(batch, block), block, times(kept, height), width])
        x = mb.transpose(x=x, perm=[0, 2, 3, 1])
        x = reshape(x, [batch, block, kept, height, times(width, block)])
        x = mb.transpose(x=x, perm=[0, 2, 3, 1, 4])
    return reshape(x, [batch, kept, times(height, block), times(width, block)])


@op("SpaceToDepth")
def space_to_depth(node: Node) -> Var:
    """Move blocks of height and width into channels."""
    x, block = node.var(0), int(node.attribute("blocksize"))
    columns_first = node.attribute("mode", "DCR") == "CRD"
    if is_float(x):
        if columns_first:
            return mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(block))
        return mb.space_to_depth(x=x, block_size=block)
    batch, channels, height, width = sizes(x)
    rows, columns = quotient(height, block), quotient(width, block)
    if columns_first:
        x = reshape(x, [times(batch, channels), rows, block, width])
        x = mb.transpose(x=x, perm=[0, 2, 1, 3])
        x = reshape(x, [times(times(batch, channels), block), rows, columns, block])
        x = mb.transpose(x=x, perm=[0, 3, 1, 2])
    else:
        x = reshape(x, [batch, channels, rows, block, width])
        x = mb.transpose(x=x, perm=[0, 3, 1, 2, 4])
        x = reshape(x, [times(batch, block), times(channels, rows), columns, block])
        x = mb.transpose(x=x, perm=[0, 3, 1, 2])
    return reshape(x, [batch, times(channels, block * block), rows, columns])
