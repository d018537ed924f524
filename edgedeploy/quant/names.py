"""Names that nothing in a graph has yet."""

from __future__ import annotations

import onnx_ir as ir


class Names:
    """Hands out names that are free in the main graph and in all its subgraphs.

    Args:
        graph: The graph whose node and value names are taken.
    """

    def __init__(self, graph: ir.Graph) -> None:
        taken: set[str | None] = set()
        for part in (graph, *graph.subgraphs()):
            taken.update(value.name for value in (*part.inputs, *part.initializers.values()))
        for node in graph.all_nodes():
            taken.add(node.name)
            taken.update(value.name for value in node.outputs)
        self._taken = taken

    def free(self, name: str) -> str:
        """Return ``name``, or ``name_1``, ``name_2`` ... where it is taken; it is taken then."""
        fresh, count = name, 0
        while fresh in self._taken:
            count += 1
            fresh = f"{name}_{count}"
        self._taken.add(fresh)
        return fresh


def add_initializer(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """Return a new initialiser of the graph that holds ``tensor``."""
    value = ir.Value(
        name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype)
    )
    value.const_value = tensor
    graph.register_initializer(value)
    return value
