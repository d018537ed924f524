"""Padding of any type, along any axis, in any of ONNX's modes.

MIL's ``pad`` takes floats alone, and repeats or reflects the last two axes alone; the rest is put
together from slices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.scalars import is_float, like
from edgedeploy.backends.apple.shapes import known, sizes, vector


def pad_constant(x: Var, before: Mapping[int, int], after: Mapping[int, int], value: Any) -> Var:
    """Return a tensor with a value around it.

    Args:
        x: Of any type.
        before: How many elements by axis, for every axis.
        after: The same at the end.
        value: What they are.
    """
    rank = len(x.shape)
    if not any(before.values()) and not any(after.values()):
        return x
    if is_float(x):
        amounts = [amount for axis in range(rank) for amount in (before[axis], after[axis])]
        return mb.pad(x=x, pad=amounts, mode="constant", constant_val=like(x, value))
    for axis in range(rank):
        front, back = (_filled(x, axis, pads[axis], value) for pads in (before, after))
        x = mb.concat(values=[*front, x, *back], axis=axis) if front or back else x
    return x


def _filled(x: Var, axis: int, count: int, value: Any) -> list[Var]:
    """Return a tensor to put beside another one, nothing where it would be empty."""
    if not count:
        return []
    have = sizes(x)
    have[axis] = count
    return [mb.fill(shape=vector(have), value=like(x, value))]


def pad_axis(node: Node, x: Var, axis: int, before: int, after: int, mode: str) -> Var:
    """Return a tensor with copies of its own elements at the ends of an axis.

    Args:
        node: For refusals.
        x: Of any type.
        axis: Which axis.
        before: How many elements at the front.
        after: How many at the end.
        mode: ``edge``, ``reflect`` or ``wrap``.
    """
    if not before and not after:
        return x
    size = sizes(x)[axis]
    spare = 1 if mode == "reflect" else 0
    if mode != "edge" and known(size) and max(before, after) > size - spare:
        node.refuse(f"mode {mode} with more pads than the axis has elements", "pad in steps")
    rank = len(x.shape)
    if is_float(x) and mode != "wrap" and axis >= rank - 2:
        amounts = [0, 0] * rank
        amounts[2 * axis : 2 * axis + 2] = [before, after]
        return mb.pad(x=x, pad=amounts, mode="replicate" if mode == "edge" else mode)
    front, back = _ends(x, axis, before, after, mode)
    return mb.concat(values=[*front, x, *back], axis=axis)


def _ends(x: Var, axis: int, before: int, after: int, mode: str) -> tuple[list[Var], list[Var]]:
    """Return what comes before and after a tensor, nothing where nothing does."""
    if mode == "edge":
        return (
            [_repeated(_range(x, axis, 0, 1), axis, before)] if before else [],
            [_repeated(_range(x, axis, -1, None), axis, after)] if after else [],
        )
    if mode == "reflect":
        return (
            [mb.reverse(x=_range(x, axis, 1, before + 1), axes=[axis])] if before else [],
            [mb.reverse(x=_range(x, axis, -after - 1, -1), axes=[axis])] if after else [],
        )
    return (
        [_range(x, axis, -before, None)] if before else [],
        [_range(x, axis, 0, after)] if after else [],
    )


def _repeated(x: Var, axis: int, count: int) -> Var:
    return mb.tile(x=x, reps=[count if place == axis else 1 for place in range(len(x.shape))])


def _range(x: Var, axis: int, start: int, end: int | None) -> Var:
    """Return a slice; negative places count from the end, as in Python."""
    rank = len(x.shape)
    begin, stop = np.zeros(rank, np.int32), np.zeros(rank, np.int32)
    begin[axis], stop[axis] = start, end or 0
    return mb.slice_by_index(
        x=x,
        begin=begin,
        end=stop,
        begin_mask=[place != axis for place in range(rank)],
        end_mask=[place != axis or end is None for place in range(rank)],
    )
