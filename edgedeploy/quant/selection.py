"""Which layers, carriers and values a scheme quantizes, and with which parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from edgedeploy.errors import DataError, ProfileError
from edgedeploy.quant.layers import (
    LAYER_OPS,
    RECURRENT_OPS,
    SAME_RANGE_OPS,
    Layer,
    carriers,
    find_layers,
    float_values,
    fused_output,
    is_lookup,
    is_weight,
    recurrent_weights,
)
from edgedeploy.quant.mixtures import joins_unlike, reads_unlike
from edgedeploy.quant.numerics import ActivationParameters, Dtype, activation_parameters
from edgedeploy.quant.scheme import Role, Scheme
from edgedeploy.quant.table import CalibrationTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Exempt:
    """A node with weights that does not get the bits which the scheme asks for, and why."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What becomes integer.

    Attributes:
        layers: The layers.
        carriers: The elementwise and same-range nodes, without a Concat of unlike ranges.
        values: Parameters of every value that gets a Q/DQ pair, in graph order.
        produced: Those of them whose producer is integer, so that every consumer reads the
            dequantized value.
        kept: Nodes with weights that stay in float.
        recurrent: Recurrent nodes whose weights become int8.
    """

    layers: list[Layer]
    recurrent: list[ir.Node]
    carriers: list[ir.Node]
    values: dict[ir.Value, ActivationParameters]
    produced: set[ir.Value]
    kept: list[Exempt]


def select(
    graph: ir.Graph, scheme: Scheme, table: CalibrationTable, only: str | None = None
) -> Selection:
    """Return what ``scheme`` quantizes in a graph whose affine nodes are folded.

    Args:
        graph: The main graph.
        scheme: What to quantize and how.
        table: Its calibration table.
        only: Name of the one node with a weight that is quantized; None for all.

    Raises:
        ProfileError: A ``keep_float`` pattern matches no node (E266).
        DataError: The table has no range for a layer's value (E263).
    """
    check_patterns(graph, scheme)
    every = find_layers(graph)
    chosen, recurrent, kept = choose(graph, every, scheme, table)
    if only is not None:
        chosen = [layer for layer in chosen if layer.node.name == only]
        recurrent = [node for node in recurrent if node.name == only]
    wanted = {layer.activation for layer in chosen if layer.activation is not None}
    produced = {layer.output for layer in chosen if layer.node.op_type in scheme.quantized_outputs}
    known = float_values(graph, every)
    ops = frozenset(scheme.elementwise) | frozenset(SAME_RANGE_OPS)
    candidates = [
        (node, given, fused_output(node.outputs[0]))
        for node, given in carriers(graph, ops)
        if node.outputs[0] in known
        and not _kept_by_name(node, scheme)
        and not joins_unlike(node, table, scheme)
    ]
    through = _reachable(candidates, wanted | produced)
    needed = set(wanted)
    for _, given, result in reversed(candidates):
        if result in needed and through.issuperset(given):
            needed.update(given)
    quantized = wanted | produced | (through & needed)
    integer = [
        (node, given, result)
        for node, given, result in candidates
        if result in quantized and quantized.issuperset(given)
    ]
    produced |= {result for _, _, result in integer}
    return Selection(
        layers=chosen,
        recurrent=recurrent,
        carriers=[node for node, _, _ in integer],
        values=_parameters(known, quantized, integer, scheme, table),
        produced=produced,
        kept=kept,
    )


def _reachable(
    candidates: Iterable[tuple[ir.Node, list[ir.Value], ir.Value]], start: set[ir.Value]
) -> set[ir.Value]:
    """Return ``start`` and all results of carriers whose operands are all in the set."""
    found = set(start)
    for _, given, result in candidates:
        if found.issuperset(given):
            found.add(result)
    return found


def _parameters(
    order: Iterable[ir.Value],
    quantized: set[ir.Value],
    integer: list[tuple[ir.Node, list[ir.Value], ir.Value]],
    scheme: Scheme,
    table: CalibrationTable,
) -> dict[ir.Value, ActivationParameters]:
    """Return each quantized value's parameters; same-range results take their operand's."""
    moved = {result: given[0] for node, given, result in integer if node.op_type in SAME_RANGE_OPS}
    found: dict[ir.Value, ActivationParameters] = {}
    for value in order:
        if value not in quantized:
            continue
        if value in moved:
            found[value] = found[moved[value]]
            continue
        seen = table.tensors.get(str(value.name))
        if seen is None:
            raise DataError(
                f"the calibration table has no range for tensor {value.name!r}",
                code="E263",
                subject=value.name,
                hint="The table belongs to another model: calibrate again.",
            )
        low, high = table.range_of(str(value.name), scheme.ranges, scheme.symmetric)
        found[value] = activation_parameters(low, high, _dtype(scheme), scheme.symmetric)
    return found


def _dtype(scheme: Scheme) -> Dtype:
    if scheme.weights == "float8":
        return "float8e4m3fn"
    if scheme.activations != "static16":
        return scheme.activation_dtype
    return "uint16" if scheme.activation_dtype == "uint8" else "int16"


def choose(
    graph: ir.Graph, every: list[Layer], scheme: Scheme, table: CalibrationTable | None
) -> tuple[list[Layer], list[ir.Node], list[Exempt]]:
    """Return the layers and the recurrent nodes that a scheme quantizes, and what it leaves.

    Args:
        graph: The main graph.
        every: Its layers.
        scheme: What to quantize.
        table: Layers whose activation was empty on every sample stay in float; None where no
            calibration is needed.
    """
    roles = layer_roles(graph, every)
    by_node = {layer.node: layer for layer in every}
    chosen: list[Layer] = []
    recurrent: list[ir.Node] = []
    kept: list[Exempt] = []
    for node in graph.all_nodes():
        if node.op_type not in LAYER_OPS + RECURRENT_OPS or node.domain:
            continue
        layer = by_node.get(node)
        if layer is None and not _has_weight(node):
            continue
        reason = _reason_to_keep(node, layer, roles.get(node, ()), scheme, table, graph)
        if reason is not None:
            kept.append(Exempt(node=str(node.name), op=node.op_type, reason=reason))
        elif layer is not None:
            chosen.append(layer)
        else:
            recurrent.append(node)
    return chosen, recurrent, kept


def _has_weight(node: ir.Node) -> bool:
    """Whether a node that is no layer is worth a line: a Gather that looks up, a MatMul by one."""
    if node.op_type == "Gather":
        return is_lookup(node)
    return node.op_type != "MatMul" or any(is_weight(value) for value in node.inputs)


def _reason_to_keep(
    node: ir.Node,
    layer: Layer | None,
    roles: Iterable[Role],
    scheme: Scheme,
    table: CalibrationTable | None,
    graph: ir.Graph,
) -> str | None:
    if node.graph is not graph:
        return "it is in a subgraph"
    if layer is None and not recurrent_weights(node):
        return "its weight is no float32 initialiser"
    if not _takes(scheme, node.op_type):
        return f"the scheme keeps {node.op_type} in float"
    if scheme.keeps(str(node.name)):
        return "the profile keeps it in float"
    held = [role for role in roles if role in scheme.keep_float_roles]
    if held:
        return f"the scheme keeps {held[0]} layers in float"
    if layer is None or layer.activation is None or table is None:
        return None
    for value in (layer.activation, layer.output):
        seen = table.tensors.get(str(value.name))
        if seen is not None and seen.count == 0:
            return "its activation was empty on every calibration sample"
    if "last" in roles and reads_unlike(layer.activation, table, scheme):
        return "it reads values of very different ranges in one tensor, such as boxes and scores"
    return None


def _takes(scheme: Scheme, op_type: str) -> bool:
    if op_type in scheme.keep_float_ops:
        return False
    if op_type in RECURRENT_OPS:
        return scheme.recurrent != "float"
    return scheme.gather if op_type == "Gather" else op_type in scheme.ops


def _kept_by_name(node: ir.Node, scheme: Scheme) -> bool:
    return node.op_type in scheme.keep_float_ops or scheme.keeps(str(node.name))


def layer_roles(graph: ir.Graph, every: list[Layer]) -> dict[ir.Node, tuple[Role, ...]]:
    """Return the roles that each layer plays, by node."""
    by_node = {layer.node: layer for layer in every if layer.activation is not None}
    behind: set[ir.Value] = set()  # computed from a layer's result
    for node in graph:
        if node in by_node or any(value in behind for value in node.inputs if value is not None):
            behind.update(node.outputs)
    before: set[ir.Value] = set()  # some layer is computed from it
    for node in reversed(graph):
        if node in by_node or any(value in before for value in node.outputs):
            before.update(value for value in node.inputs if value is not None)
    roles: dict[ir.Node, tuple[Role, ...]] = {}
    for node, layer in by_node.items():
        found: list[Role] = []
        if layer.activation not in behind:
            found.append("first")
        if not any(value in before for value in node.outputs):
            found.append("last")
        if layer.depthwise:
            found.append("depthwise")
        roles[node] = tuple(found)
    return roles


def check_patterns(graph: ir.Graph, scheme: Scheme) -> None:
    """Refuse a ``keep_float`` pattern that matches no node of the graph.

    Raises:
        ProfileError: One does (E266).
    """
    names = [str(node.name) for node in graph.all_nodes()]
    for pattern in scheme.keep_float:
        alone = Scheme(keep_float=(pattern,))
        if not any(alone.keeps(name) for name in names):
            raise ProfileError(
                f"`keep_float` pattern {pattern!r} matches no node",
                code="E266",
                subject=pattern,
                hint="`edgedeploy inspect` lists the node names of the normal form.",
            )
