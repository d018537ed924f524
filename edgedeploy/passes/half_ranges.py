"""How far the values of a graph may reach: observed by calibration, or bounded by the operators.

Calibration watches what a quantizer needs, not everything. Between watched values interval
arithmetic bounds the others; what it cannot bound is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgedeploy.passes.half_types import HALF_MAX
from edgedeploy.passes.rewire import constant_array

HEADROOM = 2.0
"""How many times as far as the calibration data new data may reach."""

MOVES = frozenset(
    (
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "GlobalMaxPool",
        "Identity",
        "MaxPool",
        "ReduceMax",
        "ReduceMin",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    )
)
"""Operators whose results are among the values of their first operand."""

SUMS = frozenset(
    (
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
    )
)
"""Operators that add up elements along axes."""

_AVERAGES = frozenset(("AveragePool", "GlobalAveragePool", "ReduceMean"))
_UNIT = frozenset(("HardSigmoid", "Sigmoid", "Softmax"))
_TURNS = frozenset(("Cos", "Erf", "Sin", "Softsign", "Tanh"))
# Bent lines: never below -1 (Selu: below -1.76), never above a positive operand.
_BENT = frozenset(("Celu", "Elu", "Gelu", "HardSwish", "Mish", "Selu", "Swish"))
_SELU_LOW = -1.7581


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where all elements of a value lie.

    Attributes:
        low, high: With headroom where they come from calibration.
        seen: The greatest magnitude that calibration saw of this very value, without headroom;
            None where the bounds are derived.
    """

    low: float
    high: float
    seen: float | None = None

    @property
    def top(self) -> float:
        """The greatest magnitude."""
        return max(abs(self.low), abs(self.high))


Found = dict[ir.Value, Bounds]
"""Values whose bounds are known."""


def bounds_of(nodes: Iterable[ir.Node], ranges: Mapping[str, tuple[float, float]]) -> Found:
    """Return the bounds of values, as far as they are known.

    Args:
        nodes: The nodes, each after those that it needs.
        ranges: ``(low, high)`` of what calibration watched, by value name.
    """
    found: Found = {}
    for node in nodes:
        for value in node.inputs:
            if value is not None and value not in found and value.producer() is None:
                _set(found, value, _observed(value, ranges) or _of_constant(value))
        fused = _before_activation(node, ranges)
        derived = fused or _derived(node, found)
        for value in node.outputs:
            _set(found, value, _narrower(_observed(value, ranges), derived))
    return found


def inner_sum(node: ir.Node, found: Found) -> float | None:
    """Return how large a sum grows before it is divided or its root taken; None: not known.

    Args:
        node: One of :data:`SUMS`.
        found: Bounds of its operand among others.
    """
    operand = node.inputs[0]
    count = _summed(node)
    if operand is None or operand not in found or count is None:
        return None
    top = found[operand].top
    if node.op_type in ("ReduceL2", "ReduceSumSquare"):
        top *= top
    elif node.op_type == "ReduceLogSumExp":
        top = math.exp(min(top, 700.0))
    return count * top


def sum_length(shape: ir.Shape | None, axes: Iterable[int]) -> int | None:
    """Return how many elements lie along axes; None where a size is not fixed."""
    if shape is None:
        return None
    sizes = [shape[axis] for axis in axes]
    fixed = [size for size in sizes if isinstance(size, int)]
    return math.prod(fixed) if len(fixed) == len(sizes) else None


def _set(found: Found, value: ir.Value, bounds: Bounds | None) -> None:
    if bounds is not None and math.isfinite(bounds.low) and math.isfinite(bounds.high):
        found[value] = bounds


def _narrower(observed: Bounds | None, derived: Bounds | None) -> Bounds | None:
    """Return what both allow: an activation's own limits hold for new data as well."""
    if observed is None or derived is None:
        return observed or derived
    low, high = max(observed.low, derived.low), min(observed.high, derived.high)
    return Bounds(low, high, observed.seen) if low <= high else observed


def _observed(value: ir.Value, ranges: Mapping[str, tuple[float, float]]) -> Bounds | None:
    if value.name is None or value.name not in ranges:
        return None
    low, high = ranges[value.name]
    # The range is widened about zero, where weights and biases have it, not about its middle.
    return Bounds(
        low * (HEADROOM if low < 0 else 1 / HEADROOM),
        high * (HEADROOM if high > 0 else 1 / HEADROOM),
        max(abs(low), abs(high)),
    )


def _of_constant(value: ir.Value) -> Bounds | None:
    array = constant_array(value)
    if array is None or array.dtype.kind not in "fiu" or not array.size:
        return None
    # An infinity is meant: it loses nothing in half precision.
    finite = array[np.isfinite(array)]
    return Bounds(float(finite.min()), float(finite.max())) if finite.size else Bounds(0.0, 0.0)


