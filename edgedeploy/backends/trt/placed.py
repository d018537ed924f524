"""Which nodes of a program became which layers of its engine, and in what those multiply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedeploy.backends.base import (
    Arithmetic,
    ExecutedLayer,
    NodePlacement,
    Placement,
    ProviderPlacement,
)
from edgedeploy.backends.ortmobile.arithmetic import multiply_adds
from edgedeploy.backends.ortmobile.graph import GraphFacts, GraphNode, read_graph
from edgedeploy.backends.ortmobile.profiling import Execution
from edgedeploy.backends.trt.inspector import EngineLayer, EngineLayers
from edgedeploy.backends.trt.program import MODEL
from edgedeploy.backends.trt.recipe import RECIPE

_COUNTED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "MatMul": 2, "LSTM": 3, "GRU": 3, "RNN": 3}
"""Operators of multiply-adds -> inputs whose shapes say how many."""

_UNCOUNTED = ("Attention", "Einsum")
_CONVERSIONS = frozenset(("ai.onnx:QuantizeLinear", "ai.onnx:DequantizeLinear"))
_SOURCE = "TensorRT's engine inspector"


def read_program(artifact: Path) -> GraphFacts:
    """Return a program's graph with its shapes at the first profile's ``opt``.

    Args:
        artifact: What ``compile`` wrote.

    Raises:
        BuildError: The model cannot be read (E312).
    """
    recipe = json.loads((artifact / RECIPE).read_text(encoding="utf-8"))
    profile: dict[str, Any] = next(iter(recipe["profiles"]), {})
    return read_graph(artifact / MODEL, {name: item["opt"] for name, item in profile.items()})


def layers_by_node(graph: GraphFacts, layers: EngineLayers) -> dict[str, EngineLayer]:
    """Return the layer of every node that has one, by the node's name.

    A node of which several layers tell (a weight that is reordered for its convolution, say) goes
    to the one that computes: not to a reformat or a constant. Of a region of which only the ends
    are told, the nodes between them that no other layer has belong to it.
    """
    place = {node.name: number for number, node in enumerate(graph.nodes)}
    found: dict[str, EngineLayer] = {}
    for layer in layers.layers:
        for name in layer.nodes:
            if name in place and (name not in found or _serves(found[name])):
                found[name] = layer
    for layer in layers.layers:
        if layer.within and all(end in place for end in layer.within):
            first, last = sorted(place[end] for end in layer.within)
            for node in graph.nodes[first : last + 1]:
                found.setdefault(node.name, layer)
    return found


def _serves(layer: EngineLayer) -> bool:
    return layer.moves or layer.kind.lower() in ("constant", "shuffle", "noop")


def placement(graph: GraphFacts, layers: EngineLayers, name: str) -> Placement:
    """Return what of the program the engine runs where.

    Nodes that no layer tells of were folded or taken out; they count as taken.

    Args:
        graph: Of the program.
        layers: Of the engine.
        name: What the report calls the engine.
    """
    owners = layers_by_node(graph, layers)
    count = len(layers.layers)
    moving = sum(layer.moves for layer in layers.layers)
    without = sum(node.name not in owners for node in graph.nodes)
    notes = [f"{count} layers, {moving} of them only convert or reorder"]
    if layers.detail == "full" and without:
        notes.append(f"{without} nodes are in no layer: folded, or taken out")
    if layers.detail != "full":
        notes.append("the engine tells names of layers at most: it was built without details")
    taken = tuple(NodePlacement(node=node.name, op=node.op, supported=True) for node in graph.nodes)
    providers = [
        ProviderPlacement(
            provider=name,
            judged=layers.detail != "none",
            partitions=count if layers.detail != "none" else None,
            nodes=taken if layers.detail != "none" else (),
            source=_SOURCE,
            notes=tuple(notes),
        )
    ]
    if any(layer.device == "dla" for layer in layers.layers):
        providers.append(_on_dla(graph, owners, layers))
    return Placement(providers=tuple(providers))


def _on_dla(
    graph: GraphFacts, owners: Mapping[str, EngineLayer], layers: EngineLayers
) -> ProviderPlacement:
    nodes = []
    for node in graph.nodes:
        layer = owners.get(node.name)
        if layer is None:
            continue  # nothing of it is left to run anywhere
        there = layer.device == "dla"
        reason = None if there else f"runs on the GPU, in {layer.name[:80]}"
        nodes.append(NodePlacement(node=node.name, op=node.op, supported=there, reason=reason))
    return ProviderPlacement(
        provider="DLA",
        judged=True,
        partitions=sum(layer.device == "dla" for layer in layers.layers),
        nodes=tuple(nodes),
        source=_SOURCE,
    )


def arithmetic(graph: GraphFacts, layers: EngineLayers) -> Arithmetic | None:
    """Return what the engine computes on integers; None where it does not tell.

    Args:
        graph: Of the program.
        layers: Of the engine; without details it tells nothing of types.
    """
    if layers.detail != "full":
        return None
    owners = layers_by_node(graph, layers)
    found, untold = [], False
    for node in graph.nodes:
        op, layer = node.op.removeprefix("ai.onnx:"), owners.get(node.name)
        if layer is None or op not in (*_COUNTED, *_UNCOUNTED):
            continue  # without a layer it is one of constants: worked out by the builder
        untold |= layer.dtype is None
        found.append(
            ExecutedLayer(
                name=node.name,
                op=layer.kind or op,
                integer=layer.dtype in ("int8", "uint8"),
                macs=_macs(node, op, graph),
            )
        )
    ops = {node.name: node.op for node in graph.nodes}
    conversions = sum(_converts(layer, ops) for layer in layers.layers)
    return None if untold else Arithmetic(layers=tuple(found), conversions=conversions)


def _macs(node: GraphNode, op: str, graph: GraphFacts) -> int | None:
    """Return the multiply-adds of a node, None where its shapes are not known."""
    given = [node.input(place) for place in range(_COUNTED.get(op, 0))]
    names = [*given, str(node.proto.output[0])]
    if not given or not all(graph.static(name) for name in names):
        return None
    shapes = [tuple(d for d in graph.dims[name] if isinstance(d, int)) for name in names]
    return multiply_adds(
        Execution(
            name=node.name,
            op=op,
            provider="",
            duration_us=0,
            inputs=tuple(shapes[:-1]),
            outputs=(shapes[-1],),
        )
    )


def _converts(layer: EngineLayer, ops: Mapping[str, str]) -> bool:
    """Whether a layer does nothing but convert between floats and integers."""
    if layer.nodes and not {ops.get(name) for name in layer.nodes} <= _CONVERSIONS:
        return False
    if not layer.nodes and not layer.moves:
        return False
    read = {tensor.dtype for tensor in layer.inputs[:1]}
    written = {tensor.dtype for tensor in layer.outputs[:1]}
    return ("int8" in read) != ("int8" in written)


def report(artifact: Path, layers: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return placement and arithmetic of an engine as JSON data.

    Args:
        artifact: The program's.
        layers: ``report/layers.json`` of stage ``engine``.
        name: What the report calls the engine.
    """
    graph, made = read_program(artifact), EngineLayers.from_json(layers)
    counted = arithmetic(graph, made)
    return {
        "placement": placement(graph, made, name).to_json(),
        "arithmetic": None if counted is None else counted.to_json(),
    }
