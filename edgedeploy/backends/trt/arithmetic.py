"""Which layers of a typed graph are on integers, as the graph states them.

A layer is on integers whose operands all come out of a DequantizeLinear of int8: the form that
TensorRT joins into an int8 kernel (NVIDIA TensorRT documentation, "Working with Quantized Types",
explicit quantization). Whether it does so, only the device knows. Layers on fp8 are not on
integers, and neither are those that read weights of 4 or 8 bits beside float activations.
Multiply-adds are counted at the sizes of one interpreted inference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgedeploy.backends.base import Arithmetic, ExecutedLayer
from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.ortmobile.arithmetic import multiply_adds
from edgedeploy.backends.ortmobile.graph import GraphFacts, GraphNode, read_graph
from edgedeploy.backends.ortmobile.profiling import executed_nodes
from edgedeploy.backends.trt.program import MODEL, InterpretedRunner
from edgedeploy.backends.trt.typed import DEQUANTIZE, QUANTIZE, type_name

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN")
_UNCOUNTED = ("Attention", "Einsum")
_OPERANDS = 2
# What may stand between a DequantizeLinear and the layer that reads it.
_PASSING = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def arithmetic(folder: Path, inputs: Inputs) -> Arithmetic:
    """Return what a program states.

    Args:
        folder: An artifact's, with its program.
        inputs: One set of inputs.

    Raises:
        BuildError: It does not load (E317) or run (E330-E333).
    """
    facts = read_graph(folder / MODEL)
    nodes = {node.proto.name: node for node in facts.nodes}
    makers = {name: node for node in facts.nodes for name in node.proto.output}
    totals: dict[tuple[str, str], int | None] = {}
    with (
        tempfile.TemporaryDirectory(prefix="edgedeploy-profile-") as private,
        InterpretedRunner(folder, profile_prefix=Path(private) / "profile") as runner,
    ):
        runner.run(inputs)
        for item in executed_nodes(runner):
            key = (item.name, item.op)
            if item.op in _UNCOUNTED:
                totals[key] = None
            elif item.op in _LAYERS:
                totals[key] = (totals.get(key) or 0) + multiply_adds(item)
    return Arithmetic(
        layers=tuple(
            ExecutedLayer(
                name=name,
                op=op,
                integer=name in nodes and _on_integers(nodes[name], makers, facts),
                macs=macs,
            )
            for (name, op), macs in totals.items()
        ),
        conversions=sum(_converts_integers(node, facts) for node in facts.nodes),
        stated=True,
    )


def _converts_integers(node: GraphNode, facts: GraphFacts) -> bool:
    """Return whether a node makes integers of floats, or floats of integers."""
    if node.op not in (QUANTIZE, DEQUANTIZE):
        return False
    held = node.input(0) if node.op == DEQUANTIZE else str(node.proto.output[0])
    return not type_name(facts.dtypes.get(held, 0)).startswith("FLOAT")


def _on_integers(node: GraphNode, makers: Mapping[str, GraphNode], facts: GraphFacts) -> bool:
    """Return whether both operands of a layer are int8 numbers with a scale."""
    if node.proto.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return False
    for place in range(_OPERANDS):
        maker = makers.get(node.input(place))
        while maker is not None and maker.proto.op_type in _PASSING:
            maker = makers.get(maker.input(0))
        if maker is None or maker.op != DEQUANTIZE:
            return False
        if type_name(facts.dtypes.get(maker.input(0), 0)) != "INT8":
            return False
    return True
