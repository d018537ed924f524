"""What the parser of TensorRT for RTX takes of a graph: every node that it refuses, and why."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.backends.base import NodePlacement, ProviderPlacement
from edgedeploy.backends.ortmobile.graph import GraphFacts, GraphNode, read_graph
from edgedeploy.backends.rtx.onebuild import parser_errors
from edgedeploy.errors import BuildError, Diagnostic

PROVIDER = "TensorRT-RTX"
MOST_ROUNDS = 12
"""How often a graph is parsed for more refusals, without the nodes that were refused before."""

_BINDINGS, _LIBRARIES = "tensorrt_rtx_bindings", "tensorrt_rtx_libs"
# "... In compileGraph at /_src/optimizer/codeGenerator.cpp:2012)": where in its own source.
_OWN_PLACE = re.compile(r"\s*In \w+ at /_src/\S+")
_HEAD = re.compile(r"^\w+::\w+: Error Code \d+: (?:Internal Error |API Usage Error )?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One node that the parser refuses.

    Attributes:
        node: Its number in the main graph; None where the parser names none.
        name: Node name, ``outer/inner`` in a body; empty where the parser names none.
        op: Operator, or empty.
        reason: Why, in the parser's words where it has any.
    """

    node: int | None
    name: str
    op: str
    reason: str

    def diagnostic(self) -> Diagnostic:
        """Return it as a finding (E327)."""
        who = " ".join(filter(None, (self.op, self.name)))
        return Diagnostic(
            code="E327",
            message=f"{who}: {self.reason}" if who else self.reason,
            subject=self.name or None,
            hint="replace the node, choose another `quantize:`, or drop this target",
        )


def is_installed() -> bool:
    """Return whether TensorRT for RTX is there."""
    return importlib.util.find_spec(_BINDINGS) is not None


def package_folders() -> list[str]:
    """Return the folders that its packages lie in, each once."""
    specs = (importlib.util.find_spec(name) for name in (_BINDINGS, _LIBRARIES))
    places = (Path(spec.origin).parents[1] for spec in specs if spec is not None and spec.origin)
    return list(dict.fromkeys(map(str, places)))


def not_installed() -> BuildError:
    """Return what to say where it is not (E326)."""
    return BuildError(
        "TensorRT for RTX is not installed",
        code="E326",
        subject="tensorrt-rtx-cu13",
        hint="pip install 'edgedeploy[tensorrt-rtx]'",
    )


def find_refusals(program: Path) -> tuple[Refusal, ...]:
    """Return every node that the parser refuses.

    It ends at the first node that it cannot convert. So that node is taken out, what it makes
    becomes an input, and the rest is parsed again.

    Args:
        program: A typed graph.

    Raises:
        BuildError: The parser is not installed (E326), or the file is no ONNX model (E312).
    """
    if not is_installed():
        raise not_installed()
    import onnx

    facts = read_graph(program)
    proto = onnx.load(str(program), load_external_data=False)
    names = _Names(facts)
    numbers = list(range(len(proto.graph.node)))
    found: list[Refusal] = []
    for _ in range(MOST_ROUNDS):
        errors = _parse(proto.SerializeToString(), program)
        if not errors:
            break
        refused = [names.refusal(item, numbers) for item in errors]
        found += [item for item in refused if item not in found]
        gone = {item.node for item in refused if item.node is not None}
        if not gone or not _without(proto, gone, numbers, facts):
            break
    return tuple(found)


def place_nodes(facts: GraphFacts, found: Sequence[Refusal]) -> ProviderPlacement:
    """Return which nodes of a graph the parser takes.

    Args:
        facts: Of the graph.
        found: What :func:`find_refusals` returned for it.
    """
    reasons = {item.name: item.reason for item in found}
    owner = ""
    for node in facts.nodes:  # a body follows the node that holds it
        if not node.in_body:
            owner = node.name
        elif node.name in reasons:
            reasons.setdefault(owner, f"its body holds {node.proto.name}, which is refused")
    nodes = tuple(
        NodePlacement(
            node=node.name,
            op=node.op,
            supported=node.name not in reasons,
            reason=reasons.get(node.name),
        )
        for node in facts.nodes
    )
    outer_nodes = (
        item.supported for item, node in zip(nodes, facts.nodes, strict=True) if not node.in_body
    )
    taken = [False, *outer_nodes]
    begun = sum(now and not before for before, now in itertools.pairwise(taken))
    return ProviderPlacement(
        provider=PROVIDER,
        judged=True,
        partitions=begun,
        nodes=nodes,
        source=f"supports_model_v2 of the parser of TensorRT for RTX {_version()}",
        notes=("an engine holds the whole graph or none of it",),
    )