def _before_activation(node: ir.Node, ranges: Mapping[str, tuple[float, float]]) -> Bounds | None:
    """Return the bounds of a layer's result of which only the Relu or Clip after it was watched.

    What these cut off may overflow: infinity is cut off at the same place.
    """
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or len(node.outputs) != 1:
        return None
    users = [user for user, _ in node.outputs[0].uses()]
    if len(users) != 1 or users[0].op_type not in ("Clip", "Relu"):
        return None
    return _observed(users[0].outputs[0], ranges)


def _derived(node: ir.Node, found: Found) -> Bounds | None:
    """Return the bounds of a node's first output, from those of its operands."""
    given = [found.get(value) if value is not None else None for value in node.inputs]
    first = given[0] if given else None
    op = node.op_type
    if node.domain:
        return None
    if op in _UNIT:
        return Bounds(0.0, 1.0)
    if op in _TURNS:
        return Bounds(-1.0, 1.0)
    if op == "ConstantOfShape":
        return _filling(node)
    if op == "Cast" and node.inputs[0] is not None and node.inputs[0].dtype == ir.DataType.BOOL:
        return Bounds(0.0, 1.0)
    if op in ("Conv", "Gemm", "MatMul"):
        return _product(node, given)
    if first is None or (op in _PAIRS and None in given):
        return None
    if op in MOVES or op in _AVERAGES or op == "Cast":
        return Bounds(first.low, first.high)
    if op in SUMS:
        return _sum(node, first)
    if op in _BENT:
        return Bounds(max(min(first.low, 0.0), _SELU_LOW), max(first.high * 1.06, 0.0))
    if op in _SINGLE:
        return _SINGLE[op](first)
    if op in _PAIRS:
        by_deviations = _by_deviations(node) if op == "Div" else None
        return by_deviations or _folded(op, [item for item in given if item is not None], node)
    return _by_constants(node, first, given)


def _filling(node: ir.Node) -> Bounds:
    given = node.attributes.get("value")
    value = 0.0 if given is None else float(given.as_tensor().numpy().reshape(-1)[0])
    return Bounds(value, value)


def _relu(item: Bounds) -> Bounds:
    return Bounds(max(item.low, 0.0), max(item.high, 0.0))


def _exponential(item: Bounds) -> Bounds:
    return Bounds(0.0, math.exp(item.high) if item.high < 700 else math.inf)


def _inverse(item: Bounds) -> Bounds | None:
    if item.low <= 0 <= item.high:
        return None
    return Bounds(1 / item.high, 1 / item.low)


_SINGLE: dict[str, Callable[[Bounds], Bounds | None]] = {
    "Abs": lambda item: Bounds(0.0, item.top),
    "Exp": _exponential,
    "Neg": lambda item: Bounds(-item.high, -item.low),
    "Reciprocal": _inverse,
    "Relu": _relu,
    "Softplus": lambda item: Bounds(0.0, max(item.high, 0.0) + math.log(2)),
    "Sqrt": lambda item: Bounds(math.sqrt(max(item.low, 0.0)), math.sqrt(max(item.high, 0.0))),
}


def _multiplied(one: Bounds, two: Bounds) -> Bounds:
    ends = [a * b for a in (one.low, one.high) for b in (two.low, two.high)]
    return Bounds(min(ends), max(ends))


def _divided(one: Bounds, two: Bounds) -> Bounds | None:
    inverse = _inverse(two)
    return None if inverse is None else _multiplied(one, inverse)


_PAIRS: dict[str, Callable[[Bounds, Bounds], Bounds | None]] = {
    "Add": lambda one, two: Bounds(one.low + two.low, one.high + two.high),
    "Concat": lambda one, two: Bounds(min(one.low, two.low), max(one.high, two.high)),
    "Div": _divided,
    "Max": lambda one, two: Bounds(max(one.low, two.low), max(one.high, two.high)),
    "Min": lambda one, two: Bounds(min(one.low, two.low), min(one.high, two.high)),
    "Mul": _multiplied,
    "Sub": lambda one, two: Bounds(one.low - two.high, one.high - two.low),
    "Sum": lambda one, two: Bounds(one.low + two.low, one.high + two.high),
}


def _folded(op: str, given: list[Bounds], node: ir.Node) -> Bounds | None:
    if op == "Mul" and node.inputs[0] is node.inputs[1]:
        return Bounds(0.0, given[0].top ** 2)
    result: Bounds | None = given[0]
    for item in given[1:]:
        result = _PAIRS[op](result, item) if result is not None else None
    return result


