"""What is gathered of each watched tensor, computed by nodes inside the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from edgedeploy.quant.names import Names
from edgedeploy.quant.table import TensorRange


class Statistic(Protocol):
    """Takes in one summary of each watched tensor per sample, in constant memory."""

    def watch(self, graph: ir.Graph, value: ir.Value, names: Names) -> list[ir.Value]:
        """Return values, computed by nodes added to the graph, that summarise one sample."""

    def update(self, tensor: str, summary: Sequence[np.ndarray]) -> bool:
        """Take in one sample's summary; False says that the tensor has non-finite elements."""

    def end_group(self) -> None:
        """Note that the samples since the last call belong together: one sample or sequence."""

    def ranges(self) -> dict[str, TensorRange]:
        """Return the range of every tensor that was watched; all groups must be ended."""


@dataclass(slots=True)
class _Extremes:
    """What MinMax holds of one tensor: over everything, of the open group, summed over groups."""

    low: float = math.inf
    high: float = -math.inf
    group_low: float = math.inf
    group_high: float = -math.inf
    low_sum: float = 0.0
    high_sum: float = 0.0
    groups: int = 0
    samples: int = 0


class MinMax:
    """The least and the greatest element: over all samples, and averaged over the groups.

    A group is a sample, or a whole sequence: the frames of a recording differ far more than
    recordings do, and the loud ones must not be averaged away.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Extremes] = {}

    def watch(self, graph: ir.Graph, value: ir.Value, names: Names) -> list[ir.Value]:
        """Return the scalars least element, greatest element and sum.

        The sum is there for NaN alone, which the runtime's least and greatest pass over.
        """
        self._seen[str(value.name)] = _Extremes()
        return [_reduced(graph, op, value, names) for op in ("ReduceMin", "ReduceMax", "ReduceSum")]

    def update(self, tensor: str, summary: Sequence[np.ndarray]) -> bool:
        """Take in one sample; an empty tensor (least above greatest) changes nothing."""
        low, high, total = (float(item) for item in summary)
        if low == math.inf and high == -math.inf:
            return not math.isnan(total)
        if not (math.isfinite(low) and math.isfinite(high)) or math.isnan(total):
            return False
        seen = self._seen[tensor]
        seen.group_low = min(seen.group_low, low)
        seen.group_high = max(seen.group_high, high)
        seen.samples += 1
        return True

    def end_group(self) -> None:
        """Add the open group's extremes to the averages."""
        for seen in self._seen.values():
            if seen.group_low <= seen.group_high:
                seen.low = min(seen.low, seen.group_low)
                seen.high = max(seen.high, seen.group_high)
                seen.low_sum += seen.group_low
                seen.high_sum += seen.group_high
                seen.groups += 1
                seen.group_low, seen.group_high = math.inf, -math.inf

    def ranges(self) -> dict[str, TensorRange]:
        """Return the range of every tensor that was watched."""
        return {name: _range(seen) for name, seen in self._seen.items()}


def _range(seen: _Extremes) -> TensorRange:
    """Return the range; the averages are held inside it, whatever rounding did to them."""
    if not seen.samples:
        return TensorRange(low=0.0, high=0.0, mean_low=0.0, mean_high=0.0, count=0)
    mean_low = min(max(seen.low_sum / seen.groups, seen.low), seen.high)
    mean_high = min(max(seen.high_sum / seen.groups, mean_low), seen.high)
    return TensorRange(
        low=seen.low, high=seen.high, mean_low=mean_low, mean_high=mean_high, count=seen.samples
    )


def _reduced(graph: ir.Graph, op: str, value: ir.Value, names: Names) -> ir.Value:
    name = names.free(f"{value.name}_{op}")
    result = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(()))
    node = ir.node(op, [value], {"keepdims": 0}, outputs=[result], name=name)
    producer = value.producer()
    if producer is None:
        graph.append(node)
    else:
        graph.insert_after(producer, node)
    return result
