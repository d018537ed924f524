"""Stack traces and exporter notes on nodes and tensors go; the model's own metadata stay."""

from __future__ import annotations

import onnx_ir as ir

from edgedeploy.passes.base import Pass


class ClearNotes(Pass):
    """Removes documentation and metadata of everything inside the model.

    They hold paths and line numbers of the machine that exported it.
    """

    def apply(self, model: ir.Model) -> bool:
        """Clear graphs, nodes and values."""
        model.doc_string = None
        for graph in model.graphs():
            graph.doc_string = None
            graph.metadata_props.clear()
            for value in (*graph.inputs, *graph.initializers.values()):
                _clear(value)
            for node in graph:
                node.doc_string = None
                node.metadata_props.clear()
                for value in node.outputs:
                    _clear(value)
        return False

    def ensures(self, model: ir.Model) -> str | None:
        """No node has documentation."""
        left = any(
            node.doc_string or node.metadata_props
            for node in ir.traversal.RecursiveGraphIterator(model.graph)
        )
        return "documentation is left on a node" if left else None


def _clear(value: ir.Value) -> None:
    value.doc_string = None
    value.metadata_props.clear()