def _by_constants(node: ir.Node, first: Bounds, given: list[Bounds | None]) -> Bounds | None:
    """Return the bounds of a result that attributes or constant operands decide."""
    op = node.op_type
    if op == "Clip":
        low, high = first.low, first.high
        if len(given) > 1 and given[1] is not None:
            low, high = max(low, given[1].low), max(high, given[1].low)
        if len(given) > 2 and given[2] is not None:
            low, high = min(low, given[2].high), min(high, given[2].high)
        return Bounds(low, high)
    if op == "Pow":
        power = constant_array(node.inputs[1])
        if power is not None and power.size == 1 and float(power) > 0:
            top = first.top ** float(power)
            odd = float(power) % 2 == 1
            return Bounds(-top if odd and first.low < 0 else 0.0, top)
        return None
    if op == "Where" and len(given) == 3 and given[1] is not None and given[2] is not None:
        return _PAIRS["Concat"](given[1], given[2])
    if op == "LeakyRelu" or (op == "PRelu" and given[1] is not None and given[1].top <= 1):
        return Bounds(min(first.low, 0.0), max(first.high, 0.0))
    if op == "LayerNormalization":
        return _normalised(node, given)
    return None


def _normalised(node: ir.Node, given: list[Bounds | None]) -> Bounds | None:
    """Return the bounds after a normalisation: of n elements none is sqrt(n) deviations away."""
    operand = node.inputs[0]
    rank = operand.shape.rank() if operand is not None and operand.shape is not None else 0
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    count = sum_length(operand.shape if operand else None, range(axis % max(rank, 1), rank))
    if count is None or given[1] is None:
        return None
    shift = given[2].top if len(given) > 2 and given[2] is not None else 0.0
    top = math.sqrt(count) * given[1].top + shift
    return Bounds(-top, top)


def _by_deviations(node: ir.Node) -> Bounds | None:
    """Return the bounds of ``x / sqrt(mean(x * x) + e)``: of n elements none passes sqrt(n)."""
    root = _maker(node.inputs[1], "Sqrt")
    mean = root.inputs[0] if root is not None else None
    total = _maker(mean, "Add")
    if total is not None:
        arrays = [constant_array(value) for value in total.inputs]
        small = next((array for array in arrays if array is not None and array.size), None)
        if small is None or small.min() < 0:
            return None
        mean = total.inputs[0 if arrays[0] is None else 1]
    reduction = _maker(mean, "ReduceMean")
    if reduction is None or not _keeps_axes(reduction):
        return None
    square = reduction.inputs[0].producer() if reduction.inputs[0] is not None else None
    if square is None or not is_square(square) or square.inputs[0] is not node.inputs[0]:
        return None
    count = _summed(reduction)
    return None if count is None else Bounds(-math.sqrt(count), math.sqrt(count))


def _keeps_axes(node: ir.Node) -> bool:
    return "keepdims" not in node.attributes or node.attributes["keepdims"].as_int() == 1


def _maker(value: ir.Value | None, op: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op else None


def is_square(node: ir.Node) -> bool:
    """Tell whether a node squares its first operand."""
    if node.op_type == "Mul":
        return node.inputs[0] is node.inputs[1]
    power = constant_array(node.inputs[1]) if node.op_type == "Pow" else None
    return power is not None and power.size == 1 and float(power) == 2


def _axes(node: ir.Node, rank: int) -> list[int] | None:
    """Return the axes of a reduction; None where they are computed."""
    if "axes" in node.attributes:
        return [axis % rank for axis in node.attributes["axes"].as_ints()]
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return list(range(rank))
    array = constant_array(node.inputs[1])
    return None if array is None else [int(axis) % rank for axis in array.reshape(-1)]


def _summed(node: ir.Node) -> int | None:
    operand = node.inputs[0]
    if operand is None or operand.shape is None:
        return None
    axes = _axes(node, operand.shape.rank())
    return None if axes is None else sum_length(operand.shape, axes)


def _sum(node: ir.Node, first: Bounds) -> Bounds | None:
    count = _summed(node)
    if count is None:
        return None
    if node.op_type == "ReduceSum":
        return Bounds(min(count * first.low, 0.0), max(count * first.high, 0.0))
    if node.op_type == "ReduceL1":
        return Bounds(0.0, count * first.top)
    if node.op_type == "ReduceL2":
        return Bounds(0.0, math.sqrt(count) * first.top)
    return Bounds(0.0, count * first.top**2) if node.op_type == "ReduceSumSquare" else None


def _product(node: ir.Node, given: list[Bounds | None]) -> Bounds | None:
    """Return the bounds of a sum of products by the largest of each side.

    It is far from what is reached, so it can only tell that a product is small.
    """
    one, two = given[0], given[1]
    right = node.inputs[1]
    if one is None or two is None or right is None or right.shape is None:
        return None
    rank = right.shape.rank()
    if node.op_type == "Conv":
        count = sum_length(right.shape, range(1, rank))
    else:
        across = node.op_type == "Gemm" and "transB" in node.attributes
        across = across and bool(node.attributes["transB"].as_int())
        count = sum_length(right.shape, [rank - 1 if across or rank == 1 else rank - 2])
    if count is None:
        return None
    shift = given[2].top if len(given) > 2 and given[2] is not None else 0.0
    top = count * one.top * two.top + shift
    return Bounds(-top, top) if top <= HALF_MAX else None
