"""Nodes that do nothing at inference go: Identity and Dropout."""

from __future__ import annotations

import onnx_ir as ir

from edgedeploy.passes.base import Pass, is_op
from edgedeploy.passes.rewire import constant_array, graph_of, remove_nodes, replace_value


class RemoveIdentity(Pass):
    """Removes Identity, and Dropout outside of training.

    What stays is an Identity that gives an output of a graph its own name because its input is
    not made by a node of that graph or is an output itself.
    """

    def apply(self, model: ir.Model) -> bool:
        """Bypass all such nodes."""
        modified = False
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            if _idle_dropout(node):
                node.resize_inputs(1)
                node.resize_outputs(1)
                node.attributes.clear()
                node.op_type = "Identity"
                modified = True
            if not _removable(node):
                continue
            source = node.inputs[0]
            if source is None:
                continue
            replace_value(node.outputs[0], source, graph_of(node))
            remove_nodes(graph_of(node), [node])
            modified = True
        return modified

    def ensures(self, model: ir.Model) -> str | None:
        """No such node is left."""
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if _removable(node) or _idle_dropout(node):
                return f"the node {node.name!r} does nothing"
        return None


def _idle_dropout(node: ir.Node) -> bool:
    """Tell whether a node is a Dropout that passes its input on and whose mask is not used."""
    if not is_op(node, "Dropout"):
        return False
    if any(mask.uses() or mask.is_graph_output() for mask in node.outputs[1:]):
        return False
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if training is None:
        return True
    array = constant_array(training)
    return array is not None and not array.any()


def _removable(node: ir.Node) -> bool:
    source, output = (node.inputs[0], node.outputs[0]) if node.inputs else (None, None)
    if not is_op(node, "Identity") or source is None or output is None:
        return False
    if not output.is_graph_output():
        # A value of an outer graph is visible in this one, so every use may take it directly.
        return True
    producer = source.producer()
    return producer is not None and producer.graph is node.graph and not source.is_graph_output()
