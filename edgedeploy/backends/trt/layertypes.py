"""In which types a typed graph computes: what a strongly typed network keeps to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedeploy.backends.ortmobile.graph import GraphFacts, GraphNode
from edgedeploy.errors import BuildError

# Converting, or making a tensor: no arithmetic whose type could be chosen.
_NO_ARITHMETIC = frozenset(
    f"ai.onnx:{name}"
    for name in (
        *("Cast", "CastLike", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
        *("Constant", "ConstantOfShape", "Shape", "Size", "If", "Loop", "Scan"),
    )
)
_COMPUTED = frozenset(
    (
        *("float32", "float16", "bfloat16", "float8e4m3fn", "float8e5m2", "float4e2m1"),
        *("int8", "int4"),
    )
)
_FLOATS = ("float16", "float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTypes:
    """The types of a graph.

    Attributes:
        types: Names of ONNX element types, lower case, of what the graph computes in or quantizes
            to, sorted; indices and flags do not count.
        default: The float type of most nodes.
        exceptions: The type of the other nodes by name.
    """

    types: tuple[str, ...]
    default: str
    exceptions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return what a release without strong typing must be told, as JSON data."""
        return {"default": self.default, "exceptions": dict(self.exceptions)}


def layer_types(facts: GraphFacts) -> LayerTypes:
    """Return the types that a graph computes in.

    Args:
        facts: Of the typed graph, with the types of its tensors.

    Raises:
        BuildError: A node that computes in another type than most has no name (E312).
    """
    names = {number: name for number, name in _names().items() if name in _COMPUTED}
    types = sorted({names[number] for number in facts.dtypes.values() if number in names})
    computed = {
        node.name: (node, kind)
        for node in facts.nodes
        if node.op not in _NO_ARITHMETIC and (kind := _type(node, facts, names)) is not None
    }
    votes = Counter(kind for _, kind in computed.values())
    default = max(_FLOATS, key=lambda kind: votes[kind]) if votes else "float32"
    exceptions = {}
    for node, kind in computed.values():
        if kind == default:
            continue
        if not node.proto.name:
            raise BuildError(
                f"the node {node.name!r} computes in {kind} and has no name to say so by",
                code="E312",
                subject=node.name,
                hint="name the nodes of the model",
            )
        exceptions[node.proto.name] = kind
    return LayerTypes(types=tuple(types), default=default, exceptions=exceptions)


def _type(node: GraphNode, facts: GraphFacts, names: Mapping[int, str]) -> str | None:
    """Return the float type of a node: of its first float input, or else of its outputs."""
    for tensor in (*node.proto.input, *node.proto.output):
        name = names.get(facts.dtypes.get(tensor, 0))
        if name in _FLOATS:
            return name
    return None


def _names() -> dict[int, str]:
    import onnx

    return {
        number: "float32" if name == "FLOAT" else name.lower()
        for name, number in onnx.TensorProto.DataType.items()
    }
