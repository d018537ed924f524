"""Types and shapes of all values, as far as the operators' own inference finds them."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from edgedeploy.passes.base import Pass


class InferShapes(Pass):
    """Runs ONNX shape inference; weights beyond 1 kB do not take part, so size does not matter."""

    def apply(self, model: ir.Model) -> bool:
        """Infer with data propagation; a dim that stays unknown is no error."""
        declared = [(value, value.shape) for value in model.graph.outputs]
        for value, _ in declared:
            producer = value.producer()
            if producer is not None and producer.domain == "" and value.dtype is not None:
                value.shape = None
        result = ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
        for value, shape in declared:
            value.shape = _more_exact(value.shape, shape)
        return bool(result.modified)

    def ensures(self, model: ir.Model) -> str | None:
        """Outputs still have a type."""
        for value in model.graph.outputs:
            if value.type is None:
                return f"the type of the output {value.name!r} is unknown"
        return None


def _more_exact(found: ir.Shape | None, declared: ir.Shape | None) -> ir.Shape | None:
    """Return the inferred shape, with declared names where inference has no size or name."""
    if found is None:
        return declared
    if declared is None or declared.rank() != found.rank():
        return found
    dims = []
    for own, said in zip(found, declared, strict=True):
        if isinstance(own, int):
            dims.append(own)
        elif not isinstance(said, int):
            dims.append(said if said.value else own)
        else:
            dims.append(own)
    return ir.Shape(dims)
