"""Operators that multiply by a constant weight and add a bias, as the folding passes see them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgedeploy.passes.base import is_op
from edgedeploy.passes.rewire import add_initializer, constant_array, graph_of, numeric_constant

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
"""Element types of weights that are folded into."""
_SCALED_BYTES = 256 << 20
"""A larger weight is not loaded to be scaled."""
_COPIED_BYTES = 1 << 20
"""A larger weight with other uses is not scaled: the model would grow by a copy of it."""


def is_linear(node: ir.Node) -> bool:
    """Tell whether a node is a Conv, ConvTranspose or Gemm with a constant float weight."""
    if not is_op(node, "Conv", "ConvTranspose", "Gemm") or not isinstance(node.graph, ir.Graph):
        return False
    weight = numeric_constant(node.inputs[1])
    return weight is not None and weight.dtype in FLOATS


def weight_dims(node: ir.Node) -> tuple[int, ...]:
    """Return the shape of a linear node's weight."""
    weight = numeric_constant(node.inputs[1])
    if weight is None:
        raise TypeError(f"the weight of {node.name!r} is no constant")
    return tuple(weight.shape.numpy())


def channels(node: ir.Node) -> int:
    """Return the number of output channels of a linear node."""
    dims = weight_dims(node)
    if node.op_type == "Conv":
        return dims[0]
    if node.op_type == "ConvTranspose":
        return dims[1] * int_attribute(node, "group", 1)
    return dims[0 if int_attribute(node, "transB", 0) else 1]


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    """Return an integer attribute, or its default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def float_attribute(node: ir.Node, name: str, default: float) -> float:
    """Return a float attribute, or its default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def per_channel(array: np.ndarray, count: int, rank: int) -> np.ndarray | None:
    """Return a constant operand as float64 ``[count]``.

    Args:
        array: What is broadcast against a tensor of ``rank`` axes with the channels on axis 1.
        count: Number of channels.
        rank: Number of axes.

    Returns:
        None if the constant varies along another axis, or would add or widen one.
    """
    if array.ndim > rank:
        return None
    dims = (1,) * (rank - array.ndim) + array.shape
    if any(dim != 1 for axis, dim in enumerate(dims) if axis != 1) or dims[1] not in (1, count):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (count,))


def bias_of(node: ir.Node) -> np.ndarray | None:
    """Return the bias of a linear node as float64 ``[channels]``: zeros where it has none.

    None if the bias is no constant, or (of a Gemm) differs from row to row.
    """
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return np.zeros(channels(node))
    array = constant_array(value)
    # Both Conv's [channels] and what Gemm broadcasts to [rows, channels].
    return None if array is None else per_channel(array, channels(node), 2)


def may_scale(node: ir.Node) -> bool:
    """Tell whether the weight of a linear node may be replaced by a multiple of it."""
    value, tensor = node.inputs[1], numeric_constant(node.inputs[1])
    if value is None or tensor is None:
        return False
    alone = len(value.uses()) == 1 and not value.is_graph_output()
    return tensor.nbytes <= (_SCALED_BYTES if alone else _COPIED_BYTES)


def scale_weight(node: ir.Node, scale: np.ndarray) -> None:
    """Multiply each output channel of a linear node's weight.

    Args:
        node: Changed; :func:`may_scale` holds for it.
        scale: Factors, float64 ``[channels]``.
    """
    weight = constant_array(node.inputs[1])
    if weight is None:
        raise TypeError(f"the weight of {node.name!r} is no constant")
    wide = weight.astype(np.float64)
    tail = (1,) * (weight.ndim - 2)
    if node.op_type == "Conv":
        wide *= scale.reshape(-1, 1, *tail)
    elif node.op_type == "ConvTranspose":
        group = int_attribute(node, "group", 1)
        grouped = wide.reshape(group, -1, *wide.shape[1:])
        wide = (grouped * scale.reshape(group, 1, -1, *tail)).reshape(wide.shape)
    else:
        wide *= scale[:, None] if int_attribute(node, "transB", 0) else scale
    replace_constant(node, 1, wide.astype(weight.dtype), "weight")


def set_bias(node: ir.Node, bias: np.ndarray) -> None:
    """Give a linear node this bias ``[channels]``, in the element type of its weight."""
    weight = numeric_constant(node.inputs[1])
    if weight is None:
        raise TypeError(f"the weight of {node.name!r} is no constant")
    replace_constant(node, 2, bias.astype(weight.dtype.numpy()), f"{node.name}.bias")


def replace_constant(node: ir.Node, index: int, array: np.ndarray, name: str) -> None:
    """Put a new weight at an input of a node.

    It takes the name of the one that it replaces if nothing else uses that one, ``name`` where
    there was none, and a numbered name where the name is taken.
    """
    graph = graph_of(node)
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    old = node.inputs[index]
    node.replace_input_with(index, None)
    if old is not None and old.name:
        name = old.name
        if not old.uses() and not old.is_graph_output() and graph.initializers.get(name) is old:
            del graph.initializers[name]
    node.replace_input_with(index, add_initializer(graph, name, array))
