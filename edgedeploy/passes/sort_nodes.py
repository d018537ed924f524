"""Nodes stand after the nodes that feed them: the runtime accepts any order, the checker not."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import TopologicalSortPass

from edgedeploy.passes.base import Pass, subgraphs


class SortNodes(Pass):
    """Sorts the graph and its subgraphs topologically; a sorted graph keeps its order."""

    def apply(self, model: ir.Model) -> bool:
        """Sort if anything stands too early."""
        if _first_unsorted(model.graph, set()) is None:
            return False
        TopologicalSortPass()(model)
        return True

    def ensures(self, model: ir.Model) -> str | None:
        """Every input is made before its use."""
        return _first_unsorted(model.graph, set())


def _first_unsorted(graph: ir.Graph, outer: set[ir.Value]) -> str | None:
    """Return what stands before the node that makes its input, None if nothing does."""
    made = outer | set(graph.inputs) | set(graph.initializers.values())
    for node in graph:
        for value in node.inputs:
            if value is not None and value not in made:
                return f"{value.name!r} is used before it is made"
        for inner in subgraphs(node):
            found = _first_unsorted(inner, made)
            if found:
                return found
        made.update(node.outputs)
    return None
