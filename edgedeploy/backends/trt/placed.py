"""Which nodes of a program became which layers of its engine, and in what those multiply."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from edgedeploy.backends.base import (
    Arithmetic,
    ExecutedLayer,
    NodePlacement,
    Placement,
    ProviderPlacement,
)
from edgedeploy.backends.trt.inspector import EngineLayer, EngineLayers
from edgedeploy.backends.trt.program import MODEL

_CONVERSIONS = frozenset(("QuantizeLinear", "DequantizeLinear"))
_UNCOUNTED = frozenset(("Attention", "Einsum", "LSTM", "GRU", "RNN"))
_PRODUCTS = frozenset(("Conv", "ConvTranspose", "MatMul", "Gemm"))
_SOURCE = "TensorRT's engine inspector"

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNode:
    """One node of a program.

    Attributes:
        name: Its name, as TensorRT's parser has it.
        op: Operator type.
        inputs, outputs: Names of what it reads and writes.
        transposed: Of a Gemm: whether its first input is.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    transposed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A program's nodes, and its shapes where they are known.

    Attributes:
        nodes: In order.
        shapes: By the name of a tensor, at the sizes that the engine is tuned for.
    """

    nodes: tuple[GraphNode, ...]
    shapes: Mapping[str, Shape]


def read_graph(artifact: Path) -> Graph:
    """Return the graph of a program with its shapes at the first profile's ``opt``.

    Args:
        artifact: What ``compile`` wrote: ``program/model.onnx`` and ``program/recipe.json``.
    """
    import onnx

    path = artifact / MODEL
    model = onnx.load(path, load_external_data=False)
    recipe = json.loads(path.with_name("recipe.json").read_text(encoding="utf-8"))
    sizes = {name: item["opt"] for name, item in next(iter(recipe["profiles"]), {}).items()}
    for given in model.graph.input:
        for dim, size in zip(
            given.type.tensor_type.shape.dim, sizes.get(given.name, ()), strict=False
        ):
            dim.dim_value = size
    # What was inferred for open sizes would stand in the way.
    del model.graph.value_info[:]
    for made in model.graph.output:
        made.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {item.name: tuple(item.dims) for item in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        known = value.type.tensor_type.HasField("shape")
        if known and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    nodes = tuple(
        GraphNode(
            name=node.name,
            op=node.op_type,
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            transposed=any(item.name == "transA" and item.i for item in node.attribute),
        )
        for node in inferred.node
    )
    return Graph(nodes=nodes, shapes=shapes)


def layers_by_node(graph: Graph, layers: EngineLayers) -> dict[str, EngineLayer]:
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


def placement(graph: Graph, layers: EngineLayers, name: str) -> Placement:
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
    taken = tuple(
        NodePlacement(node=node.name, op=f"ai.onnx:{node.op}", supported=True)
        for node in graph.nodes
    )
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
    graph: Graph, owners: Mapping[str, EngineLayer], layers: EngineLayers
) -> ProviderPlacement:
    nodes = []
    for node in graph.nodes:
        layer = owners.get(node.name)
        if layer is None:
            continue  # nothing of it is left to run anywhere
        there = layer.device == "dla"
        reason = None if there else f"runs on the GPU, in {layer.name[:80]}"
        nodes.append(
            NodePlacement(node=node.name, op=f"ai.onnx:{node.op}", supported=there, reason=reason)
        )
    return ProviderPlacement(
        provider="DLA",
        judged=True,
        partitions=sum(layer.device == "dla" for layer in layers.layers),
        nodes=tuple(nodes),
        source=_SOURCE,
    )


def arithmetic(graph: Graph, layers: EngineLayers) -> Arithmetic | None:
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
        layer = owners.get(node.name)
        if layer is None or node.op not in _PRODUCTS | _UNCOUNTED:
            continue
        untold |= layer.dtype is None
        found.append(
            ExecutedLayer(
                name=node.name,
                op=layer.kind or node.op,
                integer=layer.dtype in ("int8", "uint8"),
                macs=multiply_adds(node, graph.shapes),
            )
        )
    ops = {node.name: node.op for node in graph.nodes}
    conversions = sum(_converts(layer, ops) for layer in layers.layers)
    return None if untold else Arithmetic(layers=tuple(found), conversions=conversions)


def _converts(layer: EngineLayer, ops: Mapping[str, str]) -> bool:
    """Whether a layer does nothing but convert between floats and integers."""
    if layer.nodes and not {ops.get(name) for name in layer.nodes} <= _CONVERSIONS:
        return False
    if not layer.nodes and not layer.moves:
        return False
    read = {tensor.dtype for tensor in layer.inputs[:1]}
    written = {tensor.dtype for tensor in layer.outputs[:1]}
    return ("int8" in read) != ("int8" in written)


def multiply_adds(node: GraphNode, shapes: Mapping[str, Shape]) -> int | None:
    """Return the multiply-adds of one inference of a node; None where its shapes are not known."""
    if node.op not in _PRODUCTS:
        return None
    known = [shapes.get(name) for name in (*node.inputs[:2], node.outputs[0])]
    if any(shape is None for shape in known):
        return None
    first, weights, result = (shape or () for shape in known)
    if node.op == "Conv":
        return prod(result) * prod(weights[1:])  # [C_out, C_in / groups, ...]
    if node.op == "ConvTranspose":
        return prod(first) * prod(weights[1:])  # [C_in, C_out / groups, ...]
    return prod(result) * _depth(node, first)


def _depth(node: GraphNode, first: Sequence[int]) -> int:
    return first[0] if node.transposed else first[-1]


def report(artifact: Path, layers: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return placement and arithmetic of an engine as JSON data.

    Args:
        artifact: The program's.
        layers: ``report/layers.json`` of stage ``engine``.
        name: What the report calls the engine.
    """
    graph, made = read_graph(artifact), EngineLayers.from_json(layers)
    counted = arithmetic(graph, made)
    return {
        "placement": placement(graph, made, name).to_json(),
        "arithmetic": None if counted is None else counted.to_json(),
    }
