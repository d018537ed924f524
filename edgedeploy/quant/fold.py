"""Loading for quantization: constant scale-and-shift nodes are folded into the layer before them.

``Conv -> BatchNormalization``, ``Conv -> Mul(c) -> Add(d)`` and the like become one Conv. A
quantizer must do this first: a Q/DQ pair between the nodes would both cost accuracy and stop the
runtime from doing it later. Every value that is left keeps its name, so that a calibration table
made on the folded graph is keyed on names of the normal form.

Source of the formulas: ONNX operator specification, BatchNormalization-15 (inference mode).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from edgedeploy.quant.layers import check_model, constant_shape, int_attribute, is_weight
from edgedeploy.quant.names import Names, add_initializer

FOLD_OPS = ("Conv", "ConvTranspose", "Gemm")


def load_folded(path: Path) -> tuple[ir.Model, int]:
    """Return a checked model with its affine nodes folded, and how many were folded.

    Raises:
        ModelError: See :func:`edgedeploy.quant.layers.check_model`.
    """
    model = ir.load(path)
    check_model(model)
    # Ranks tell which MatMul is a Gemm; weights are left out of the inference and stay mapped.
    ShapeInferencePass()(model)
    folded = fold_affine(model)
    return model, folded


def fold_affine(model: ir.Model) -> int:
    """Fold every chain of constant per-channel scales and shifts into the layer that feeds it.

    A weight or bias that something else uses too is left alone. Also folds Gemm's alpha and beta,
    and makes one Gemm of a two-dimensional MatMul and the Add of its bias.

    Args:
        model: Changed in place.

    Returns:
        How many nodes were folded away.
    """
    folded = 0
    names = Names(model.graph)
    for node in list(model.graph):
        if _is_biased_matmul(model.graph, node):
            node = _as_gemm(model.graph, node)
            folded += 1
        if node.op_type in FOLD_OPS and not node.domain and _own(node.inputs[1]):
            if node.op_type == "Gemm":
                _fold_gemm_factors(model.graph, node, names)
            while _fold_next(model.graph, node, names):
                folded += 1
    return folded


def _is_biased_matmul(graph: ir.Graph, node: ir.Node) -> bool:
    """Whether a MatMul has a constant weight, rank-2 operands and a bias added by its consumer."""
    if node.op_type != "MatMul" or node.domain or not is_weight(node.inputs[1]):
        return False
    activation, result = node.inputs[0], node.outputs[0]
    if activation is None or activation.shape is None or activation.shape.rank() != 2:
        return False
    consumers = result.consumers()
    if len(consumers) != 1 or result.is_graph_output() or consumers[0].graph is not graph:
        return False
    consumer, shape = consumers[0], constant_shape(_weight_of(node))
    if consumer.op_type != "Add" or consumer.domain or len(shape) != 2:
        return False
    other = consumer.inputs[1 if consumer.inputs[0] is result else 0]
    bias = _constant(other)
    return bias is not None and bias.shape in ((shape[1],), (1, shape[1]))


def _as_gemm(graph: ir.Graph, node: ir.Node) -> ir.Node:
    """Replace a MatMul and the Add behind it by a Gemm of the MatMul's name; return the Gemm."""
    result = node.outputs[0]
    add = result.consumers()[0]
    bias = add.inputs[1 if add.inputs[0] is result else 0]
    last = add.outputs[0]
    fresh = ir.Value(name=last.name, shape=last.shape, type=last.type)
    gemm = ir.node("Gemm", [*node.inputs, bias], outputs=[fresh], name=node.name)
    graph.insert_before(node, gemm)
    last.replace_all_uses_with(fresh, replace_graph_outputs=True)
    last.name = None
    graph.remove([add, node], safe=True)
    return gemm


def _own(value: ir.Value | None) -> bool:
    """Whether the value is a float32 weight that this one use owns."""
    return (
        value is not None
        and is_weight(value)
        and len(value.uses()) == 1
        and not value.is_graph_output()
    )


