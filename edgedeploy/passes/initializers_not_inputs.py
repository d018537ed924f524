"""Weights are no inputs: IR 3 listed every initialiser among the graph's inputs."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveInitializersFromInputsPass

from edgedeploy.passes.base import Pass


class InitializersNotInputs(Pass):
    """Removes initialisers from the inputs, so that they are constants for every backend."""

    def apply(self, model: ir.Model) -> bool:
        """Drop the inputs that an initialiser backs."""
        before = len(model.graph.inputs)
        RemoveInitializersFromInputsPass()(model)
        return len(model.graph.inputs) != before

    def ensures(self, model: ir.Model) -> str | None:
        """No input is an initialiser."""
        for value in model.graph.inputs:
            if value.is_initializer():
                return f"the input {value.name!r} is an initialiser"
        return None
