"""Dead nodes, unused weights and unused opset imports go."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedOpsetsPass

from edgedeploy.passes.base import Pass, subgraphs
from edgedeploy.passes.rewire import remove_nodes


class RemoveUnused(Pass):
    """Removes nodes that feed no output, initialisers without use, and domains without node."""

    def apply(self, model: ir.Model) -> bool:
        """Sweep the graph and its subgraphs from the outputs up."""
        modified = _sweep(model.graph)
        return RemoveUnusedOpsetsPass()(model).modified or modified

    def ensures(self, model: ir.Model) -> str | None:
        """Every node and initialiser is used."""
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if _dead(node):
                return f"the node {node.name!r} feeds nothing"
        for graph in model.graphs():
            for value in graph.initializers.values():
                if _idle(value):
                    return f"the initialiser {value.name!r} is not used"
        return None


def _sweep(graph: ir.Graph) -> bool:
    modified = False
    for node in reversed(graph):
        if _dead(node):
            remove_nodes(graph, [node])
            modified = True
            continue
        for inner in subgraphs(node):
            modified |= _sweep(inner)
    for value in list(graph.initializers.values()):
        if _idle(value):
            del graph.initializers[value.name or ""]
            modified = True
    return modified


def _dead(node: ir.Node) -> bool:
    return not any(output.is_graph_output() or output.uses() for output in node.outputs)


def _idle(value: ir.Value) -> bool:
    return not (value.uses() or value.is_graph_output() or value.is_graph_input())
