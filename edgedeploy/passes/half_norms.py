"""Normalisations that are spelled out as means, squares and roots.

Exporters write LayerNorm as ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, or by the mean of
squares less the square of the mean, and a vector's norm as ReduceL2, Clip, Div. Squares and
differences of nearly equal numbers are what half precision is worst at. TensorRT's builder warns
of these operators in FP16 and asks for FP32 or for the fused operator, whose statistics are in
float by definition (ONNX, LayerNormalization, ``stash_type``; TensorRT 8.6 release notes on
normalization layers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from edgedeploy.passes.half_ranges import MOVES, SUMS, is_square
from edgedeploy.passes.rewire import constant_array

FUSED = frozenset(
    ["GroupNormalization", "InstanceNormalization", "LpNormalization", "MeanVarianceNormalization"]
)
"""Fused operators whose definition does not say in what type their statistics are."""

_NORMS = frozenset(("ReduceL2",))
# What may stand between a reduction and its use as a statistic.
_BETWEEN = MOVES | {"Abs", "Add", "Cast", "Clip", "Div", "Max", "Mul", "Pow", "Sqrt", "Sub"}
_DEEPEST = 24


def statistics_nodes(nodes: Iterable[ir.Node]) -> set[ir.Node]:
    """Return the nodes of all normalisations up to the one that applies it to the data."""
    found: set[ir.Node] = set()
    for node in nodes:
        if node.op_type in _NORMS or (_is_root(node) and _is_statistic(node.inputs[0])):
            applied = list(_applied(node.outputs[0]))
            if any(user.op_type in ("Div", "Mul") for user in applied):
                found.add(node)
                _collect(node.inputs[0], found)
                for user in applied:
                    _collect_application(user, found)
        elif node.op_type in FUSED or _is_half_inside(node):
            found.add(node)
    return found


def _is_half_inside(node: ir.Node) -> bool:
    """Tell whether a LayerNormalization asks for other statistics than those in float."""
    kind = node.attributes.get("stash_type")
    asked = kind is not None and kind.as_int() != int(ir.DataType.FLOAT)
    return node.op_type == "LayerNormalization" and asked


def _is_root(node: ir.Node) -> bool:
    if node.op_type == "Sqrt":
        return True
    power = constant_array(node.inputs[1]) if node.op_type == "Pow" else None
    return power is not None and power.size == 1 and abs(float(power)) == 0.5


def _operands(node: ir.Node) -> list[ir.Value]:
    """Return the operands that are computed."""
    given = node.inputs[:1] if node.op_type in MOVES | SUMS else node.inputs
    return [value for value in given if value is not None and value.const_value is None]


def _is_statistic(value: ir.Value | None, depth: int = 0) -> bool:
    """Tell whether a value comes from reductions alone."""
    node = value.producer() if value is not None else None
    if node is None or depth > _DEEPEST:
        return False
    if node.op_type in SUMS:
        return True
    operands = _operands(node)
    return (
        node.op_type in _BETWEEN
        and bool(operands)
        and all(_is_statistic(operand, depth + 1) for operand in operands)
    )


def _collect(value: ir.Value | None, found: set[ir.Node]) -> None:
    """Add what computes a statistic: back to the squares, and to the mean that these take off."""
    node = value.producer() if value is not None else None
    if node is None or node in found:
        return
    if node.op_type in SUMS:
        found.add(node)
        square = node.inputs[0].producer() if node.inputs[0] is not None else None
        if square is not None and is_square(square):
            found.add(square)
            _collect_difference(square.inputs[0], found)
    elif _is_statistic(value):
        found.add(node)
        for operand in _operands(node):
            _collect(operand, found)


def _collect_difference(value: ir.Value | None, found: set[ir.Node]) -> None:
    """Add the subtraction of a mean, and what computes this."""
    node = value.producer() if value is not None else None
    if node is not None and node.op_type == "Sub" and _is_statistic(node.inputs[1]):
        found.add(node)
        _collect(node.inputs[1], found)


def _applied(value: ir.Value) -> Iterator[ir.Node]:
    """Yield the nodes from a root on, up to those that apply it to the data."""
    pending, seen = [value], set()
    while pending:
        for user, _ in pending.pop().uses():
            if user in seen:
                continue
            seen.add(user)
            scales = user.op_type in ("Div", "Mul") and len(_operands(user)) == 1
            passes = user.op_type in (*MOVES, "Add", "Clip", "Max", "Reciprocal")
            joins = user.op_type in ("Div", "Mul") and not scales
            if scales or passes or joins:
                yield user
            if scales or (passes and len(_operands(user)) == 1):
                pending += user.outputs


def _collect_application(user: ir.Node, found: set[ir.Node]) -> None:
    found.add(user)
    for operand in _operands(user):
        _collect_difference(operand, found)
