"""Parts of tensors, and tensors put together.

ONNX ``Concat Split Slice Pad Expand Tile CenterCropPad``; MIL, ``tensor_operation`` and
``tensor_transformation``. No tensor of an ML Program is empty.
"""

from __future__ import annotations

import numpy as np

from edgedeploy.backends.apple.dtypes import INT32
from edgedeploy.backends.apple.mil_api import Var, is_symbolic, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.padding import pad_axis, pad_constant
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.shapes import (
    Size,
    common,
    elements,
    expand,
    known,
    largest,
    minus,
    plus,
    same,
    sizes,
    smallest,
    times,
    vector,
)


@op("Concat")
def concat(node: Node) -> Var:
    """Return tensors one after the other along an axis; those without elements add nothing."""
    axis = node.axis(node.attribute("axis"), node.rank(0))
    parts = [node.var(index) for index in range(len(node.inputs)) if 0 not in node.shape(index)]
    if not parts:
        node.refuse("it makes a tensor without elements", "drop what has no elements")
    return parts[0] if len(parts) == 1 else mb.concat(values=parts, axis=axis)


@op("Split")
def split(node: Node) -> list[Var]:
    """Return parts of a tensor along an axis."""
    x, count = node.var(0), len(node.outputs)
    axis = node.axis(node.attribute("axis", 0), node.rank(0))
    have = x.shape[axis]
    if node.given(1):
        parts = [int(size) for size in node.need_constant(1, "the list of sizes")]
    elif is_symbolic(have):
        node.refuse("equal parts of an axis of open size", "bind the model's dims")
    else:
        each = -(-int(have) // count)
        parts = [each] * (count - 1) + [int(have) - each * (count - 1)]
    if min(parts) < 1:
        node.refuse("one of its parts has no elements", "drop what has no elements")
    if count == 1:
        return [x]
    if not is_symbolic(have):
        return list(mb.split(x=x, split_sizes=parts, axis=axis))
    # MIL wants the sizes to add up to that of the axis, which is not known
    ends = np.cumsum(parts).tolist()
    return [_cut(x, axis, end - size, end) for size, end in zip(parts, ends, strict=True)]


def _cut(x: Var, axis: int, start: Size, end: Size | None, stride: int = 1) -> Var:
    """Return the part of a tensor between two places of an axis, counted from the front.

    Args:
        x: The tensor.
        axis: Which axis.
        start: First place.
        end: First place behind; None for the rest.
        stride: Distance of what is taken, at least 1.
    """
    rank = len(x.shape)
    begin: list[Size] = [0] * rank
    stop: list[Size] = [0] * rank
    begin[axis], stop[axis] = start, 0 if end is None else end
    mask = [place != axis or end is None for place in range(rank)]
    return mb.slice_by_index(
        x=x,
        begin=vector(begin),
        end=vector(stop),
        begin_mask=[place != axis for place in range(rank)],
        end_mask=mask,
        stride=[stride if place == axis else 1 for place in range(rank)],
    )


@op("Slice")
def slice_(node: Node) -> Var:
    """Return every n-th element between two places of some axes, backwards where n is negative."""
    x, rank = node.var(0), node.rank(0)
    starts, ends = _places(node, 1), _places(node, 2)
    axes = list(range(len(starts)))
    if node.given(3):
        axes = [node.axis(int(axis), rank) for axis in node.need_constant(3, "the list of axes")]
    steps = [1] * len(axes)
    if node.given(4):
        steps = [int(step) for step in node.need_constant(4, "the list of steps")]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        x = _sliced(node, x, start, end, axis, step)
    return x


def _places(node: Node, index: int) -> list[Size]:
    fixed = node.constant(index)
    return elements(node.var(index)) if fixed is None else [int(place) for place in fixed]


def _sliced(node: Node, x: Var, start: Size, end: Size, axis: int, step: int) -> Var:
    """Return a tensor sliced along one axis."""
    size = sizes(x)[axis]
    low, high = (0, size) if step > 0 else (-1, minus(size, 1))
    start = _clamped(_from_front(start, size), low, high)
    end = _clamped(_from_front(end, size), low, high)
    if step < 0:
        last = minus(size, 1)
        x, start, end = mb.reverse(x=x, axes=[axis]), minus(last, start), minus(last, end)
    if known(start) and known(end) and end <= start:
        node.refuse("it makes a tensor without elements", "drop what has no elements")
    if same(start, 0) and same(end, size) and abs(step) == 1:
        return x
    return _cut(x, axis, start, None if same(end, size) else end, abs(step))


def _from_front(place: Size, size: Size) -> Size:
    """Return a place counted from the front; negative ones count from the end."""
    if known(place):
        return plus(size, place) if place < 0 and place > INT32.min else place
    negative = mb.cast(x=mb.less(x=place, y=np.int32(0)), dtype="int32")
    return plus(place, times(size, negative))


def _clamped(place: Size, low: int, high: Size) -> Size:
    """Return the nearest place that exists; ``high`` itself where it is certainly that."""
    if known(place):
        if place <= low:
            return low
        if place >= INT32.max or (known(high) and place >= high):
            return high
    return place if same(place, high) else smallest(largest(place, low), high)


@op("Expand")
def expand_(node: Node) -> Var:
    """Return a tensor broadcast against a shape."""
    x = node.var(0)
    fixed = node.constant(1)
    wanted = elements(node.var(1)) if fixed is None else [int(size) for size in fixed]
    if any(known(size) and size < 1 for size in wanted):
        node.refuse("its shape has sizes below one", "give it real sizes")
    return expand(x, common([sizes(x), wanted]))


@op("Tile")
def tile(node: Node) -> Var:
    """Return a tensor repeated along its axes."""
    x, fixed = node.var(0), node.constant(1)
    reps = elements(node.var(1)) if fixed is None else [int(rep) for rep in fixed]
    if any(known(rep) and rep < 1 for rep in reps):
        node.refuse("it makes a tensor without elements", "drop what has no elements")
    return x if all(known(rep) and rep == 1 for rep in reps) else mb.tile(x=x, reps=vector(reps))


@op("Pad")
def pad(node: Node) -> Var:
    """Return a tensor with more elements at its ends, or fewer where a pad is negative."""
    x, mode, rank = node.var(0), node.attribute("mode", "constant"), node.rank(0)
    pads = [int(amount) for amount in node.need_constant(1, "the list of pads")]
    axes = list(range(rank))
    if node.given(3):
        axes = [node.axis(int(axis), rank) for axis in node.need_constant(3, "the list of axes")]
    before = dict(zip(axes, pads[: len(axes)], strict=True))
    after = dict(zip(axes, pads[len(axes) :], strict=True))
    for axis in axes:
        x = _cropped(node, x, axis, -min(before[axis], 0), -min(after[axis], 0))
    before = {axis: max(before.get(axis, 0), 0) for axis in range(rank)}
    after = {axis: max(after.get(axis, 0), 0) for axis in range(rank)}
    if mode == "constant":
        value = node.need_constant(2, "the value of a pad") if node.given(2) else np.zeros(1)
        return pad_constant(x, before, after, value.reshape(-1)[0])
    for axis in axes:
        x = pad_axis(node, x, axis, before[axis], after[axis], mode)
    return x


def _cropped(node: Node, x: Var, axis: int, front: int, back: int) -> Var:
    """Return a tensor without some elements at the ends of an axis."""
    if not front and not back:
        return x
    size = sizes(x)[axis]
    if known(size) and front + back >= size:
        node.refuse("it makes a tensor without elements", "drop what has no elements")
    return _cut(x, axis, front, minus(size, back) if back else None)


@op("CenterCropPad")
def center_crop_pad(node: Node) -> Var:
    """Return the middle of a tensor, with zeros around it where it is too small."""
    x, rank = node.var(0), node.rank(0)
    have = node.static_shape(0)
    listed = node.attribute("axes")
    axes = [node.axis(axis, rank) for axis in listed] if listed else list(range(rank))
    wanted = node.need_constant(1, "the shape")
    before, after = dict.fromkeys(range(rank), 0), dict.fromkeys(range(rank), 0)
    for axis, size in zip(axes, map(int, wanted), strict=True):
        spare = have[axis] - size
        if spare > 0:
            x = _cut(x, axis, spare // 2, spare // 2 + size)
        elif spare < 0:
            before[axis], after[axis] = -spare // 2, -spare - (-spare // 2)
    return pad_constant(x, before, after, 0)
