"""Scales and shifts after a convolution move into its weights and bias.

``BN(W x + b) = (s W) x + s (b - mean) + beta`` with ``s = gamma / sqrt(variance + epsilon)`` per
output channel (Ioffe and Szegedy, 2015); a following Mul or Add by a constant per channel is the
same with ``s`` or ``beta`` alone.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgedeploy.passes.base import Pass, is_op
from edgedeploy.passes.rewire import (
    add_initializer,
    constant_array,
    graph_of,
    numeric_constant,
    remove_nodes,
    replace_value,
)

_WEIGHT_BYTES = 256 << 20
"""A larger weight is not loaded to be scaled."""
_OPS = ("Conv", "ConvTranspose", "Gemm")


class FoldBatchNorm(Pass):
    """Folds BatchNormalization, Mul and Add by constants per channel into Conv and Gemm."""

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
    if not is_op(node, *_OPS) or not isinstance(node.graph, ir.Graph):
        return None
    output = node.outputs[0]
    uses = list(output.uses())
    weight = numeric_constant(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if len(uses) != 1 or output.is_graph_output() or weight is None:
        return None
    if bias is not None and numeric_constant(bias) is None:
        return None
    follower, index = uses[0]
    rank = len(weight.shape)
    channels = _channels(node, weight)
    if follower.graph is not node.graph or weight.nbytes > _WEIGHT_BYTES or channels is None:
        return None
    if weight.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16):
        return None
    if bias is not None and bias.const_value is not None and bias.const_value.size != channels:
        return None
    found = _scale_and_shift(follower, index, rank, channels)
    return None if found is None else (follower, *found)


def _channels(node: ir.Node, weight: ir.TensorProtocol) -> int | None:
    """Return the number of output channels, None for a Gemm that scales its terms."""
    dims = weight.shape.numpy()
    if node.op_type == "Conv":
        return dims[0]
    if node.op_type == "ConvTranspose":
        return dims[1] * _int(node, "group", 1)
    plain = all(
        name not in node.attributes or node.attributes[name].as_float() == 1.0
        for name in ("alpha", "beta")
    )
    return dims[0 if _int(node, "transB", 0) else 1] if plain else None


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _scale_and_shift(
    follower: ir.Node, index: int, rank: int, channels: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return what a node does to each channel, in float64 of shape [channels]."""
    if is_op(follower, "BatchNormalization"):
        arrays = [constant_array(value) for value in follower.inputs[1:]]
        extra = any(output.uses() or output.is_graph_output() for output in follower.outputs[1:])
        if index != 0 or extra or any(array is None for array in arrays):
            return None
        if _int(follower, "training_mode", 0):
            return None
        gamma, beta, mean, variance = (
            array.astype(np.float64) for array in arrays if array is not None
        )
        attribute = follower.attributes.get("epsilon")
        epsilon = 1e-5 if attribute is None else attribute.as_float()
        scale = gamma / np.sqrt(variance + epsilon)
        return scale, beta - mean * scale
    if not is_op(follower, "Mul", "Add"):
        return None
    array = constant_array(follower.inputs[1 - index])
    if array is None or array.ndim > rank:
        return None
    # Only a constant that varies along the channel axis (1) and nowhere else.
    dims = (1,) * (rank - array.ndim) + array.shape
    if any(dim != 1 for axis, dim in enumerate(dims) if axis != 1) or dims[1] not in (1, channels):
        return None
    values = np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,))
    if follower.op_type == "Mul":
        return values, np.zeros(channels)
    return np.ones(channels), values


def _fold(node: ir.Node, follower: ir.Node, scale: np.ndarray, shift: np.ndarray) -> None:
    graph = graph_of(node)
    weight, old = node.inputs[1], constant_array(node.inputs[1])
    if weight is None or old is None:
        raise TypeError("only constant weights are folded")
    bias = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    before = np.zeros(len(scale)) if bias is None else bias.astype(np.float64).reshape(-1)
    if not np.all(scale == 1.0):
        scaled = add_initializer(graph, weight.name or "weight", _scaled(node, old, scale))
        node.replace_input_with(1, scaled)
    moved = (before * scale + shift).astype(old.dtype)
    name = node.inputs[2].name if bias is not None and node.inputs[2] is not None else None
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, add_initializer(graph, name or f"{node.name}.bias", moved))
    replace_value(follower.outputs[0], node.outputs[0], graph)
    remove_nodes(graph, [follower])


def _scaled(node: ir.Node, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the weight with each output channel multiplied."""
    wide = weight.astype(np.float64)
    tail = (1,) * (weight.ndim - 2)
    if node.op_type == "Conv":
        wide *= scale.reshape(-1, 1, *tail)
    elif node.op_type == "ConvTranspose":
        group = _int(node, "group", 1)
        grouped = wide.reshape(group, -1, *wide.shape[1:])
        wide = (grouped * scale.reshape(group, 1, -1, *tail)).reshape(wide.shape)
    else:
        wide *= scale[:, None] if _int(node, "transB", 0) else scale
    return wide.astype(weight.dtype)
