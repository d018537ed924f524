"""Concats that join values of very different ranges, which one 8-bit scale cannot hold.

A detector ends with boxes in pixels beside scores in one tensor: with the step that 0..640 needs,
2.5, every score of 0..1 rounds to 0. What calibration saw of the operands tells such a Concat from
one that joins feature maps.
"""

from __future__ import annotations

import onnx_ir as ir

from edgedeploy.quant.layers import VALUE_PRESERVING_OPS
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.table import CalibrationTable

LEAST_SHARE = 1 / 16
"""An operand that spans less of the common range than this keeps fewer than 4 of 8 bits."""


def joins_unlike(node: ir.Node, table: CalibrationTable, scheme: Scheme) -> bool:
    """Return whether a node is a Concat of values whose ranges differ too much for one scale.

    Operands that never were other than 0 do not count, nor do constants and those that
    calibration has not seen.

    Args:
        node: Any node.
        table: What calibration saw.
        scheme: How ranges are chosen.
    """
    if node.op_type != "Concat" or node.domain:
        return False
    names = [str(value.name) for value in node.inputs if value is not None]
    seen = [name for name in names if name in table.tensors and table.tensors[name].count]
    ranges = [table.range_of(name, scheme.ranges, scheme.symmetric) for name in seen]
    spans = [span for span in (_span(low, high) for low, high in ranges) if span > 0]
    if len(spans) < 2:
        return False
    common = _span(min(low for low, _ in ranges), max(high for _, high in ranges))
    return min(spans) < LEAST_SHARE * common


def _span(low: float, high: float) -> float:
    """Return what a scale for the range has to span; 0 is always representable."""
    return max(high, 0.0) - min(low, 0.0)


def reads_unlike(value: ir.Value, table: CalibrationTable, scheme: Scheme) -> bool:
    """Return whether a value is what such a Concat joined, at most in another shape or order."""
    producer = value.producer()
    while producer is not None and producer.op_type in VALUE_PRESERVING_OPS:
        given = producer.inputs[0]
        producer = None if given is None else given.producer()
    return producer is not None and joins_unlike(producer, table, scheme)