def _constant(value: ir.Value | None) -> np.ndarray | None:
    """Return a float32 initialiser's content in float64, else None."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    if value.const_value.dtype != ir.DataType.FLOAT:
        return None
    return value.const_value.numpy().astype(np.float64)


def _channels(node: ir.Node) -> int:
    shape = constant_shape(_weight_of(node))
    if node.op_type == "Conv":
        return shape[0]
    if node.op_type == "Gemm":
        return shape[0 if int_attribute(node, "transB", 0) else 1]
    return shape[1] * int_attribute(node, "group", 1)


def _weight_of(node: ir.Node) -> ir.Value:
    weight = node.inputs[1]
    if weight is None:
        raise ValueError(f"{node.name} has no weight")
    return weight


def _fold_next(graph: ir.Graph, node: ir.Node, names: Names) -> bool:
    """Fold the one consumer of ``node`` into it if that is a constant scale or shift."""
    result = node.outputs[0]
    consumers = result.consumers()
    if len(consumers) != 1 or result.is_graph_output() or consumers[0].graph is not graph:
        return False
    consumer = consumers[0]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    bias_array = _constant(bias)
    if bias is not None and (bias_array is None or bias_array.size != _channels(node)):
        return False
    affine = _affine(consumer, result, _channels(node), len(constant_shape(_weight_of(node))))
    if affine is None:
        return False
    scale, shift = affine
    weight_array = _constant(_weight_of(node))
    if weight_array is None:
        return False
    if np.any(scale != 1.0):
        _replace(graph, node, 1, names, _scaled(node, weight_array, scale))
    old = np.zeros(_channels(node)) if bias_array is None else bias_array.reshape(-1)
    if bias is not None or np.any(shift):
        _replace(graph, node, 2, names, old * scale + shift)
    _take_over(graph, node, consumer)
    return True


def _affine(
    consumer: ir.Node, result: ir.Value, channels: int, rank: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (scale, shift), each ``[channels]`` in float64, that ``consumer`` applies."""
    if consumer.domain:
        return None
    if consumer.op_type == "BatchNormalization":
        return _batch_normalization(consumer, result)
    if consumer.op_type not in ("Mul", "Div", "Add", "Sub"):
        return None
    position = 0 if consumer.inputs[0] is result else 1
    factor = _per_channel(_constant(consumer.inputs[1 - position]), channels, rank)
    if factor is None:
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    if consumer.op_type == "Mul":
        return factor, zero
    if consumer.op_type == "Add":
        return one, factor
    if consumer.op_type == "Sub":
        return (one, -factor) if position == 0 else (-one, factor)
    if position == 0 and np.all(factor != 0):
        return 1.0 / factor, zero
    return None


def _batch_normalization(
    consumer: ir.Node, result: ir.Value
) -> tuple[np.ndarray, np.ndarray] | None:
    gamma, beta, mean, variance = (_constant(value) for value in consumer.inputs[1:5])
    training = int_attribute(consumer, "training_mode", 0)
    if gamma is None or beta is None or mean is None or variance is None or training:
        return None
    if consumer.inputs[0] is not result:
        return None
    epsilon = consumer.attributes.get("epsilon")
    spread = np.sqrt(variance + (1e-5 if epsilon is None else epsilon.as_float()))
    return gamma / spread, beta - gamma * mean / spread


def _per_channel(array: np.ndarray | None, channels: int, rank: int) -> np.ndarray | None:
    """Return a broadcast constant as ``[channels]`` if it varies along the channel axis only."""
    if array is None or array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        return None
    if shape[1] not in (1, channels):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,)).copy()


def _scaled(node: ir.Node, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the weight with every output channel multiplied by its factor."""
    shape, factors = weight.shape, scale
    if node.op_type == "Conv":
        factors = scale.reshape(-1, *[1] * (weight.ndim - 1))
    elif node.op_type == "Gemm" and int_attribute(node, "transB", 0):
        factors = scale[:, None]
    elif node.op_type == "ConvTranspose":
        groups = int_attribute(node, "group", 1)
        weight = weight.reshape(groups, shape[0] // groups, *shape[1:])
        factors = scale.reshape(groups, 1, shape[1], *[1] * (len(shape) - 2))
    product: np.ndarray = weight * factors
    return product.reshape(shape)


def _fold_gemm_factors(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    """Multiply alpha into the weight and beta into the bias, so that both attributes are 1."""
    alpha, beta = node.attributes.get("alpha"), node.attributes.get("beta")
    weight = _constant(node.inputs[1])
    if weight is None:
        return
    if alpha is not None and alpha.as_float() != 1.0:
        _replace(graph, node, 1, names, weight * alpha.as_float())
        del node.attributes["alpha"]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    constant = _constant(bias)
    if beta is not None and beta.as_float() != 1.0 and bias is not None and constant is not None:
        _replace(graph, node, 2, names, constant * beta.as_float())
        del node.attributes["beta"]


def _replace(
    graph: ir.Graph, node: ir.Node, position: int, names: Names, array: np.ndarray
) -> None:
    """Put a new float32 initialiser at an input of ``node``; an unused old one gives its name."""
    if len(node.inputs) <= position:
        node.resize_inputs(position + 1)
    old = node.inputs[position]
    node.replace_input_with(position, None)
    if old is None:
        name = names.free(f"{node.name}_bias")
    elif drop_unused(graph, old):
        name = str(old.name)
    else:
        name = names.free(str(old.name))
    fresh = add_initializer(graph, name, ir.Tensor(array.astype(np.float32), name=name))
    node.replace_input_with(position, fresh)


def drop_unused(graph: ir.Graph, value: ir.Value) -> bool:
    """Remove an initialiser that nothing uses any more; return whether it was removed."""
    if not value.is_initializer() or value.uses() or value.is_graph_output():
        return False
    graph.initializers.pop(str(value.name), None)
    return True


def _take_over(graph: ir.Graph, node: ir.Node, consumer: ir.Node) -> None:
    """Make ``node`` write what ``consumer`` wrote, under the same name, and drop ``consumer``."""
    result, last = node.outputs[0], consumer.outputs[0]
    name, shape, kind = last.name, last.shape, last.type
    last.name = None
    result.name, result.shape, result.type = name, shape, kind
    last.replace_all_uses_with(result, replace_graph_outputs=True)
    parameters = [value for value in consumer.inputs if value is not None and value is not result]
    graph.remove(consumer, safe=True)
    for value in parameters:
        drop_unused(graph, value)
