"""Which nodes and tensors can be half precision: by schema, by range, by wish."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import onnx
import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.passes.base import subgraphs
from edgedeploy.passes.rewire import constant_tensor

HALF_MAX = 65504.0
"""Largest finite binary16 number (IEEE 754-2019, table 3.5)."""
_STEP = 1 << 20

KEPT_OPS = frozenset(
    (
        "CumSum",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "NonMaxSuppression",
        "QuantizeLinear",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Range",
        "Resize",
        "RoiAlign",
        "TopK",
        "Upsample",
    )
)
"""Positions, orders and sums that lose their meaning in half precision, or that onnxruntime has
no half kernel for and mishandles."""


def kept_nodes(
    model: ir.Model, keep: Sequence[str], keep_ops: Sequence[str]
) -> tuple[dict[ir.Node, str], dict[str, float]]:
    """Return the nodes that stay in float, each with the reason, and the weights that force it.

    Args:
        model: A model in normal form with inferred types.
        keep: Node names or glob patterns; naming an ``If`` or ``Loop`` keeps all that is in it.
        keep_ops: Operators.

    Returns:
        Nodes with reasons, and the largest magnitude of each weight beyond the half range.

    Raises:
        ModelError: A name or operator matches nothing (E228).
    """
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    kept: dict[ir.Node, str] = {}
    matched: set[str] = set()
    for node in nodes:
        for pattern in keep:
            if pattern == node.name or fnmatchcase(node.name or "", pattern):
                matched.add(pattern)
                for inner in _with_inner(node):
                    kept.setdefault(inner, "keep_float")
        if node.op_type in keep_ops:
            matched.add(node.op_type)
            for inner in _with_inner(node):
                kept.setdefault(inner, "keep_float_ops")
    for pattern in (*keep, *keep_ops):
        if pattern not in matched:
            raise ModelError(
                f"nothing in the model matches {pattern!r}",
                code="E228",
                subject=pattern,
                hint="name nodes or operators of the normal form",
            )
    version = model.opset_imports.get("", 0)
    magnitudes = _beyond_half(model)
    for node in nodes:
        if node not in kept and not any(True for _ in subgraphs(node)):
            reason = _reason(node, version, magnitudes)
            if reason:
                kept[node] = reason
    return kept, dict(sorted((value.name or "", top) for value, top in magnitudes.items()))


def _with_inner(node: ir.Node) -> Iterator[ir.Node]:
    yield node
    for graph in subgraphs(node):
        yield from ir.traversal.RecursiveGraphIterator(graph)


def _reason(node: ir.Node, version: int, magnitudes: Mapping[ir.Value, float]) -> str | None:
    """Return why a node cannot be half, None if it can."""
    if node.domain != "":
        return f"operator of {node.domain}"
    if node.op_type in KEPT_OPS:
        return "operator kept in float"
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    if any(not isinstance(value.type, ir.TensorType) for value in values if value.name):
        return "a value whose type is not a known tensor type"
    for value in node.inputs:
        if value is not None and value in magnitudes:
            return f"the weight {value.name} exceeds the half range"
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if tensor.dtype == ir.DataType.FLOAT and _magnitude(tensor) > HALF_MAX:
                return "a constant exceeds the half range"
    takes_half = _half_slots(node.op_type, version)
    for index, value in enumerate(node.inputs):
        fits = takes_half(index, False) or only_float(node.op_type, version, index)
        if value is not None and value.dtype == ir.DataType.FLOAT and not fits:
            return "the operator has no half precision form"
    for index, value in enumerate(node.outputs):
        if value.dtype == ir.DataType.FLOAT and not takes_half(index, True):
            return "the operator has no half precision form"
    return None


def _beyond_half(model: ir.Model) -> dict[ir.Value, float]:
    """Return initialisers with finite values beyond the half range, with their magnitude."""
    found = {}
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = constant_tensor(value)
            if tensor is not None and tensor.dtype == ir.DataType.FLOAT:
                top = _magnitude(tensor)
                if top > HALF_MAX:
                    found[value] = top
    return found


def _magnitude(tensor: ir.TensorProtocol) -> float:
    """Return the largest finite magnitude, reading the tensor in pieces."""
    flat = tensor.numpy().reshape(-1)
    top = 0.0
    for start in range(0, flat.size, _STEP):
        part = np.abs(flat[start : start + _STEP])
        part = part[np.isfinite(part)]
        if part.size:
            top = max(top, float(part.max()))
    return top


@functools.cache
def _allowed(
    op: str, version: int
) -> tuple[tuple[frozenset[str], ...], tuple[frozenset[str], ...]]:
    """Return the types that each input and each output of an operator may have."""
    schema = onnx.defs.get_schema(op, version, "")
    constraints = {
        item.type_param_str: frozenset(item.allowed_type_strs) for item in schema.type_constraints
    }

    def types(item: onnx.defs.OpSchema.FormalParameter) -> frozenset[str]:
        return constraints.get(item.type_str, frozenset((item.type_str,)))

    return tuple(map(types, schema.inputs)), tuple(map(types, schema.outputs))


def _half_slots(op: str, version: int) -> Callable[[int, bool], bool]:
    inputs, outputs = _allowed(op, version)

    def takes(index: int, output: bool) -> bool:
        slots = outputs if output else inputs
        # The last formal parameter may be variadic.
        return bool(slots) and "tensor(float16)" in slots[min(index, len(slots) - 1)]

    return takes


def only_float(op: str, version: int, index: int) -> bool:
    """Tell whether an input of an operator of the default domain is float32 by definition."""
    inputs, _ = _allowed(op, version)
    return bool(inputs) and inputs[min(index, len(inputs) - 1)] == {"tensor(float)"}
