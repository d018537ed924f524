"""Whether TensorRT computes a typed graph as it stands: found before its parser is asked.

Networks are strongly typed, so what is computed in which type is what the graph says, and the types
of a node must agree. Some graphs are taken and computed otherwise: unsigned integers with a scale
as signed ones, float64 as float32. Those are refused here.

Source: NVIDIA TensorRT documentation, "Working with Quantized Types" and "Strongly Typed Networks";
what TensorRT for RTX 1.7.1 does with each form.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgedeploy.backends.ortmobile.graph import GraphFacts, GraphNode, read_graph
from edgedeploy.errors import Diagnostic

QUANTIZED_TYPES = ("INT8", "INT4", "FLOAT8E4M3FN", "FLOAT4E2M1")
"""Types that a scale may belong to, as ONNX names them."""

TYPES = (
    *("FLOAT", "FLOAT16", "BFLOAT16", "INT32", "INT64", "BOOL", "UINT8"),
    *QUANTIZED_TYPES,
)
"""Types that a tensor of TensorRT may have. UINT8 is for inputs and outputs, next to a Cast."""

QUANTIZE, DEQUANTIZE = "ai.onnx:QuantizeLinear", "ai.onnx:DequantizeLinear"
_ZERO_POINT = 2
_OWN_SCHEME = "quantize the float model with this target's own scheme"


def typed_findings(model: Path) -> tuple[Diagnostic, ...]:
    """Return every reason for which a graph is not computed as it stands (E329).

    Args:
        model: A typed graph; of its weights the zero points alone are read.

    Raises:
        BuildError: The file is no ONNX model (E312).
    """
    facts = read_graph(model)
    zeros = _Constants(model)
    return (
        *_strange_types(facts),
        *(item for node in facts.nodes for item in _quantization(node, facts, zeros)),
        *(item for node in facts.nodes for item in _disagreement(node, facts)),
    )


def type_name(number: int) -> str:
    """Return ONNX's name of an element type, such as ``FLOAT16``."""
    import onnx

    return str(onnx.TensorProto.DataType.Name(number))


def _strange_types(facts: GraphFacts) -> Iterator[Diagnostic]:
    """Yield tensors of types that TensorRT has not; those of QDQ pairs have findings of their own.

    Of a chain of nodes the first one is named, and of a node one tensor.
    """
    quantization = (QUANTIZE, DEQUANTIZE)
    paired = {
        name
        for node in facts.nodes
        if node.op in quantization
        for name in (*node.proto.input, *node.proto.output)
    }
    makers = {name: node for node in facts.nodes for name in node.proto.output}
    named: set[str] = set()
    for name, number in facts.dtypes.items():
        kind = type_name(number)
        maker = makers.get(name)
        if kind in (*TYPES, "UNDEFINED") or name in paired or _behind(maker, kind, facts):
            continue
        subject = name if maker is None else maker.name
        if subject in named:
            continue
        named.add(subject)
        where = f"the tensor {name!r}" if maker is None else f"{maker.proto.op_type} {maker.name}"
        told = f"{where} is {kind}, which TensorRT has no tensors of"
        if kind == "DOUBLE":
            told = f"{where} is DOUBLE, which TensorRT computes in float32 without a word"
        yield Diagnostic(
            code="E329",
            message=told,
            subject=subject,
            hint="convert it in the model: FLOAT for numbers, INT32 or INT64 for indices",
        )


def _behind(maker: GraphNode | None, kind: str, facts: GraphFacts) -> bool:
    """Return whether a node only passes a type on that one of its inputs has already."""
    if maker is None:
        return False
    return any(type_name(facts.dtypes.get(name, 0)) == kind for name in maker.proto.input)


