"""Every node and value gets a name of its own: the runtime refuses duplicates."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from edgedeploy.passes.base import Pass


class UniqueNames(Pass):
    """Names nodes and values uniquely over the graph and all its subgraphs.

    Inputs and outputs of the model keep their names; of several others with one name the first
    in graph order keeps it. A nameless node is called by its operator and a number.
    """

    def apply(self, model: ir.Model) -> bool:
        """Rename what is nameless or not unique."""
        modified = _name_values(model.graph)
        taken = {
            node.name for node in ir.traversal.RecursiveGraphIterator(model.graph) if node.name
        }
        seen: set[str] = set()
        numbers: dict[str, int] = {}
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if node.name and node.name not in seen:
                seen.add(node.name)
                continue
            node.name = _fresh(node.name or node.op_type, taken, numbers)
            seen.add(node.name)
            modified = True
        return modified

    def ensures(self, model: ir.Model) -> str | None:
        """All names are there and unique."""
        nodes = [node.name for node in ir.traversal.RecursiveGraphIterator(model.graph)]
        if not all(nodes) or len(set(nodes)) != len(nodes):
            return "node names are not unique"
        values = [value.name for value in _values(model.graph)]
        if not all(values) or len(set(values)) != len(values):
            return "value names are not unique"
        return None


def _name_values(graph: ir.Graph) -> bool:
    values = list(_values(graph))
    fixed = {value.name for value in (*graph.inputs, *graph.outputs)}
    interface = {id(value) for value in (*graph.inputs, *graph.outputs)}
    taken = {value.name for value in values if value.name}
    seen: set[str] = set()
    numbers: dict[str, int] = {}
    modified = False
    for value in values:
        name = value.name
        if id(value) in interface:
            continue
        if name and name not in seen and name not in fixed:
            seen.add(name)
            continue
        producer = value.producer()
        stem = name or (f"{producer.op_type}_output" if producer is not None else "value")
        value.name = _fresh(stem, taken, numbers)
        seen.add(value.name)
        modified = True
    return modified


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Yield inputs, initialisers and node outputs of a graph and all graphs below it, once each."""
    seen: set[ir.Value] = set()
    pending = [graph]
    while pending:
        current = pending.pop()
        own = [*current.inputs, *current.initializers.values()]
        for node in current:
            # An omitted optional output has the empty name and is no value.
            own.extend(
                output
                for output in node.outputs
                if output.name or output.uses() or output.is_graph_output()
            )
            for attribute in node.attributes.values():
                if attribute.is_ref():
                    continue
                if attribute.type == ir.AttributeType.GRAPH:
                    pending.append(attribute.as_graph())
                elif attribute.type == ir.AttributeType.GRAPHS:
                    pending.extend(attribute.as_graphs())
        for value in own:
            if value not in seen:
                seen.add(value)
                yield value


def _fresh(stem: str, taken: set[str], numbers: dict[str, int]) -> str:
    """Return a name that is not taken, and take it."""
    while True:
        numbers[stem] = numbers.get(stem, -1) + 1
        name = f"{stem}_{numbers[stem]}"
        if name not in taken:
            taken.add(name)
            return name
