"""What is gathered of each watched tensor, computed by nodes inside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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

    def ranges(self) -> dict[str, TensorRange]:
        """Return the range of every tensor that was watched."""


class MinMax:
    """The least and the greatest element: over all samples, and averaged over the samples."""

    def __init__(self) -> None:
        self._seen: dict[str, TensorRange] = {}

    def watch(self, graph: ir.Graph, value: ir.Value, names: Names) -> list[ir.Value]:
        """Return the scalars least element, greatest element and sum.

        The sum is there for NaN alone, which the runtime's least and greatest pass over.
        """
        self._seen[str(value.name)] = TensorRange(
            low=0.0, high=0.0, mean_low=0.0, mean_high=0.0, count=0
        )
        return [_reduced(graph, op, value, names) for op in ("ReduceMin", "ReduceMax", "ReduceSum")]

    def update(self, tensor: str, summary: Sequence[np.ndarray]) -> bool:
        """Take in one sample; an empty tensor (least above greatest) changes nothing."""
        low, high, total = (float(item) for item in summary)
        if low == np.inf and high == -np.inf:
            return not np.isnan(total)
        if not (np.isfinite(low) and np.isfinite(high)) or np.isnan(total):
            return False
        old = self._seen[tensor]
        count = old.count + 1
        self._seen[tensor] = TensorRange(
            low=min(low, old.low) if old.count else low,
            high=max(high, old.high) if old.count else high,
            mean_low=old.mean_low + (low - old.mean_low) / count,
            mean_high=old.mean_high + (high - old.mean_high) / count,
            count=count,
        )
        return True

    def ranges(self) -> dict[str, TensorRange]:
        """Return the range of every tensor that was watched."""
        return {name: _ordered(seen) for name, seen in self._seen.items()}


def _ordered(seen: TensorRange) -> TensorRange:
    """Return the range with the means inside it, whatever rounding did to them."""
    return replace(
        seen,
        mean_low=min(max(seen.mean_low, seen.low), seen.high),
        mean_high=min(max(seen.mean_high, seen.mean_low, seen.low), seen.high),
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