def _quantization(
    node: GraphNode, facts: GraphFacts, constants: _Constants
) -> Iterator[Diagnostic]:
    """Yield what is wrong with a QuantizeLinear or DequantizeLinear."""
    if node.op not in (QUANTIZE, DEQUANTIZE):
        return
    kind = _integers(node, facts)
    if kind not in (*QUANTIZED_TYPES, "UNDEFINED"):
        why = f"{kind} with a scale"
        if kind == "UINT8":
            why = "UINT8 with a scale, which would be read as INT8"
        if kind == "INT32":
            why = "INT32 with a scale, as quantized biases are"
        yield _refused(node, why)
        return
    yield from _blocks(node, facts)
    zero = node.input(_ZERO_POINT)
    if not zero:
        return
    if not constants.holds(zero):
        yield _refused(node, "a zero point that is computed")
    elif constants.nonzero(zero):
        yield _refused(node, "a zero point other than zero (asymmetric quantization)")


def _blocks(node: GraphNode, facts: GraphFacts) -> Iterator[Diagnostic]:
    """Yield a last block that is not whole.

    TensorRT takes the block for the tensor's size over the number of blocks.
    """
    block, axis = node.attribute("block_size", 0), node.attribute("axis", 1)
    dims = facts.dims.get(node.input(0), ())
    if block and -len(dims) <= axis < len(dims):
        size = dims[axis]
        if isinstance(size, int) and size % block:
            yield _refused(node, f"{size} numbers in blocks of {block}, which do not come out even")


def _integers(node: GraphNode, facts: GraphFacts) -> str:
    """Return the type on the integers' side of a QuantizeLinear or DequantizeLinear."""
    if node.op == DEQUANTIZE:
        return type_name(facts.dtypes.get(node.input(0), 0))
    zero = node.input(_ZERO_POINT)
    if zero:
        return type_name(facts.dtypes.get(zero, 0))
    # ONNX, QuantizeLinear: without a zero point and an output_dtype the result is uint8.
    return type_name(node.attribute("output_dtype", 0) or _number("UINT8"))


def _number(name: str) -> int:
    import onnx

    return int(onnx.TensorProto.DataType.Value(name))


def _refused(node: GraphNode, what: str) -> Diagnostic:
    return Diagnostic(
        code="E329",
        message=f"{node.proto.op_type} {node.name} has {what}; TensorRT takes signed 8 and 4 bits "
        "and fp8 with zero points of zero",
        subject=node.name,
        hint=_OWN_SCHEME,
    )


def _disagreement(node: GraphNode, facts: GraphFacts) -> Iterator[Diagnostic]:
    """Yield a node whose operands have several types where its definition allows one."""
    import onnx

    domain, _, op = node.op.partition(":")
    version = facts.opsets.get(domain)
    if version is None:
        return
    try:
        schema = onnx.defs.get_schema(op, version, domain.replace("ai.onnx", "", 1))
    except onnx.defs.SchemaError:
        return
    seen: dict[str, dict[str, str]] = {}
    formal = list(schema.inputs)
    for place, name in enumerate(node.proto.input):
        if not name or not formal:
            continue
        wanted = formal[min(place, len(formal) - 1)]
        if not wanted.is_homogeneous:
            continue
        kind = type_name(facts.dtypes.get(name, 0))
        if kind != "UNDEFINED":
            seen.setdefault(wanted.type_str, {})[name] = kind
    for kinds in seen.values():
        if len(set(kinds.values())) > 1:
            told = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            yield Diagnostic(
                code="E329",
                message=f"{op} {node.name} has operands of several types: {told}",
                subject=node.name,
                hint="put a Cast where one type shall become the other",
            )


class _Constants:
    """The zero points of a model."""

    def __init__(self, model: Path) -> None:
        import onnx

        self._folder = model.parent
        proto: Any = onnx.load(str(model), load_external_data=False)
        self._tensors = {item.name: item for graph in _graphs(proto) for item in graph.initializer}

    def holds(self, name: str) -> bool:
        """Return whether a tensor is an initialiser."""
        return name in self._tensors

    def nonzero(self, name: str) -> bool:
        """Return whether any element of an initialiser is not zero."""
        from onnx import numpy_helper

        array = numpy_helper.to_array(self._tensors[name], str(self._folder))
        return bool(array.astype("float32").any())


def _graphs(proto: Any) -> Iterator[Any]:
    """Yield the main graph and all bodies."""
    waiting = [proto.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)
