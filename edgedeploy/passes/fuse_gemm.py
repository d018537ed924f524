"""A product of matrices and the bias added to it become one Gemm."""

from __future__ import annotations

import onnx_ir as ir

from edgedeploy.passes.base import Pass, is_op
from edgedeploy.passes.linear import FLOATS, per_channel
from edgedeploy.passes.rewire import constant_array, graph_of, numeric_constant, remove_nodes


class FuseGemm(Pass):
    """Replaces MatMul and Add by Gemm where the operands are matrices, weight and bias constant.

    The Gemm has the MatMul's name and the Add's result. Ranks must have been inferred
    (:class:`InferShapes`); products of more axes stay, since Gemm has two.
    """

    def apply(self, model: ir.Model) -> bool:
        """Fuse every such pair."""
        modified = False
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            add = _biasing(node)
            if add is not None:
                _fuse(node, add)
                modified = True
        return modified

    def ensures(self, model: ir.Model) -> str | None:
        """No such pair is left."""
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if _biasing(node) is not None:
                return f"{node.name!r} and the Add behind it could be a Gemm"
        return None


def _biasing(node: ir.Node) -> ir.Node | None:
    """Return the Add that gives a two-dimensional MatMul its bias."""
    if not is_op(node, "MatMul") or not isinstance(node.graph, ir.Graph):
        return None
    activation, weight = node.inputs[0], numeric_constant(node.inputs[1])
    if activation is None or activation.shape is None or activation.shape.rank() != 2:
        return None
    if weight is None or weight.dtype not in FLOATS or len(weight.shape) != 2:
        return None
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output():
        return None
    add, index = uses[0]
    if add.graph is not node.graph or not is_op(add, "Add"):
        return None
    bias = constant_array(add.inputs[1 - index])
    if bias is None or per_channel(bias, weight.shape.numpy()[1], 2) is None:
        return None
    return add


def _fuse(node: ir.Node, add: ir.Node) -> None:
    graph, last = graph_of(node), add.outputs[0]
    bias = add.inputs[1 if add.inputs[0] is node.outputs[0] else 0]
    made = ir.Value(name=last.name, shape=last.shape, type=last.type)
    gemm = ir.node("Gemm", [*node.inputs, bias], outputs=[made], name=node.name)
    gemm.meta.update(node.meta)
    graph.insert_before(node, gemm)
    last.replace_all_uses_with(made, replace_graph_outputs=True)
    last.name = None
    remove_nodes(graph, [add, node])
