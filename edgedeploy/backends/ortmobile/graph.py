"""What a placement needs to know of a graph: types, shapes, constants and who feeds whom.

onnx is imported where it is used: the backend also runs artifacts where no onnx is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedeploy.errors import BuildError
from edgedeploy.signature import Dim

# Shape inference propagates the values of small tensors only; larger ones are weights.
_KEPT_TENSOR_BYTES = 1024


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One node: its name (``outer/inner`` in a body), ``domain:Op`` and the node itself."""

    name: str
    op: str
    proto: Any
    in_body: bool

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute's value, ``default`` where it is absent."""
        import onnx

        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def input(self, index: int) -> str:
        """Return the name of an input, empty where it is absent."""
        return str(self.proto.input[index]) if index < len(self.proto.input) else ""


@dataclass(slots=True)
class GraphFacts:
    """The nodes of a model with the inferred types of their tensors.

    Attributes:
        nodes: All nodes, bodies after the node that holds them.
        opsets: Version by domain; the standard domain is ``ai.onnx``.
        ir_version: Of the file.
        dtypes: ONNX element type number by tensor name, where known.
        dims: Dims by tensor name, where the rank is known.
        constants: Names of initializers.
        dequantized: Names of initializers behind a DequantizeLinear: constants to a provider
            that takes quantized groups.
    """

    nodes: list[GraphNode]
    opsets: dict[str, int]
    ir_version: int
    dtypes: dict[str, int] = field(default_factory=dict)
    dims: dict[str, tuple[Dim, ...]] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    dequantized: set[str] = field(default_factory=set)

    def static(self, name: str) -> bool:
        """Return whether every dim of a tensor is known."""
        dims = self.dims.get(name)
        return dims is not None and all(isinstance(dim, int) for dim in dims)


def read_graph(model: Path, sizes: Mapping[str, Sequence[int]] | None = None) -> GraphFacts:
    """Return the facts of a model; weights in external data are not read.

    Args:
        model: The ONNX file.
        sizes: Shapes by input name, in place of those that the model states.

    Raises:
        BuildError: The file is no ONNX model (E312).
    """
    import onnx

    try:
        proto = onnx.load(str(model), load_external_data=False)
        for tensor in proto.graph.initializer:
            if len(tensor.raw_data) > _KEPT_TENSOR_BYTES:
                tensor.ClearField("raw_data")
        _resize(proto.graph, sizes or {})
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:
        raise BuildError(
            f"the model cannot be read: {error}", code="E312", subject=model.name
        ) from error
    facts = GraphFacts(
        nodes=list(_nodes(inferred.graph, "")),
        opsets={item.domain or "ai.onnx": item.version for item in inferred.opset_import},
        ir_version=inferred.ir_version,
    )
    _collect(inferred.graph, facts)
    facts.dequantized.update(
        node.proto.output[0]
        for node in facts.nodes
        if node.op == "ai.onnx:DequantizeLinear" and node.input(0) in facts.constants
    )
    return facts


def _resize(graph: Any, sizes: Mapping[str, Sequence[int]]) -> None:
    """Give inputs other shapes, and forget what was inferred for the former ones."""
    if not sizes:
        return
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    for value in graph.input:
        shape = value.type.tensor_type.shape
        for axis, size in zip(shape.dim, sizes.get(value.name, ()), strict=False):
            axis.dim_value = size


def _bodies(node: Any) -> Iterator[Any]:
    import onnx

    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def _nodes(graph: Any, prefix: str) -> Iterator[GraphNode]:
    for index, node in enumerate(graph.node):
        name = prefix + (node.name or f"{node.op_type}_{index}")
        yield GraphNode(name, f"{node.domain or 'ai.onnx'}:{node.op_type}", node, bool(prefix))
        for body in _bodies(node):
            yield from _nodes(body, f"{name}/")


def _collect(graph: Any, facts: GraphFacts) -> None:
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            continue
        facts.dtypes[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            facts.dims[value.name] = tuple(
                dim.dim_value
                if dim.HasField("dim_value") and dim.dim_value >= 0
                else dim.dim_param or None
                for dim in tensor.shape.dim
            )
    for initializer in graph.initializer:
        facts.dtypes[initializer.name] = initializer.data_type
        facts.dims[initializer.name] = tuple(initializer.dims)
        facts.constants.add(initializer.name)
    for node in graph.node:
        for body in _bodies(node):
            _collect(body, facts)
