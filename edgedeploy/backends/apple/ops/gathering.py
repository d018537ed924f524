"""Taking and putting elements by their indices.

coremltools writes ``validate_indices`` only where it is given, and the compiler of Core ML refuses
what lacks it; so it always is, as Apple's own front ends give it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedeploy.backends.apple.indices import nonnegative
from edgedeploy.backends.apple.mil_api import Var, is_symbolic, mb, types
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.shapes import sizes, vector

_MODES = {"none": "update", "add": "add", "mul": "mul", "max": "max", "min": "min"}
"""Mode of MIL by ``reduction`` of ONNX."""


def _unchecked(node: Node) -> dict[str, Any]:
    return {"validate_indices": False} if node.ios >= 17 else {}


def _number(x: Var) -> Var:
    """Return a value that MIL can move about: booleans become 0 and 1."""
    return mb.cast(x=x, dtype="int32") if x.dtype == types.bool else x


def _as_before(x: Var, before: Var) -> Var:
    return mb.cast(x=x, dtype="bool") if before.dtype == types.bool else x


@op("Gather")
def gather(node: Node) -> Var:
    """Take slices along an axis (ONNX Gather-13)."""
    x = node.var(0)
    axis = node.axis(node.attribute("axis", 0), x.rank)
    taken = mb.gather(
        x=_number(x),
        indices=nonnegative(node.var(1), sizes(x)[axis]),
        axis=axis,
        **_unchecked(node),
    )
    return _as_before(taken, x)


@op("GatherElements")
def gather_elements(node: Node) -> Var:
    """Take single elements along an axis (ONNX GatherElements-13).

    Off the axis, ONNX lets the indices be smaller than the data; MIL does not.
    """
    x, indices = node.var(0), node.var(1)
    axis = node.axis(node.attribute("axis", 0), x.rank)
    indices = nonnegative(indices, sizes(x)[axis])
    taken = mb.gather_along_axis(
        x=_cropped(_number(x), indices, axis),
        indices=indices,
        axis=axis,
        **_unchecked(node),
    )
    return _as_before(taken, x)


def _cropped(x: Var, indices: Var, axis: int) -> Var:
    """Return what indices along an axis can reach: the data's first rows off the axis."""
    places = [place for place in range(x.rank) if place != axis]
    if all(x.shape[place] == indices.shape[place] for place in places):
        return x
    whole = [place == axis for place in range(x.rank)]
    return mb.slice_by_index(
        x=x,
        begin=[0] * x.rank,
        end=vector(sizes(indices)),
        begin_mask=[True] * x.rank,
        end_mask=whole,
    )


@op("GatherND")
def gather_nd(node: Node) -> Var:
    """Take slices by index tuples (ONNX GatherND-13)."""
    x, indices = node.var(0), node.var(1)
    batch = node.attribute("batch_dims", 0)
    taken = mb.gather_nd(
        x=_number(x),
        indices=_tuples(node, x, indices, batch),
        batch_dims=batch,
        **_unchecked(node),
    )
    return _as_before(taken, x)


def _tuples(node: Node, x: Var, indices: Var, batch: int) -> Var:
    """Return index tuples counted from the front."""
    length = indices.shape[-1]
    if is_symbolic(length):
        node.refuse("the length of its index tuples is open", "bind the dims it depends on")
    return nonnegative(indices, sizes(x)[batch : batch + int(length)])


@op("ScatterND")
def scatter_nd(node: Node) -> Var:
    """Put slices by index tuples (ONNX ScatterND-18)."""
    x = node.var(0)
    made = mb.scatter_nd(
        data=_number(x),
        indices=_tuples(node, x, node.var(1), 0),
        updates=_number(node.var(2)),
        mode=_mode(node),
        **_unchecked(node),
    )
    return _as_before(made, x)


def _mode(node: Node) -> str:
    reduction = node.attribute("reduction", "none")
    if reduction not in _MODES:
        node.refuse(f"reduction {reduction!r}", "repair the model")
    return _MODES[reduction]


@op("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> Var:
    """Put single elements along an axis (ONNX ScatterElements-18, Scatter-9)."""
    x, indices, updates = node.var(0), node.var(1), node.var(2)
    axis = node.axis(node.attribute("axis", 0), x.rank)
    indices = nonnegative(indices, sizes(x)[axis])
    data, updates, mode = _number(x), _number(updates), _mode(node)
    fits = all(x.shape[place] == indices.shape[place] for place in range(x.rank) if place != axis)
    # coremltools folds scatter_along_axis of constants as if every mode were "update"; scatter_nd
    # it does not fold.
    if fits and (mode == "update" or any(item.val is None for item in (data, indices, updates))):
        made = mb.scatter_along_axis(
            data=data, indices=indices, updates=updates, axis=axis, mode=mode, **_unchecked(node)
        )
    else:
        made = mb.scatter_nd(
            data=data,
            indices=_coordinates(node, indices, axis),
            updates=updates,
            mode=mode,
            **_unchecked(node),
        )
    return _as_before(made, x)


def _coordinates(node: Node, indices: Var, axis: int) -> Var:
    """Return whole coordinates of what indices along an axis point at, one tuple per index."""
    if any(is_symbolic(size) for size in indices.shape):
        node.refuse("its indices have open sizes unlike the data's", "bind the model's dims")
    rank = len(indices.shape)
    grid = np.indices(indices.shape, np.int32)
    parts = [indices if place == axis else grid[place] for place in range(rank)]
    return mb.stack(values=parts, axis=rank)


@op("Compress")
def compress(node: Node) -> Var:
    """Take the slices whose condition is true (ONNX Compress-11)."""
    x, chosen = node.var(0), node.constant(1)
    axis = node.attribute("axis")
    numbers = _number(x)
    if axis is None:
        numbers = mb.reshape(x=numbers, shape=[-1])
    axis = 0 if axis is None else node.axis(axis, x.rank)
    if chosen is None:
        rows = mb.non_zero(x=mb.cast(x=node.var(1), dtype="int32"))
        indices = mb.squeeze(x=rows, axes=[1])
    elif not chosen.any():
        node.refuse("nothing is taken: the result is empty", "remove what depends on it")
    else:
        indices = mb.const(val=np.flatnonzero(chosen).astype(np.int32))
    taken = mb.gather(x=numbers, indices=indices, axis=axis, **_unchecked(node))
    return _as_before(taken, x)


@op("Unique")
def unique(node: Node) -> Var:
    """Refused: MIL has no operation that makes values unique, and none that sorts in a loop."""
    node.refuse("MIL has no operation for it", "compute it outside the model")
