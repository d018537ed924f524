"""The factors alpha and beta of a Gemm move into its weight and bias."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgedeploy.passes.base import Pass
from edgedeploy.passes.linear import (
    bias_of,
    channels,
    float_attribute,
    is_linear,
    may_scale,
    scale_weight,
    set_bias,
)


class FoldGemmFactors(Pass):
    """Makes ``alpha A B + beta C`` of constant B and C a plain ``A B + C``."""

    def apply(self, model: ir.Model) -> bool:
        """Multiply into the constants what may be multiplied."""
        modified = False
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            for factor in _foldable(node):
                values = np.full(channels(node), float_attribute(node, factor, 1.0))
                bias = bias_of(node)
                if factor == "alpha":
                    scale_weight(node, values)
                elif bias is not None:
                    set_bias(node, bias * values)
                del node.attributes[factor]
                modified = True
        return modified

    def ensures(self, model: ir.Model) -> str | None:
        """Nothing is left to fold."""
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if _foldable(node):
                return f"the Gemm {node.name!r} still has factors"
        return None


def _foldable(node: ir.Node) -> list[str]:
    """Return which factors of a node are not 1 and stand before a constant."""
    if node.op_type != "Gemm" or not is_linear(node):
        return []
    constant = {
        "alpha": may_scale(node),
        "beta": len(node.inputs) > 2 and node.inputs[2] is not None and bias_of(node) is not None,
    }
    return [
        factor
        for factor in ("alpha", "beta")
        if constant[factor] and float_attribute(node, factor, 1.0) != 1.0
    ]
