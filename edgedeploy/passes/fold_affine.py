"""Scales and shifts behind a convolution or Gemm move into its weight and bias.

``BN(W x + b) = (s W) x + s (b - mean) + beta`` with ``s = gamma / sqrt(variance + epsilon)`` per
output channel (Ioffe and Szegedy, 2015); a following Mul, Div, Add or Sub by a constant per channel
is the same with ``s`` or ``beta`` alone.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgedeploy.passes.base import Pass, is_op
from edgedeploy.passes.linear import (
    bias_of,
    channels,
    float_attribute,
    int_attribute,
    is_linear,
    may_scale,
    per_channel,
    scale_weight,
    set_bias,
    weight_dims,
)
from edgedeploy.passes.rewire import constant_array, graph_of, numeric_constant, remove_nodes


class FoldAffine(Pass):
    """Folds BatchNormalization and arithmetic with constants per channel into what they follow.

    The node keeps its name; its result takes the name of the last value that was folded, since it
    now has that value's content. A quantizer needs this: a Q/DQ pair between the nodes would cost
    accuracy and keep the runtime from folding them later.
    """

    def apply(self, model: ir.Model) -> bool:
        """Fold every follower of a linear operator that is its only use."""
        modified = False
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            while node.graph is not None and (follower := _foldable(node)) is not None:
                _fold(node, *follower)
                modified = True
        return modified

    def ensures(self, model: ir.Model) -> str | None:
        """Nothing is left to fold."""
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if _foldable(node) is not None:
                return f"what follows {node.name!r} could be folded"
        return None


def _foldable(node: ir.Node) -> tuple[ir.Node, np.ndarray, np.ndarray] | None:
    """Return the follower of a linear node with its scale and shift per channel."""
    if not is_linear(node) or any(
        float_attribute(node, factor, 1.0) != 1.0 for factor in ("alpha", "beta")
    ):
        return None
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output() or bias_of(node) is None:
        return None
    follower, index = uses[0]
    if follower.graph is not node.graph:
        return None
    found = _scale_and_shift(follower, index, channels(node), len(weight_dims(node)))
    if found is None or not all(np.all(np.isfinite(values)) for values in found):
        return None
    scaled = bool(np.any(found[0] != 1.0))
    if (scaled and not may_scale(node)) or _overflows(node, *found):
        return None
    return follower, *found


def _overflows(node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> bool:
    """Tell whether half precision cannot hold the folded constants; wider types always can."""
    weight, bias = numeric_constant(node.inputs[1]), bias_of(node)
    if weight is None or bias is None or weight.dtype != ir.DataType.FLOAT16:
        return False
    largest = float(np.abs(weight.numpy()).max(initial=0.0) * np.abs(scale).max(initial=0.0))
    moved = float(np.abs(bias * scale + shift).max(initial=0.0))
    return max(largest, moved) > float(np.finfo(np.float16).max)


def _scale_and_shift(
    follower: ir.Node, index: int, count: int, rank: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return what a node does to each channel of its input ``index``, in float64 ``[count]``."""
    if is_op(follower, "BatchNormalization"):
        return _batch_norm(follower) if index == 0 else None
    if not is_op(follower, "Mul", "Div", "Add", "Sub"):
        return None
    array = constant_array(follower.inputs[1 - index])
    values = None if array is None else per_channel(array, count, rank)
    if values is None:
        return None
    ones, zeros = np.ones(count), np.zeros(count)
    if follower.op_type == "Mul":
        return values, zeros
    if follower.op_type == "Add":
        return ones, values
    if follower.op_type == "Sub":
        return (ones, -values) if index == 0 else (-ones, values)
    if index == 0 and np.all(values != 0.0):
        return 1.0 / values, zeros
    return None


def _batch_norm(node: ir.Node) -> tuple[np.ndarray, np.ndarray] | None:
    arrays = [constant_array(value) for value in node.inputs[1:]]
    extra = any(output.uses() or output.is_graph_output() for output in node.outputs[1:])
    if extra or any(array is None for array in arrays) or int_attribute(node, "training_mode", 0):
        return None
    gamma, beta, mean, variance = (
        array.astype(np.float64) for array in arrays if array is not None
    )
    spread = variance + float_attribute(node, "epsilon", 1e-5)
    if np.any(spread <= 0.0):
        return None
    scale = gamma / np.sqrt(spread)
    return scale, beta - mean * scale


def _fold(node: ir.Node, follower: ir.Node, scale: np.ndarray, shift: np.ndarray) -> None:
    bias = bias_of(node)
    if bias is None:
        raise TypeError("only a constant bias is folded")
    if np.any(scale != 1.0):
        scale_weight(node, scale)
    if np.any(shift) or (len(node.inputs) > 2 and node.inputs[2] is not None):
        set_bias(node, bias * scale + shift)
    result, last = node.outputs[0], follower.outputs[0]
    name, result.shape, result.type = last.name, last.shape, last.type
    last.replace_all_uses_with(result, replace_graph_outputs=True)
    last.name = None
    result.name = name
    remove_nodes(graph_of(node), [follower])
