"""Indices as Core ML takes them: counted from the front, into numbers."""

from __future__ import annotations

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, is_symbolic, mb, types


def size_of(x: Var, axis: int) -> int | Var:
    """Return the size of an axis: a number where it is fixed, else a scalar made at run time."""
    size = x.shape[axis]
    if not is_symbolic(size):
        return int(size)
    return mb.gather(x=mb.shape(x=x), indices=np.int32(axis % x.rank), axis=0)


def sizes_of(x: Var, axes: range) -> np.ndarray | Var:
    """Return the sizes of adjacent axes as a vector: an array where all are fixed."""
    sizes = [x.shape[axis] for axis in axes]
    if not any(is_symbolic(size) for size in sizes):
        return np.array(sizes, np.int32)
    return mb.slice_by_index(x=mb.shape(x=x), begin=[axes.start], end=[axes.stop])


def non_negative(indices: Var, size: int | np.ndarray | Var) -> Var:
    """Return indices counted from the front.

    From iOS 17 on Core ML takes no others, and does not say so when it meets one.

    Args:
        indices: int32, each ``-size <= index < size``.
        size: Size of the axis, or one per entry of the last axis of ``indices``.
    """
    known = indices.val
    fixed = isinstance(size, (int, np.ndarray))
    if known is not None and (fixed or np.all(known >= 0)):
        wrapped = known + size if fixed else known
        return mb.const(val=np.where(known < 0, wrapped, known).astype(np.int32))
    size = np.int32(size) if isinstance(size, int) else size
    return mb.select(cond=mb.less(x=indices, y=0), a=mb.add(x=indices, y=size), b=indices)


def held_as_number(x: Var) -> Var:
    """Return a value that Core ML can move about: booleans become 0 and 1."""
    return mb.cast(x=x, dtype="int32") if x.dtype == types.bool else x


def held_as_before(x: Var, before: Var) -> Var:
    """Return what was moved about in the type that it came in."""
    return mb.cast(x=x, dtype="bool") if before.dtype == types.bool else x
