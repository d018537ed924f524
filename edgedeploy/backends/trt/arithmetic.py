"""Which layers a typed graph states on integers; what the engine does, only its device knows.

A layer is on integers when both of its operands were made from int8 by DequantizeLinear: the form
that TensorRT documents for int8 kernels ("Working with Quantized Types", "Explicit Quantization").
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgedeploy.backends.base import Arithmetic, ExecutedLayer
from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.ortmobile.arithmetic import multiply_adds
from edgedeploy.backends.ortmobile.graph import GraphFacts, GraphNode, read_graph
from edgedeploy.backends.ortmobile.profiling import Execution, Shape

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_COUNTED = frozenset((*_PRODUCTS, "LSTM", "GRU", "RNN"))
_UNCOUNTED = frozenset(("Einsum", "Attention"))
_CONVERSIONS = frozenset(("ai.onnx:QuantizeLinear", "ai.onnx:DequantizeLinear"))
# What may stand between a DequantizeLinear and the layer that reads it.
_PASSING = frozenset(
    f"ai.onnx:{name}"
    for name in ("Cast", "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
)


def stated_arithmetic(model: Path, inputs: Inputs) -> Arithmetic:
    """Return what a typed graph computes on integers.

    Args:
        model: The typed graph.
        inputs: One set of inputs; multiply-adds are counted for their sizes.

    Raises:
        BuildError: The file is no ONNX model (E312).
    """
    facts = read_graph(model, {name: array.shape for name, array in inputs.items()})
    makers = {name: node for node in facts.nodes for name in node.proto.output}
    layers = []
    for node, op, macs in multiplying(facts):
        integer = op in _PRODUCTS and all(
            _is_dequantized(node.input(place), makers, facts) for place in (0, 1)
        )
        layers.append(ExecutedLayer(name=node.name, op=op, integer=integer, macs=macs))
    conversions = sum(node.op in _CONVERSIONS for node in facts.nodes)
    return Arithmetic(layers=tuple(layers), conversions=conversions, stated=True)


def multiplying(facts: GraphFacts) -> Iterator[tuple[GraphNode, str, int | None]]:
    """Yield convolutions, products and recurrent nodes: node, operator type, multiply-adds.

    Multiply-adds are None where the shapes of the node are not known.
    """
    for node in facts.nodes:
        op = node.op.removeprefix("ai.onnx:")
        if op in _COUNTED:
            yield node, op, _macs(node, op, facts)
        elif op in _UNCOUNTED:
            yield node, op, None


def _is_dequantized(name: str, makers: dict[str, GraphNode], facts: GraphFacts) -> bool:
    """Return whether a tensor comes from int8."""
    import onnx

    while (maker := makers.get(name)) is not None:
        if maker.op == "ai.onnx:DequantizeLinear":
            return bool(facts.dtypes.get(maker.input(0)) == onnx.TensorProto.INT8)
        if maker.op not in _PASSING:
            return False
        name = maker.input(0)
    return False


def _macs(node: GraphNode, op: str, facts: GraphFacts) -> int | None:
    """Return the multiply-adds of a node, None where its shapes are not known."""
    given = [_shape(name, facts) for name in node.proto.input if name]
    made = [_shape(name, facts) for name in node.proto.output if name]
    needed = [*given[: 3 if op in ("LSTM", "GRU", "RNN") else 2], *made[:1]]
    shapes = [shape for shape in (*given, *made) if shape is not None]
    if None in needed or not shapes or not made:
        return None
    return multiply_adds(
        Execution(
            name=node.name,
            op=op,
            provider="",
            duration_us=0,
            inputs=tuple(shape or () for shape in given),
            outputs=tuple(shape or () for shape in made),
        )
    )


def _shape(name: str, facts: GraphFacts) -> Shape | None:
    dims = facts.dims.get(name)
    if dims is None:
        return None
    sizes = tuple(dim for dim in dims if isinstance(dim, int))
    return sizes if len(sizes) == len(dims) else None
