"""Which nodes stay in float so that half precision changes no result that matters.

The rules, and where they are from:

- A value that may leave the half range stays in float, and so do all nodes that make or take it.
  (NVIDIA Model Optimizer, AutoCast guide: node classification by the magnitudes of inputs and
  outputs; its threshold is 512, here it is the range itself with headroom, see docs.)
- Sums, squares and exponentials of what nobody measured stay in float (PyTorch, CUDA ops that
  autocast to float32: pow, exp, norm, sum, ...).
- The statistics of a normalisation stay in float (:mod:`edgedeploy.passes.half_norms`).
- A constant that half precision turns into zero, such as an epsilon, keeps its node in float, and
  those that take the result.
- A Softmax of large logits stays in float with what makes them (TensorRT documentation, Accuracy
  Considerations: the unit in the last place of large magnitudes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgedeploy.passes.half_norms import statistics_nodes
from edgedeploy.passes.half_ranges import MOVES, SUMS, Bounds, bounds_of, inner_sum
from edgedeploy.passes.half_types import HALF_MAX
from edgedeploy.passes.rewire import constant_array

LARGE_LOGIT = 128.0
"""From here on neighbours in half precision are 1/8 apart: an exponential is 6 % wrong or more."""

_VANISHES = 2.0**-25
"""Magnitudes up to here round to zero (IEEE 754-2019: half of the smallest subnormal, to even)."""

Reasons = Iterator[tuple[ir.Node, str]]
"""Nodes that stay in float, with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What half precision would spoil.

    Attributes:
        kept: Nodes that must stay in float, each with the reason.
        unknown: Names of float values whose magnitude nothing tells.
        values: How many float values there are in all.
    """

    kept: Mapping[ir.Node, str]
    unknown: tuple[str, ...]
    values: int


def guard(model: ir.Model, ranges: Mapping[str, tuple[float, float]]) -> Guard:
    """Return what has to stay in float.

    Args:
        model: A model in normal form with inferred types.
        ranges: ``(low, high)`` that calibration saw, by value name; empty without any.
    """
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    bounds = bounds_of(nodes, ranges)
    kept = dict.fromkeys(statistics_nodes(nodes), "statistics of a normalisation")
    for node, reason in (
        *_beyond(nodes, bounds),
        *_unmeasured(nodes, bounds),
        *_long_sums(nodes, bounds),
        *_vanishing(nodes),
        *_large_logits(nodes, bounds),
    ):
        kept.setdefault(node, reason)
    computed = [value for node in nodes for value in node.outputs if _is_float(value)]
    return Guard(
        kept={node: kept[node] for node in nodes if node in kept},
        unknown=tuple(value.name or "" for value in computed if value not in bounds),
        values=len(computed),
    )


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _floats(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the float values of a node that are computed."""
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.const_value is None and _is_float(value):
            yield value


def _beyond(nodes: list[ir.Node], bounds: Mapping[ir.Value, Bounds]) -> Reasons:
    """Yield the nodes that make or take a value beyond the half range.

    What they make is as large, as far as anybody knows, where nothing bounds it.
    """
    large = {
        value: f"{value.name} {_reach(found)}"
        for value, found in bounds.items()
        if found.top > HALF_MAX and value.const_value is None
    }
    for node in nodes:
        reason = next((large[value] for value in _floats(node) if value in large), None)
        if reason is not None:
            yield node, reason
            for value in node.outputs:
                if value not in bounds:
                    large[value] = reason


def _reach(found: Bounds) -> str:
    if found.seen is not None:
        return f"reached {found.seen:.4g} on the calibration data"
    return f"may reach {found.top:.4g}"


def _unmeasured(nodes: list[ir.Node], bounds: Mapping[ir.Value, Bounds]) -> Reasons:
    """Yield the nodes that make large numbers of small ones, if nothing tells how large."""
    for node in nodes:
        if not node.outputs or not _is_float(node.outputs[0]) or node.outputs[0] in bounds:
            continue
        op = node.op_type
        grows = op in ("Exp", "ReduceProd") or (op == "Mul" and node.inputs[0] is node.inputs[1])
        if op == "Pow":
            power = constant_array(node.inputs[1])
            grows = power is None or power.size != 1 or float(power) > 1
        if grows:
            yield node, f"{op} of values whose magnitude is not known"


def _long_sums(nodes: list[ir.Node], bounds: dict[ir.Value, Bounds]) -> Reasons:
    """Yield the sums that leave the half range: a kernel may add up in the type of its operand."""
    for node in nodes:
        if node.op_type not in SUMS or not _is_float(node.inputs[0]):
            continue
        total = inner_sum(node, bounds)
        if total is None:
            yield node, f"nothing tells how large the sum of {node.op_type} is"
        elif total > HALF_MAX:
            yield node, f"its sum may reach {total:.4g}"


def _vanishing(nodes: list[ir.Node]) -> Reasons:
    for node in nodes:
        for value in node.inputs:
            array = constant_array(value) if _is_float(value) else None
            if array is None or not array.size or not array.any():
                continue
            top = float(np.abs(array).max())
            if top <= _VANISHES:
                reason = f"the constant {top:.4g} is zero in half precision"
                yield node, reason
                for user in _users(node):
                    yield user, f"{node.outputs[0].name}: {reason}"


def _users(node: ir.Node) -> Iterator[ir.Node]:
    """Yield the nodes that compute with a node's result, and what moves it there."""
    for value in node.outputs:
        for user, _ in value.uses():
            yield user
            if user.op_type in MOVES:
                yield from _users(user)


def _large_logits(nodes: list[ir.Node], bounds: Mapping[ir.Value, Bounds]) -> Reasons:
    for node in nodes:
        value = node.inputs[0] if node.op_type in ("LogSoftmax", "Softmax") else None
        found = bounds.get(value) if value is not None else None
        # What was seen decides: bounds of products say little of logits.
        if value is None or found is None or found.seen is None or found.seen < LARGE_LOGIT:
            continue
        reason = f"logits reached {found.seen:.4g} on the calibration data"
        yield node, reason
        producer = value.producer()
        while producer is not None:
            yield producer, reason
            moved = producer.inputs[0] if producer.op_type in MOVES else None
            producer = moved.producer() if moved is not None else None
