"""Bringing a model to another version of the default opset.

Own code because the C++ converter loses names, skips subgraphs and needs all weights in one
protobuf message. An operator whose schema did not change incompatibly between two versions needs
no change; the others have an adapter in :mod:`edgedeploy.passes.opset_adapters` or are refused
by name.
"""

from __future__ import annotations

import functools

import onnx
import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.passes.base import Pass, label
from edgedeploy.passes.opset_adapters import ADAPTERS


class UpgradeOpset(Pass):
    """Converts all nodes to one version of the default opset.

    Args:
        target: The version. A lower one than the model's is possible as long as no operator in
            use changed in between.
    """

    def __init__(self, target: int) -> None:
        self._target = target

    def requires(self, model: ir.Model) -> None:
        """Refuse an operator that the model's own opset does not have (E216)."""
        version = model.opset_imports.get("", self._target)
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if node.domain == "":
                _existing(node, version)

    def apply(self, model: ir.Model) -> bool:
        """Convert the graph; a model without the default domain gets it."""
        source = model.opset_imports.get("", self._target)
        model.opset_imports[""] = self._target
        if source == self._target:
            return False
        convert(model.graph, source, self._target)
        return True

    def ensures(self, model: ir.Model) -> str | None:
        """The model imports the target version and every operator exists in it."""
        if model.opset_imports.get("") != self._target:
            return f"the opset is {model.opset_imports.get('')}"
        return None


def convert(graph: ir.Graph | ir.Function, source: int, target: int) -> None:
    """Convert all nodes of a graph and its subgraphs in place.

    Args:
        graph: A graph or function whose nodes are of opset ``source``.
        source: The version it is written for.
        target: The version it shall be of.

    Raises:
        ModelError: A node cannot be converted (E223) or does not exist in ``source`` (E216).
    """
    for node in list(ir.traversal.RecursiveGraphIterator(graph)):
        if node.domain == "":
            if target < source:
                _check_downgrade(node, source, target)
            else:
                _upgrade(node, source, target)


def _check_downgrade(node: ir.Node, source: int, target: int) -> None:
    if _existing(node, source).since_version > target:
        raise ModelError(
            f"the operator {node.op_type} is of an opset newer than {target}, the newest that "
            "the target's oldest runtime reads",
            code="E223",
            subject=label(node),
            hint=f"export the model with opset {target} or lower, or raise the runtime's minimum",
        )


def _existing(node: ir.Node, version: int) -> onnx.defs.OpSchema:
    """Return the schema of a node's operator in an opset; refuses one that it does not have."""
    schema = _schema_at(node.op_type, version)
    if schema is None:
        raise ModelError(
            f"opset {version} has no operator {node.op_type!r}",
            code="E216",
            subject=label(node),
            hint="export the model again; its opset_import does not fit its operators",
        )
    return schema


def _upgrade(node: ir.Node, source: int, target: int) -> None:
    old = _existing(node, source)
    while True:
        new = _next_schema(node.op_type, old.since_version, target)
        if new is None:
            return
        adapter = ADAPTERS.get((node.op_type, new.since_version))
        if adapter is not None:
            adapter(node)
        elif not _compatible(node, old, new):
            raise ModelError(
                f"the operator {node.op_type} cannot be converted from opset {source} to {target}",
                code="E223",
                subject=label(node),
                hint=f"export the model again with opset {target}",
            )
        if new.deprecated:
            # The adapter has turned the node into the operator that took over.
            new = _schema_at(node.op_type, new.since_version)
            if new is None or new.deprecated:
                return
        old = new


def _compatible(node: ir.Node, old: onnx.defs.OpSchema, new: onnx.defs.OpSchema) -> bool:
    """Tell whether a node means the same under both schemas as far as signatures tell."""
    if new.deprecated or not new.min_input <= len(node.inputs) <= new.max_input:
        return False
    if any(name not in new.attributes for name in node.attributes):
        return False
    for name, attribute in new.attributes.items():
        if name in node.attributes:
            continue
        if attribute.required:
            return False
        before = old.attributes.get(name)
        if before is not None and before.default_value != attribute.default_value:
            return False
    return True


@functools.cache
def _history() -> dict[str, list[onnx.defs.OpSchema]]:
    """Return all schemas of the default domain by operator, oldest first."""
    found: dict[str, list[onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            found.setdefault(schema.name, []).append(schema)
    for schemas in found.values():
        schemas.sort(key=lambda schema: int(schema.since_version))
    return found


def _schema_at(op: str, version: int) -> onnx.defs.OpSchema | None:
    """Return the schema of an operator in an opset, None where it does not exist."""
    found = None
    for schema in _history().get(op, ()):
        if schema.since_version <= version:
            found = schema
    return found


def _next_schema(op: str, since: int, target: int) -> onnx.defs.OpSchema | None:
    for schema in _history().get(op, ()):
        if since < schema.since_version <= target:
            return schema
    return None
