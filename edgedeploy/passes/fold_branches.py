"""``If`` with a known condition is replaced by the branch that runs."""

from __future__ import annotations

import onnx_ir as ir

from edgedeploy.passes.base import Pass, is_op, subgraphs
from edgedeploy.passes.rewire import constant_array, graph_of, remove_nodes, replace_value


class FoldBranches(Pass):
    """Inlines the taken branch of every ``If`` whose condition is a constant.

    Value names must be unique over all subgraphs (:class:`UniqueNames`).
    """

    def apply(self, model: ir.Model) -> bool:
        """Inline outer branches first, then what they held."""
        return _fold(model.graph)

    def ensures(self, model: ir.Model) -> str | None:
        """No ``If`` is left whose condition is constant."""
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if _decided(node):
                return f"the If {node.name!r} has a constant condition"
        return None


def _decided(node: ir.Node) -> bool:
    return is_op(node, "If") and constant_array(node.inputs[0]) is not None


def _fold(graph: ir.Graph) -> bool:
    modified = False
    while decided := [node for node in graph if _decided(node)]:
        for node in decided:
            _inline(node)
        modified = True
    for node in graph:
        for inner in subgraphs(node):
            modified |= _fold(inner)
    return modified


def _inline(node: ir.Node) -> None:
    condition = constant_array(node.inputs[0])
    taken = condition is not None and bool(condition.reshape(-1)[0])
    branch = node.attributes["then_branch" if taken else "else_branch"].as_graph()
    graph = graph_of(node)
    outputs = list(branch.outputs)
    branch.outputs.clear()
    for value in list(branch.initializers.values()):
        del branch.initializers[value.name or ""]
        graph.register_initializer(value)
    nodes = list(branch)
    branch.remove(nodes)
    graph.insert_before(node, nodes)
    for old, new in zip(node.outputs, outputs, strict=True):
        if new.shape is None:
            new.shape = old.shape
        replace_value(old, new, graph)
    remove_nodes(graph, [node])
