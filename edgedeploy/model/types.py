"""Turning walked ``ValueInfoProto`` fields into the signature."""

from __future__ import annotations

from typing import Any

from edgedeploy.errors import ModelError
from edgedeploy.model.schema import ELEMENT_TYPES
from edgedeploy.model.wire import signed
from edgedeploy.signature import Dim, Signature, TensorSpec


def graph_signature(graph: dict[str, Any]) -> Signature:
    """Return inputs (without those that an initialiser backs) and outputs of a graph.

    Raises:
        ModelError: An input has no known element type (E208); inference by the ONNX library
            crashes on such a file.
    """
    backed = set(graph["initializer"])
    inputs = tuple(_spec(value) for value in graph["input"] if value.get("name", "") not in backed)
    for spec in inputs:
        if "unknown" in spec.dtype:
            raise ModelError(
                "an input has no known element type",
                code="E208",
                subject=spec.name,
                hint="export the model again; every input must state its type",
            )
    return Signature(inputs=inputs, outputs=tuple(_spec(value) for value in graph["output"]))


def _spec(value: dict[str, Any]) -> TensorSpec:
    kind = value.get("type") or {}
    tensor = kind.get("tensor_type")
    dims = None
    if tensor is not None and tensor.get("shape") is not None:
        dims = tuple(_dim(item) for item in tensor["shape"].get("dim", ()))
    return TensorSpec(name=value.get("name", ""), dtype=_type_text(kind), dims=dims)


def _dim(fields: dict[str, Any]) -> Dim:
    """Return a dim; -1, 0 and ``?``, which exporters write for unknown, are unnamed dynamic."""
    if "dim_value" in fields:
        size = signed(fields["dim_value"])
        return size if size > 0 else None
    name = fields.get("dim_param")
    return name if name and name != "?" else None


def _type_text(kind: dict[str, Any]) -> str:
    """Return a type in words: a dtype for tensors, ``seq(...)`` and the like for the rest."""
    prefix, suffix = "", ""
    while True:
        if kind.get("tensor_type") is not None:
            return f"{prefix}{_element(kind['tensor_type'].get('elem_type', 0))}{suffix}"
        if kind.get("sparse_tensor_type") is not None:
            element = _element(kind["sparse_tensor_type"].get("elem_type", 0))
            return f"{prefix}sparse({element}){suffix}"
        if kind.get("map_type") is not None:
            prefix += f"map({_element(kind['map_type'].get('key_type', 0))},"
            kind = kind["map_type"].get("value_type") or {}
        elif kind.get("sequence_type") is not None:
            prefix += "seq("
            kind = kind["sequence_type"].get("elem_type") or {}
        elif kind.get("optional_type") is not None:
            prefix += "optional("
            kind = kind["optional_type"].get("elem_type") or {}
        else:
            return f"{prefix}unknown{suffix}"
        suffix += ")"


def _element(code: int) -> str:
    element = ELEMENT_TYPES.get(code)
    return element.name if element else "unknown"
