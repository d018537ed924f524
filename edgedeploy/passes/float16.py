"""Half precision: float32 values become float16, with Casts where a node stays in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgedeploy.model import ModelFacts, scan
from edgedeploy.model.files import MODEL_NAME
from edgedeploy.passes.base import Pass, is_op, run, subgraphs
from edgedeploy.passes.half_guard import guard
from edgedeploy.passes.half_types import kept_nodes, only_float
from edgedeploy.passes.infer_shapes import InferShapes
from edgedeploy.passes.model_file import load, save
from edgedeploy.passes.remove_unused import RemoveUnused
from edgedeploy.passes.rewire import constant_tensor, static_shape
from edgedeploy.passes.sort_nodes import SortNodes
from edgedeploy.passes.unique_names import UniqueNames
from edgedeploy.passes.verify import check_saved

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
TOLD_REASONS = 3
"""Reasons for nodes in float that a note gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Float16Report:
    """What became half precision and what did not.

    Attributes:
        facts: What the result is.
        external: Whether its weights are in ``model.onnx.data``.
        kept: Nodes that stay in float, each with the reason.
        beyond_range: Weights with finite values beyond 65504, with their magnitude; the nodes
            that use them stay in float.
        calibrated: Whether ranges from calibration data were there to decide by.
        unknown: Names of computed float values whose magnitude neither calibration nor the
            operators before them tell.
        values: How many computed float values there are.
    """

    facts: ModelFacts
    external: bool
    kept: Mapping[str, str]
    beyond_range: Mapping[str, float]
    calibrated: bool
    unknown: tuple[str, ...]
    values: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report should say: how much stayed in float and why, and what is not known."""
        return tuple(_notes(self))

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "facts": self.facts.to_json(),
            "external": self.external,
            "kept": dict(self.kept),
            "beyond_range": dict(self.beyond_range),
            "calibrated": self.calibrated,
            "unknown": list(self.unknown),
            "values": self.values,
            "notes": list(self.notes),
        }


def to_float16(
    source: Path,
    folder: Path,
    *,
    keep_float: Sequence[str] = (),
    keep_float_ops: Sequence[str] = (),
    keep_io: bool = True,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Float16Report:
    """Write a half-precision copy of a model in normal form into ``folder``.

    Args:
        source: What :func:`normalise` or :func:`optimise` wrote.
        folder: An existing folder; gets ``model.onnx`` and, for big models, ``model.onnx.data``.
        keep_float: Nodes (names or glob patterns) that stay in float.
        keep_float_ops: Operators that stay in float.
        keep_io: Whether inputs and outputs stay float32.
        ranges: ``(low, high)`` that calibration saw of values of the model, by name; None without
            calibration data. What may leave the half range, and what half precision is bad at,
            stays in float (:mod:`edgedeploy.passes.half_guard`).

    Raises:
        ModelError: A keep_float name matches nothing (E228), or the result does not load (E225).
    """
    model = load(source)
    run((UniqueNames(), InferShapes()), model)
    kept, beyond = kept_nodes(model, keep_float, keep_float_ops)
    found = guard(model, ranges or {})
    kept = {**found.kept, **kept}
    run((ToFloat16(kept, keep_io), RemoveUnused(), UniqueNames(), SortNodes()), model)
    external = save(model, folder)
    facts = scan(folder / MODEL_NAME, allow_nonfinite=True)
    check_saved(folder / MODEL_NAME, facts.weight_bytes)
    return Float16Report(
        facts=facts,
        external=external,
        kept={node.name or "": reason for node, reason in kept.items()},
        beyond_range=beyond,
        calibrated=ranges is not None,
        unknown=found.unknown,
        values=found.values,
    )


def _notes(report: Float16Report) -> Iterator[str]:
    if report.kept:
        reasons = Counter(report.kept.values()).most_common()
        told = [f"{count} for: {reason}" for reason, count in reasons[:TOLD_REASONS]]
        if len(reasons) == 1:
            told = [reasons[0][0]]
        if len(reasons) > TOLD_REASONS:
            told.append(f"and {len(reasons) - TOLD_REASONS} more reasons")
        count = len(report.kept)
        yield f"{count} node{'s stay' if count > 1 else ' stays'} in float32: {'; '.join(told)}"
    if not report.calibrated:
        yield (
            "there is no calibration data, so nothing tells whether "
            f"{len(report.unknown)} of {report.values} values overflow float16"
        )


class ToFloat16(Pass):
    """Turns float32 values into float16 ones except around the nodes that stay in float.

    Args:
        kept: Nodes that stay in float.
        keep_io: Whether inputs and outputs of the model stay float32.
    """

    def __init__(self, kept: Mapping[ir.Node, str], keep_io: bool) -> None:
        self._kept = kept
        self._keep_io = keep_io
        self._changed: set[ir.Value] = set()
        self._float: set[ir.Value] = set()
        self._twins: dict[ir.Value, ir.Value] = {}
        self._version = 0

    def apply(self, model: ir.Model) -> bool:
        """Convert the graph and its subgraphs."""
        self._version = model.opset_imports.get("", 0)
        # What is half already in the source stays as it is, next to nodes in float too.
        self._changed = {value for value in _made_values(model) if value.dtype == _FLOAT}
        for value in model.graph.inputs:
            if value.dtype == _FLOAT:
                if self._keep_io:
                    self._float.add(value)
                else:
                    value.type = ir.TensorType(_HALF)
        self._convert(model.graph)
        for index, value in enumerate(list(model.graph.outputs)):
            self._finish_output(model.graph, index, value)
        return True

    def ensures(self, model: ir.Model) -> str | None:
        """Inputs and outputs have the types that were asked for."""
        wanted = _FLOAT if self._keep_io else _HALF
        for value in (*model.graph.inputs, *model.graph.outputs):
            ours = value in self._changed or value in self._twins.values()
            if ours and value.dtype != wanted:
                return f"{value.name!r} is {value.dtype}"
        return None

    def _convert(self, graph: ir.Graph) -> None:
        for node in list(graph):
            inner = list(subgraphs(node))
            stays = node in self._kept and not inner
            for index, value in enumerate(node.inputs):
                if value is not None:
                    alone = (
                        not stays
                        and not inner
                        and node.domain == ""
                        and only_float(node.op_type, self._version, index)
                    )
                    node.replace_input_with(index, self._as_type(value, stays or alone))
            for body in inner:
                for value in body.inputs:
                    if value.dtype == _FLOAT:
                        value.type = ir.TensorType(_HALF)
                self._convert(body)
                for index, value in enumerate(list(body.outputs)):
                    body.outputs[index] = self._as_type(value, False)
            if stays:
                self._float.update(value for value in node.outputs if value.dtype == _FLOAT)
                continue
            _convert_attributes(node)
            for value in node.outputs:
                if value.dtype == _FLOAT:
                    value.type = ir.TensorType(_HALF)

    def _as_type(self, value: ir.Value, float32: bool) -> ir.Value:
        """Return the value itself or its twin of the other precision."""
        tensor = constant_tensor(value)
        if tensor is not None:
            if float32 or tensor.dtype != _FLOAT:
                return value
            return self._twins.get(value) or self._half_weight(value, tensor)
        if value not in self._changed or (value in self._float) == float32:
            return value
        if value not in self._twins:
            self._twins[value] = _cast(value, _FLOAT if float32 else _HALF)
        return self._twins[value]

    def _half_weight(self, value: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
        graph = value.graph
        if not isinstance(graph, ir.Graph):
            raise TypeError(f"the weight {value.name!r} is in no graph")
        name = f"{value.name}.half"

        def half() -> ir.TensorProtocol:
            return ir.tensor(tensor.numpy().astype(np.float16), name=name)

        twin = ir.Value(
            name=name,
            shape=value.shape,
            type=ir.TensorType(_HALF),
            const_value=ir.LazyTensor(half, dtype=_HALF, shape=static_shape(tensor), name=name),
        )
        graph.register_initializer(twin)
        self._twins[value] = twin
        return twin

    def _finish_output(self, graph: ir.Graph, index: int, value: ir.Value) -> None:
        """Give an output of the model its type and its name."""
        if value not in self._changed or value.is_graph_input():
            return
        wanted = self._as_type(value, self._keep_io)
        if wanted is value:
            return
        name = value.name
        graph.outputs[index] = wanted
        value.name = f"{name}.{'half' if self._keep_io else 'float'}"
        wanted.name = name


def _made_values(model: ir.Model) -> Iterator[ir.Value]:
    """Yield every value but initialisers: inputs of all graphs and outputs of all nodes."""
    for graph in model.graphs():
        yield from graph.inputs
        for node in graph:
            yield from node.outputs


def _cast(value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Insert a Cast right after the value is made and return its result."""
    suffix = "float" if dtype == _FLOAT else "half"
    node = ir.node("Cast", [value], attributes={"to": int(dtype)}, name=f"{value.name}.to_{suffix}")
    output = node.outputs[0]
    output.name = f"{value.name}.{suffix}"
    output.type, output.shape = ir.TensorType(dtype), value.shape
    producer = value.producer()
    graph = producer.graph if producer is not None else value.graph
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"the value {value.name!r} is in no graph")
    if producer is not None:
        graph.insert_after(producer, node)
    else:
        graph.insert_before(graph[0], node)
    return output


def _convert_attributes(node: ir.Node) -> None:
    """Let a node that makes float32 by an attribute make float16."""
    if is_op(node, "Cast", "EyeLike"):
        key = "to" if node.op_type == "Cast" else "dtype"
        attribute = node.attributes.get(key)
        if attribute is not None and attribute.as_int() == int(_FLOAT):
            node.attributes[key] = ir.AttrInt64(key, int(_HALF))
    elif is_op(node, "ConstantOfShape", "Constant"):
        attribute = node.attributes.get("value")
        if attribute is None and node.op_type == "ConstantOfShape":
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.zeros(1, np.float16)))
        elif attribute is not None and attribute.as_tensor().dtype == _FLOAT:
            half = attribute.as_tensor().numpy().astype(np.float16)
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(half))
