"""Replacing values and removing nodes so that names of outputs and uses stay right."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from edgedeploy.passes.base import subgraphs

_NUMPY_TYPES = frozenset(
    (
        *(ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BOOL),
        *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
    )
)
"""Element types that NumPy has itself."""


def graph_of(node: ir.Node) -> ir.Graph:
    """Return the graph that a node is in; a node of a function or of none is our mistake."""
    if not isinstance(node.graph, ir.Graph):
        raise TypeError(f"the node {node.name!r} is in no graph")
    return node.graph


def static_shape(tensor: ir.TensorProtocol) -> ir.Shape:
    """Return the shape of a stored tensor."""
    return ir.Shape(tensor.shape.numpy())


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """Return the tensor of an initialiser that no caller can override, None for other values."""
    if value is None or value.is_graph_input() or not value.is_initializer():
        return None
    return value.const_value


def numeric_constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """Return the tensor of a constant of NumPy's own number types, None for other values."""
    tensor = constant_tensor(value)
    return tensor if tensor is not None and tensor.dtype in _NUMPY_TYPES else None


def constant_array(value: ir.Value | None) -> np.ndarray | None:
    """Return a numeric constant as an array (loads it), None for other values."""
    tensor = numeric_constant(value)
    return None if tensor is None else tensor.numpy()


def add_initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """Add a weight to a graph under ``name`` or, if that is taken there, a numbered name."""
    chosen, number = name, 1
    while chosen in graph.initializers:
        chosen, number = f"{name}_{number}", number + 1
    # ascontiguousarray gives a scalar an axis.
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=chosen)
    value = ir.Value(
        name=chosen,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def insert_constant(node: ir.Node, array: np.ndarray) -> ir.Value:
    """Insert a Constant node before a node (works in functions too) and return its value."""
    graph = node.graph
    if graph is None:
        raise ValueError("the node is in no graph")
    made = ir.node("Constant", [], attributes={"value": ir.tensor(array)})
    made.meta.update(node.meta)
    graph.insert_before(node, made)
    return made.outputs[0]


def replace_value(old: ir.Value, new: ir.Value, graph: ir.Graph) -> None:
    """Let ``new`` take all uses of ``old``, which ``graph`` is about to lose.

    An output of the graph keeps its name: ``new`` is renamed if ``graph`` makes it and it is no
    output already, otherwise an Identity makes the output.
    """
    if not old.is_graph_output():
        old.replace_all_uses_with(new)
        return
    name = old.name
    producer = new.producer()
    ours = producer is not None and producer.graph is graph
    if ours and not new.is_graph_output():
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = None
        new.name = name
        return
    identity = ir.node(
        "Identity", [new], outputs=[ir.Value(name=None, shape=old.shape, type=old.type)]
    )
    made = old.producer()
    if made is not None:
        identity.meta.update(made.meta)
        graph.insert_before(made, identity)
    else:
        graph.append(identity)
    old.replace_all_uses_with(identity.outputs[0], replace_graph_outputs=True)
    old.name = None
    identity.outputs[0].name = name


def remove_nodes(graph: ir.Graph | ir.Function, nodes: Iterable[ir.Node]) -> None:
    """Remove nodes whose outputs have no uses left, with all that their subgraphs use."""
    nodes = list(nodes)
    for node in nodes:
        for inner in subgraphs(node):
            for deep in ir.traversal.RecursiveGraphIterator(inner):
                for index in range(len(deep.inputs)):
                    deep.replace_input_with(index, None)
    graph.remove(nodes, safe=True)