def refusals(errors: Sequence[Mapping[str, Any]], program: Path) -> list[Diagnostic]:
    """Return the findings for a graph that a build did not parse (E327).

    Args:
        errors: What the builder's process told of its parser.
        program: The typed graph; it is parsed again for all that is refused.
    """
    found = find_refusals(program) or tuple(
        Refusal(node=None, name=item["name"], op=item["op"], reason=_reason(item))
        for item in errors
    )
    return [item.diagnostic() for item in found]


def clean(text: str) -> str:
    """Return a message of TensorRT as one line, without places in its own source."""
    text = _OWN_PLACE.sub("", " ".join(text.split()))
    text = _HEAD.sub("", text).replace("ITensor::getDimensions: ", "")
    text = _HEAD.sub("", text).strip()
    # The bracket that it opened before its place ends with it.
    return text.removeprefix("(") if text.count("(") > text.count(")") else text


def _parse(content: bytes, program: Path) -> list[dict[str, Any]]:
    """Return the errors of one pass of the parser; none where it takes the whole graph."""
    trt = importlib.import_module(_BINDINGS)
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if parser.supports_model_v2(content, str(program)):
        return []
    return parser_errors(parser)


def _version() -> str:
    return str(importlib.import_module(_BINDINGS).__version__)


def _without(proto: Any, gone: set[int], numbers: list[int], facts: GraphFacts) -> bool:
    """Take nodes out of a graph, in place; return whether the rest can be parsed without them.

    Args:
        proto: The model.
        gone: Their numbers in the whole graph.
        numbers: The numbers in the whole graph of the nodes that are left; kept up to date.
        facts: Of the whole graph.
    """
    import onnx

    places = [place for place, number in enumerate(numbers) if number in gone]
    made = {name for place in places for name in proto.graph.node[place].output if name}
    for place in reversed(places):
        del proto.graph.node[place]
        del numbers[place]
    outputs = [item for item in proto.graph.output if item.name not in made]
    read = {name for node in proto.graph.node for name in node.input} & made
    if not places or not outputs or any(name not in facts.dims for name in read):
        return False
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, facts.dtypes[name], facts.dims[name])
        for name in sorted(read)
    )
    return True


class _Names:
    """Finds the nodes of a graph that the parser names."""

    def __init__(self, facts: GraphFacts) -> None:
        self._outer = [node for node in facts.nodes if not node.in_body]
        # A node of a body, and the number of the outer node that holds it, by its own name.
        self._inner: dict[str, list[tuple[GraphNode, int]]] = {}
        owner = -1
        for node in facts.nodes:
            if node.in_body:
                self._inner.setdefault(node.proto.name, []).append((node, owner))
            else:
                owner += 1

    def refusal(self, error: Mapping[str, Any], numbers: Sequence[int]) -> Refusal:
        """Return the refusal that an error of the parser tells of.

        Args:
            error: Of the graph without some nodes.
            numbers: The numbers in the whole graph of the nodes that it was left with.
        """
        name, op, place = error["name"], error["op"], error["node"]
        number = numbers[place] if 0 <= place < len(numbers) else None
        outer = self._outer[number] if number is not None else None
        if outer is not None and outer.proto.op_type == op and outer.proto.name == name:
            return Refusal(node=number, name=outer.name, op=op, reason=_reason(error))
        for node, owner in self._inner.get(name, []):
            if node.proto.op_type == op:
                return Refusal(node=owner, name=node.name, op=op, reason=_reason(error))
        return Refusal(node=number, name=name, op=op, reason=_reason(error))


def _reason(error: Mapping[str, Any]) -> str:
    """Return why a parser refused a node, one line."""
    text = error["text"]
    if error["check"].startswith("check") and text == "false":
        return "TensorRT for RTX has no importer for the operator"
    if "Plugin not found" in text:
        return "TensorRT for RTX has neither an importer nor a plugin for the operator"
    told = text.partition("[checkMacros")[0].replace(f"Invalid Node - {error['name']}", "", 1)
    return clean(told).removeprefix("Assertion failed: ") or "its parser gives no reason"
