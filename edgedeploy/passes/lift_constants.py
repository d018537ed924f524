"""Constants become initialisers, in subgraphs too, so that quantizers and backends see weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.passes.base import Pass, is_op, label
from edgedeploy.passes.rewire import graph_of, static_shape

_PLAIN = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}


class LiftConstants(Pass):
    """Turns every Constant node into an initialiser of its graph.

    A Constant that makes an output of a graph directly stays: not every runtime takes an
    initialiser there.
    """

    def apply(self, model: ir.Model) -> bool:
        """Lift all constants of the graph and its subgraphs."""
        found = [node for node in ir.traversal.RecursiveGraphIterator(model.graph) if _lifts(node)]
        for node in found:
            graph = graph_of(node)
            output = node.outputs[0]
            tensor = _tensor(node)
            name, output.name = output.name, None
            value = ir.Value(
                name=name,
                shape=static_shape(tensor),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            graph.register_initializer(value)
            output.replace_all_uses_with(value)
            graph.remove(node, safe=True)
        return bool(found)

    def ensures(self, model: ir.Model) -> str | None:
        """No Constant is left that could be lifted."""
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if _lifts(node):
                return f"the constant {node.outputs[0].name!r} is still a node"
        return None


def _lifts(node: ir.Node) -> bool:
    return is_op(node, "Constant") and not node.outputs[0].is_graph_output()


def _tensor(node: ir.Node) -> ir.TensorProtocol:
    (key, attribute), *_ = node.attributes.items()
    if key == "value":
        return attribute.as_tensor()
    if key in _PLAIN:
        return ir.tensor(np.array(attribute.value, dtype=_PLAIN[key]))
    if key not in ("value_string", "value_strings"):
        raise ModelError(
            f"a Constant has the attribute {key!r}, which is no value that it can have",
            code="E216",
            subject=label(node),
            hint="export the model again; sparse constants must be dense",
        )
    texts = attribute.value if key == "value_strings" else [attribute.value]
    array = np.array([text.encode() if isinstance(text, str) else text for text in texts], object)
    return ir.StringTensor(array if key == "value_strings" else array.reshape(()))
