"""What the nodes of a graph are to the quantizer: layers with weights, carriers, activations.

Only the main graph is looked at; what lies in subgraphs stays in float. All functions work on
``onnx_ir`` models in the normal form.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgedeploy.errors import ModelError

MINIMUM_OPSET = 13
"""The oldest that the normal form keeps; per-channel DequantizeLinear exists since."""

LAYER_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather")
"""Ops with a constant weight that can be stored as int8."""

RECURRENT_OPS = ("GRU", "LSTM", "RNN")
"""Ops with weights that can be stored as int8, but have no static int8 form in ONNX."""

RECURRENT_WEIGHTS = (1, 2)
"""Inputs of a recurrent op that are weights: W and R, ``[directions, gates * hidden, ...]``."""

ELEMENTWISE_OPS = ("Add", "Concat", "AveragePool", "GlobalAveragePool")
"""Ops that runtimes compute on integers when all their operands and the result are quantized."""

SAME_RANGE_OPS = (
    "DepthToSpace",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Ops that only move or select values: the result shares scale and zero point of operand 0."""

VALUE_PRESERVING_OPS = (
    "DepthToSpace",
    "Flatten",
    "Identity",
    "Reshape",
    "SpaceToDepth",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Ops whose result has exactly the values of operand 0, so one statistic serves both."""

_INTEGER_OPS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
    }
)
_BLOCK_OPS = frozenset({"GatherBlockQuantized", "MatMulBnb4", "MatMulFpQ4", "MatMulNBits"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A node that multiplies an activation by a constant weight (or looks rows of it up).

    Attributes:
        node: The node.
        activation: Its float input that is not the weight; None for Gather (indices are integers).
        weight: The initialiser.
        bias: The bias initialiser, None when there is none.
        bias_is_constant: False when a bias comes from another node.
        output: The result, after a Relu or Clip that alone consumes it (``fused_output``).
        channel_axis: The weight's axis of output channels along which each channel may have its
            own scale; None when the runtimes only take one scale for the whole weight.
        depthwise: A convolution with one input channel per group and more than one group.
    """

    node: ir.Node
    activation: ir.Value | None
    weight: ir.Value
    bias: ir.Value | None
    bias_is_constant: bool
    output: ir.Value
    channel_axis: int | None
    depthwise: bool


def load_checked(path: Path) -> ir.Model:
    """Return a model, unless it cannot be quantized at all; weights in other files stay there.

    Raises:
        ModelError: The opset is below 13 (E264) or the model is quantized already (E268).
    """
    model = ir.load(path)
    opset = model.graph.opset_imports.get("", 0)
    if opset < MINIMUM_OPSET:
        raise ModelError(
            f"the model has opset {opset}; quantization needs {MINIMUM_OPSET} or newer",
            code="E264",
            hint="Quantize the normal form that the build makes, not the original file.",
        )
    found = _quantized_node(model)
    if found is not None:
        form, node = found
        raise ModelError(
            f"the model is quantized already ({form}): it has a {node.op_type} node",
            code="E268",
            subject=node.name,
            hint="Give the float model, or set `quantize: none` to ship it as it is.",
        )
    return model


def already_quantized(model: Path) -> str | None:
    """Return how a model is quantized, None where it is a float model.

    Reads the graph alone: weights in other files are neither read nor needed. Local functions
    (``FakeQuantize`` and the like of exporters) are looked into as well.

    Args:
        model: ONNX file.

    Returns:
        A phrase for reports, such as ``QDQ form: QuantizeLinear node 'x_QuantizeLinear'``.
    """
    found = _quantized_node(ir.load(model))
    if found is None:
        return None
    form, node = found
    return f"{form}: {node.op_type} node {node.name!r}"


def _quantized_node(model: ir.Model) -> tuple[str, ir.Node] | None:
    """Return the form and a node that shows it; the first of the forms listed below that is met."""
    forms: dict[str, ir.Node] = {}
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        for node in graph.all_nodes():
            form = _quantized_form(node)
            if form is not None:
                forms.setdefault(form, node)
    order = ("QOperator form", "dynamic quantization", "QDQ form", "weight-only form")
    return next(((form, forms[form]) for form in order if form in forms), None)


def _quantized_form(node: ir.Node) -> str | None:
    op = node.op_type
    if op.startswith("QLinear") or op in ("QGemm", "QAttention", "QEmbedLayerNormalization"):
        return "QOperator form"
    if op in _INTEGER_OPS:
        return "dynamic quantization"
    if op in _BLOCK_OPS:
        return "weight-only form"
    if op == "QuantizeLinear":
        return "QDQ form"
    return "weight-only form" if op == "DequantizeLinear" else None


def is_weight(value: ir.Value | None) -> bool:
    """Return whether a value is a float32 initialiser of at least two axes."""
    return (
        value is not None
        and value.is_initializer()
        and value.const_value is not None
        and value.const_value.dtype == ir.DataType.FLOAT
        and len(value.const_value.shape) >= 2
    )


def fused_output(value: ir.Value) -> ir.Value:
    """Return the result of the Relu or Clip that alone consumes ``value``, else ``value``."""
    consumers = value.consumers()
    if len(consumers) != 1 or value.is_graph_output():
        return value
    node = consumers[0]
    constant_bounds = all(bound is None or bound.is_initializer() for bound in node.inputs[1:])
    foldable = node.op_type == "Relu" or (node.op_type == "Clip" and constant_bounds)
    if foldable and not node.domain and node.graph is value.graph:
        return node.outputs[0]
    return value


def layer_ops(model: Path) -> frozenset[str]:
    """Return the op types of the model's layers: those that a scheme could make integer."""
    return frozenset(layer.node.op_type for layer in find_layers(ir.load(model).graph))


def find_layers(graph: ir.Graph) -> list[Layer]:
    """Return all layers of the main graph in its order."""
    return [layer for node in graph if (layer := _layer(node)) is not None]


def _layer(node: ir.Node) -> Layer | None:
    if node.op_type not in LAYER_OPS or node.domain:
        return None
    inputs = node.inputs
    if node.op_type == "Gather":
        if not is_lookup(node):
            return None
        position = 0
    elif node.op_type == "MatMul":
        position = 1 if is_weight(inputs[1]) else 0
    else:
        position = 1
    weight = inputs[position]
    if weight is None or not is_weight(weight):
        return None
    activation = None if node.op_type == "Gather" else inputs[1 - position]
    if activation is not None and activation.is_initializer():
        return None  # a constant expression: nothing is calibrated, nothing is gained
    bias = inputs[2] if len(inputs) > 2 else None
    constant_bias = bias is None or (bias.is_initializer() and bias.const_value is not None)
    return Layer(
        node=node,
        activation=activation,
        weight=weight,
        bias=bias,
        bias_is_constant=constant_bias,
        output=fused_output(node.outputs[0]),
        channel_axis=_channel_axis(node, position, weight),
        depthwise=_is_depthwise(node, weight),
    )


def is_lookup(node: ir.Node) -> bool:
    """Return whether a Gather looks rows up in a constant table ``[words, features]``."""
    table = node.inputs[0]
    if not is_weight(table) or int_attribute(node, "axis", 0) not in (0, -2):
        return False
    return table is not None and len(constant_shape(table)) == 2


def recurrent_weights(node: ir.Node) -> dict[int, ir.Value]:
    """Return the weights of a recurrent node that are float32 initialisers, by input position."""
    if node.op_type not in RECURRENT_OPS or node.domain:
        return {}
    given = {position: node.inputs[position] for position in RECURRENT_WEIGHTS}
    return {
        place: value for place, value in given.items() if value is not None and is_weight(value)
    }


def _channel_axis(node: ir.Node, position: int, weight: ir.Value) -> int | None:
    rank = len(constant_shape(weight))
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        # [C_in, C_out / groups, ...]: with groups an output channel is no slice of one axis.
        return 1 if int_attribute(node, "group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if int_attribute(node, "transB", 0) else 1
    if node.op_type == "Gather" or (node.op_type == "MatMul" and position == 1 and rank == 2):
        return 1
    return None


def _is_depthwise(node: ir.Node, weight: ir.Value) -> bool:
    groups = int_attribute(node, "group", 1)
    shape = constant_shape(weight)
    if node.op_type == "Conv":
        return groups > 1 and shape[1] == 1
    return node.op_type == "ConvTranspose" and groups > 1 and shape[0] == groups


def constant_of(value: ir.Value) -> ir.TensorProtocol:
    """Return the content of an initialiser."""
    if value.const_value is None:
        raise ValueError(f"{value.name} is no initialiser")
    return value.const_value


def constant_shape(value: ir.Value) -> tuple[int, ...]:
    """Return the shape of an initialiser."""
    return tuple(constant_of(value).shape.numpy())


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    """Return an integer attribute of a node, or ``default``."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def float_attribute(node: ir.Node, name: str, default: float) -> float:
    """Return a float attribute of a node, or ``default``."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def inputs_last(node: ir.Node) -> bool:
    """Return whether a matrix product takes its weight as ``[outputs, inputs]``."""
    return node.op_type == "Gemm" and int_attribute(node, "transB", 0) == 1


def product_obstacle(layer: Layer) -> str | None:
    """Return why a MatMul or Gemm is no product of its activation's rows with a plain matrix."""
    if layer.channel_axis is None:
        return "its weight is the left operand or no plain matrix"
    if int_attribute(layer.node, "transA", 0):
        return "its activation is transposed"
    return None


def operands(node: ir.Node) -> list[ir.Value] | None:
    """Return the float operands of an elementwise or same-range node.

    None when one of them is absent or constant, so that the node cannot take part.
    """
    given = node.inputs[:1] if node.op_type in SAME_RANGE_OPS else node.inputs
    found = [value for value in given if value is not None and not value.is_initializer()]
    return found if len(found) == len(given) else None


def carriers(graph: ir.Graph, ops: frozenset[str]) -> Iterator[tuple[ir.Node, list[ir.Value]]]:
    """Yield the nodes of ``ops`` that only need quantized operands, with these operands."""
    for node in graph:
        if node.op_type in ops and not node.domain and len(node.outputs) == 1:
            found = operands(node)
            if found:
                yield node, found


def float_values(graph: ir.Graph, layers: list[Layer]) -> dict[ir.Value, None]:
    """Return the values that are float32 because a layer or a carrier ties them to a layer.

    Carriers keep the element type, so the type spreads from the layers in both directions without
    running type inference (which knows nothing of foreign domains).

    Returns:
        The values in graph order (graph inputs first).
    """
    known: set[ir.Value] = set()
    for layer in layers:
        if layer.activation is not None:
            known.add(layer.activation)
        known.update((layer.node.outputs[0], layer.output))
    links = [
        [*found, node.outputs[0], fused_output(node.outputs[0])]
        for node, found in carriers(graph, frozenset(ELEMENTWISE_OPS + SAME_RANGE_OPS))
    ]
    changed = True
    while changed:
        changed = False
        for link in itertools.chain(links, reversed(links)):  # both ways: long chains stay linear
            if not known.issuperset(link) and not known.isdisjoint(link):
                known.update(link)
                changed = True
    order = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return {value: None for value in order if value in known}
