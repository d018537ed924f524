"""Sizes as values: what is known when the program is built, and what only when it runs.

A tensor with open dims still has known sizes beside them, and MIL wants constants wherever it can
have them (``reshape``, ``tile``). A :data:`Size` is either; the functions here keep it known for as
long as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, any_symbolic, is_symbolic, mb
from edgedeploy.backends.apple.node import Refusal

Size = Any
"""An ``int``, or an int32 vector of one element that is computed at run time."""

MAX_RANK = 5
"""Highest rank of a tensor in an ML Program."""


def known(size: Size) -> bool:
    """Return whether a size is known now."""
    return isinstance(size, int)


def same(first: Size, second: Size) -> bool:
    """Return whether two sizes are certainly equal."""
    if known(first) or known(second):
        return known(first) and known(second) and bool(first == second)
    return first is second or (
        first.sym_val is not None
        and second.sym_val is not None
        and bool(first.sym_val[0] == second.sym_val[0])
    )


def sizes(x: Var) -> list[Size]:
    """Return the sizes of a tensor, one per axis."""
    if not any_symbolic(x.shape):
        return [int(size) for size in x.shape]
    shape = mb.shape(x=x)
    return [
        mb.slice_by_index(x=shape, begin=[axis], end=[axis + 1]) if is_symbolic(size) else int(size)
        for axis, size in enumerate(x.shape)
    ]


def elements(x: Var) -> list[Size]:
    """Return the entries of an int32 vector of known length.

    A vector that was put together from sizes knows those of its entries that are constants, even
    where others are open.
    """
    if len(x.shape) != 1 or is_symbolic(x.shape[0]):
        raise Refusal("a shape of open length", "give the shape a fixed number of entries")
    values = [None] * x.shape[0] if x.sym_val is None else list(np.atleast_1d(x.sym_val))
    return [
        mb.slice_by_index(x=x, begin=[place], end=[place + 1])
        if value is None or is_symbolic(value)
        else int(value)
        for place, value in enumerate(values)
    ]


def vector(entries: Sequence[Size]) -> Any:
    """Return sizes as an int32 vector: an array where all are known, else a MIL value."""
    if all(map(known, entries)):
        return np.array(entries, np.int32)
    parts: list[Any] = []
    for entry in entries:
        if not known(entry):
            parts.append(entry)
        elif parts and isinstance(parts[-1], np.ndarray):
            parts[-1] = np.append(parts[-1], np.int32(entry))
        else:
            parts.append(np.array([entry], np.int32))
    return parts[0] if len(parts) == 1 else mb.concat(values=parts, axis=0)


def scalar(size: Size) -> Any:
    """Return a size as a scalar: a number, or a MIL value of rank 0."""
    return np.int32(size) if known(size) else mb.squeeze(x=size, axes=[0])


def plus(first: Size, second: Size) -> Size:
    """Return the sum of two sizes."""
    if known(first) and known(second):
        return first + second
    if known(second) and second == 0:
        return first
    return mb.add(x=_operand(first), y=_operand(second))


def minus(first: Size, second: Size) -> Size:
    """Return the difference of two sizes."""
    if known(first) and known(second):
        return first - second
    return first if known(second) and second == 0 else mb.sub(x=_operand(first), y=_operand(second))


def times(first: Size, second: Size) -> Size:
    """Return the product of two sizes."""
    if known(first) and known(second):
        return first * second
    for one, other in ((first, second), (second, first)):
        if known(one) and one == 1:
            return other
    return mb.mul(x=_operand(first), y=_operand(second))


def quotient(first: Size, second: Size) -> Size:
    """Return the quotient of two sizes, rounded down."""
    if known(first) and known(second):
        return first // second
    return mb.floor_div(x=_operand(first), y=_operand(second))


def smallest(first: Size, second: Size) -> Size:
    """Return the smaller of two sizes."""
    if known(first) and known(second):
        return min(first, second)
    return mb.minimum(x=_operand(first), y=_operand(second))


def largest(first: Size, second: Size) -> Size:
    """Return the larger of two sizes."""
    if known(first) and known(second):
        return max(first, second)
    return mb.maximum(x=_operand(first), y=_operand(second))


def product(factors: Iterable[Size]) -> Size:
    """Return the product of sizes."""
    found: Size = 1
    for factor in factors:
        found = times(found, factor)
    return found


def _operand(size: Size) -> Any:
    return np.array([size], np.int32) if known(size) else size


def check_rank(rank: int) -> None:
    """Refuse a rank that no tensor of an ML Program can have."""
    if rank > MAX_RANK:
        raise Refusal(
            f"it needs a tensor of rank {rank}; Core ML has at most {MAX_RANK}",
            "merge or drop axes in the model",
        )


def reshape(x: Var, wanted: Sequence[Size]) -> Var:
    """Return a tensor in other sizes.

    A zero never reaches MIL: coremltools' ``merge_consecutive_reshapes`` keeps the zero of the
    second of two reshapes, where it then refers to the axis of another tensor.

    Args:
        x: The tensor.
        wanted: One size per axis; at most one ``-1`` for what is left.

    Raises:
        Refusal: The rank is too high.
    """
    check_rank(len(wanted))
    have = list(x.shape)
    if not wanted:
        return mb.squeeze(x=x, axes=list(range(len(have)))) if have else x
    left = [place for place, size in enumerate(wanted) if not known(size) or size == -1]
    target = list(wanted)
    if len(left) == 1:
        target[left[0]] = -1
        rest = math.prod(size for place, size in enumerate(target) if place != left[0])
        if not any_symbolic(have) and rest:
            target[left[0]] = math.prod(map(int, have)) // rest
    if target == have:
        return x
    if not have:
        return mb.expand_dims(x=x, axes=list(range(len(target))))
    return mb.reshape(x=x, shape=vector(target))


def common(shapes: Sequence[Sequence[Size]]) -> list[Size]:
    """Return the sizes that shapes broadcast to."""
    rank = max(map(len, shapes))
    found: list[Size] = []
    for place in range(-rank, 0):
        here = [shape[place] for shape in shapes if len(shape) >= -place]
        fixed = [size for size in here if known(size) and size != 1]
        open_ones: list[Size] = []
        for size in here:
            if not known(size) and not any(same(size, other) for other in open_ones):
                open_ones.append(size)
        if fixed or not open_ones:
            found.append(fixed[0] if fixed else 1)
            continue
        size = open_ones[0]
        for other in open_ones[1:]:
            size = largest(size, other)
        found.append(size)
    return found


def expand(x: Var, wanted: Sequence[Size]) -> Var:
    """Return a tensor broadcast to sizes that its own broadcast to.

    It is repeated with ``tile``, which keeps every type and every value, unlike arithmetic.

    Raises:
        Refusal: The rank is too high.
    """
    check_rank(len(wanted))
    missing = len(wanted) - len(x.shape)
    if missing:
        if x.shape:
            x = mb.expand_dims(x=x, axes=list(range(missing)))
        else:
            x = mb.expand_dims(x=x, axes=list(range(len(wanted))))
    reps = [
        1
        if same(have, want) or (known(have) and have != 1)
        else quotient(want, have)
        if not known(have)
        else want
        for have, want in zip(sizes(x), wanted, strict=True)
    ]
    return x if all(known(rep) and rep == 1 for rep in reps) else mb.tile(x=x, reps=vector(reps))


def alike(*values: Var) -> list[Var]:
    """Return tensors broadcast to one shape, for ``select``: hardware wants equal shapes there."""
    if len({tuple(value.shape) for value in values}) == 1:
        return list(values)
    shapes = [sizes(value) for value in values]
    wanted = common(shapes)
    return [expand(value, wanted) for value in values]
