"""Four-bit weights as TensorRT takes them: an INT4 tensor behind a DequantizeLinear.

The quantizer writes ``com.microsoft.MatMulNBits``, which ONNX Runtime and OpenVINO read; TensorRT
takes ONNX's own form of opset 21, with a scale per block. The numbers stay the same. Source: NVIDIA
TensorRT documentation, "Working with Quantized Types", section on INT4 weight-only quantization.
"""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx_ir as ir

from edgedeploy.backends import INT4_OPSET
from edgedeploy.errors import BuildError

_OP, _DOMAIN = "MatMulNBits", "com.microsoft"
_MIDDLE = 8
_BITS, _INPUTS = 4, 3


def has_four_bits(model: ir.Model) -> bool:
    """Return whether a model has products with four-bit weights as the quantizer writes them."""
    return any(node.op_type == _OP and node.domain == _DOMAIN for node in model.graph)


def spell_four_bits(model: ir.Model) -> None:
    """Replace every ``MatMulNBits`` of a model by DequantizeLinear and MatMul, in place.

    Args:
        model: As the quantizer wrote it: symmetric, packed by rows.

    Raises:
        BuildError: Other forms of the operator, or an opset without INT4 (E329).
    """
    if model.opset_imports.get("", 0) < INT4_OPSET:
        raise BuildError(
            f"4-bit weights need opset {INT4_OPSET} here, and the model is of opset "
            f"{model.opset_imports.get('', 0)}",
            code="E329",
            hint=f"bring the float model to opset {INT4_OPSET} before it is quantized",
        )
    weights: dict[tuple[ir.Value, ir.Value], ir.Value] = {}
    for node in list(model.graph):
        if node.op_type == _OP and node.domain == _DOMAIN:
            _replace(node, weights)
    for value in {part for pair in weights for part in pair}:
        if not value.uses():
            del model.graph.initializers[str(value.name)]
    model.opset_imports.pop(_DOMAIN, None)
    if any(node.domain == _DOMAIN for node in model.graph.all_nodes()):
        model.opset_imports[_DOMAIN] = 1


def _replace(node: ir.Node, weights: dict[tuple[ir.Value, ir.Value], ir.Value]) -> None:
    graph = node.graph
    given = list(node.inputs)
    if graph is None or any(value is not None for value in given[_INPUTS:]):
        raise _refused(node, "has zero points, a bias or an order of its own")
    if _number(node, "bits") != _BITS:
        raise _refused(node, "has weights that are not of 4 bits")
    activation, packed, scales = given[:_INPUTS]
    if packed is None or scales is None or packed.const_value is None or scales.const_value is None:
        raise _refused(node, "has weights that are computed")
    key = (packed, scales)
    if key not in weights:
        weights[key] = _dequantized(node, graph, packed, scales)
    product = ir.node("MatMul", [activation, weights[key]], name=node.name)
    made, old = product.outputs[0], node.outputs[0]
    made.name, made.type, made.shape = old.name, old.type, old.shape
    graph.insert_after(node, product)
    for user, place in tuple(old.uses()):
        user.replace_input_with(place, made)
    for place, output in enumerate(list(graph.outputs)):
        if output is old:
            graph.outputs[place] = made
    graph.remove(node, safe=True)


def _dequantized(node: ir.Node, graph: ir.Graph, packed: ir.Value, scales: ir.Value) -> ir.Value:
    """Return the weight in float, [inputs, outputs], made before the node that reads it."""
    inputs, outputs, block = (_number(node, name) for name in ("K", "N", "block_size"))
    bytes_, factors = packed.const_value, scales.const_value
    if bytes_ is None or factors is None:
        raise _refused(node, "has weights that are computed")

    def integers() -> ir.TensorProtocol:
        # [outputs, blocks, block / 2]; of each byte the lower half stands first, and 8 means 0.
        pairs = bytes_.numpy()
        nibbles = np.stack((pairs & 0xF, pairs >> 4), axis=-1).reshape(outputs, -1)
        numbers = np.ascontiguousarray(nibbles.T).astype(np.int8) - np.int8(_MIDDLE)
        return ir.tensor(numbers.astype(ml_dtypes.int4))

    def steps() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(factors.numpy().reshape(outputs, -1).T))

    blocks = factors.size // outputs
    whole = blocks * block
    sizes = (whole, outputs)
    weight = _initializer(graph, f"{packed.name}_int4", integers, ir.DataType.INT4, sizes)
    scale = _initializer(graph, f"{scales.name}_blocks", steps, factors.dtype, (blocks, outputs))
    dequantize = ir.node(
        "DequantizeLinear",
        [weight, scale],
        attributes={"axis": 0, "block_size": block},
        name=f"{packed.name}_DequantizeLinear",
    )
    graph.insert_before(node, dequantize)
    made = dequantize.outputs[0]
    made.name = f"{packed.name}_dequantized"
    made.type, made.shape = ir.TensorType(factors.dtype), ir.Shape(sizes)
    # TensorRT takes the block for the weight's size over the number of blocks, whatever block_size
    # says: a last block that is not whole would move the borders of all.
    return made if whole == inputs else _cut(node, graph, made, inputs)


def _cut(node: ir.Node, graph: ir.Graph, weight: ir.Value, rows: int) -> ir.Value:
    """Return the first rows of a weight, made before the node that reads it."""
    limits = []
    for part, number in (("starts", 0), ("ends", rows), ("axes", 0)):
        tensor = ir.tensor(np.array([number], np.int64), name=f"{weight.name}_{part}")
        kind, shape = ir.TensorType(tensor.dtype), ir.Shape((1,))
        limit = ir.Value(name=tensor.name, const_value=tensor, type=kind, shape=shape)
        graph.register_initializer(limit)
        limits.append(limit)
    cut = ir.node("Slice", [weight, *limits], name=f"{weight.name}_Slice")
    graph.insert_before(node, cut)
    made = cut.outputs[0]
    made.name, made.type = f"{weight.name}_rows", weight.type
    made.shape = ir.Shape((rows, *list(weight.shape or ())[1:]))
    return made


def _initializer(
    graph: ir.Graph,
    name: str,
    make: Callable[[], ir.TensorProtocol],
    dtype: ir.DataType,
    sizes: tuple[int, int],
) -> ir.Value:
    """Return a new initialiser whose elements are worked out when it is written."""
    shape = ir.Shape(sizes)
    tensor = ir.LazyTensor(make, dtype, shape, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(dtype), shape=shape)
    graph.register_initializer(value)
    return value


def _number(node: ir.Node, name: str) -> int:
    attribute = node.attributes.get(name)
    if attribute is None:
        raise _refused(node, f"has no {name}")
    return attribute.as_int()


def _refused(node: ir.Node, why: str) -> BuildError:
    return BuildError(
        f"{node.op_type} {node.name} {why}",
        code="E329",
        subject=node.name,
        hint="quantize the float model with this target's own scheme, or use another `quantize:`",
    )
