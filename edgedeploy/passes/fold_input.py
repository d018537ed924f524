"""Factors and orders of the channels in front of the first convolution move into its weights.

``W (a x) = (W a) x`` with a factor per input channel, and a permutation of the channels is one of
the weights' columns. Both hold with any padding: zero stays zero. A shift is not folded: with
padding it would be wrong at the border, and without, weights of few bits would carry the pictures'
mean as well, whose rounding errors add up where those of centred pixels cancel.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgedeploy.passes.base import Pass, is_op
from edgedeploy.passes.linear import int_attribute, may_scale, per_channel, replace_constant
from edgedeploy.passes.rewire import constant_array, graph_of, numeric_constant, remove_nodes

_WIDEST_RATIO = 2.0
"""Factors further apart are left alone: the quantized weights of an output channel share a scale,
and those of the darker input would lose a bit and more."""


class FoldInput(Pass):
    """Folds what stands between an input of the model and a convolution that alone reads it.

    Only what was computed from an input by casts, shifts, factors and changes of axes is looked at:
    this is the preprocessing that a model was given, or came with.
    """

    def apply(self, model: ir.Model) -> bool:
        """Fold, from the convolution towards the input."""
        modified = False
        for node in list(model.graph):
            while (found := _foldable(node)) is not None:
                _fold(node, *found)
                modified = True
        return modified

    def ensures(self, model: ir.Model) -> str | None:
        """Nothing is left to fold."""
        for node in model.graph:
            if _foldable(node) is not None:
                return f"what comes before {node.name!r} could be folded"
        return None


def _foldable(node: ir.Node) -> tuple[ir.Node, np.ndarray] | None:
    """Return what makes the input of a convolution, and what it makes of the weight's columns.

    Returns:
        The node with factors (float64 ``[channels]``) or the order of the channels (int64); None
        where there is nothing to fold.
    """
    if not is_op(node, "Conv") or int_attribute(node, "group", 1) != 1:
        return None
    value, weight = node.inputs[0], numeric_constant(node.inputs[1])
    if value is None or weight is None or weight.dtype != ir.DataType.FLOAT or not may_scale(node):
        return None
    before = value.producer()
    alone = len(value.uses()) == 1 and not value.is_graph_output()
    if before is None or not alone or not _from_input(before):
        return None
    dims = weight.shape.numpy()
    found = _columns(before, dims[1], len(dims))
    return None if found is None else (before, found)


def _columns(node: ir.Node, count: int, rank: int) -> np.ndarray | None:
    """Return what a node does to the channels, axis 1 of ``rank`` axes; None for anything else."""
    if is_op(node, "Gather") and int_attribute(node, "axis", 0) == 1:
        order = constant_array(node.inputs[1])
        if order is None or order.shape != (count,):
            return None
        return order if sorted(order.tolist()) == list(range(count)) else None
    if not is_op(node, "Mul"):
        return None
    array = constant_array(node.inputs[1])
    factor = None if array is None else per_channel(array, count, rank)
    if factor is None:
        return None
    sizes = np.abs(factor)
    small = float(sizes.min(initial=np.inf))
    if not np.all(np.isfinite(factor)) or sizes.max(initial=0.0) > _WIDEST_RATIO * small:
        return None
    return factor


def _from_input(node: ir.Node) -> bool:
    """Tell whether a node computes on an input of the graph, with constants, in its own graph."""
    while True:
        value = node.inputs[0]
        if value is None or value.is_initializer():
            return False
        if value.is_graph_input():
            return value.graph is node.graph
        before = value.producer()
        if before is None or not is_op(before, "Cast", "Transpose", "Sub", "Mul", "Gather"):
            return False
        if any(constant_array(item) is None for item in before.inputs[1:]):
            return False
        node = before


def _fold(node: ir.Node, before: ir.Node, columns: np.ndarray) -> None:
    weight = constant_array(node.inputs[1])
    if weight is None:
        raise TypeError(f"the weight of {node.name!r} is no constant")
    if before.op_type == "Gather":
        # The convolution reads channel order[i] where it read i: its column i moves there.
        changed = np.empty_like(weight)
        changed[:, columns] = weight
    else:
        tail = (1,) * (weight.ndim - 2)
        changed = (weight.astype(np.float64) * columns.reshape(-1, *tail)).astype(weight.dtype)
    replace_constant(node, 1, changed, "weight")
    node.replace_input_with(0, before.inputs[0])
    remove_nodes(graph_of(node), [before])
