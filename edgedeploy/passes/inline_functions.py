"""Local functions are inlined: backends know operators, not a model's own functions."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from edgedeploy.errors import ModelError
from edgedeploy.passes.base import Pass
from edgedeploy.passes.upgrade_opset import convert


class InlineFunctions(Pass):
    """Inlines every call of a local function and drops the functions.

    A function written for another version of the default opset is converted first.
    """

    def requires(self, model: ir.Model) -> None:
        """Refuse functions that call each other in a circle."""
        calls = {
            key: {node.op_identifier() for node in function.all_nodes()} & set(model.functions)
            for key, function in model.functions.items()
        }
        while calls:
            leaves = {key for key, called in calls.items() if not called & set(calls)}
            if not leaves:
                domain, name, _ = sorted(calls)[0]
                raise ModelError(
                    "local functions call each other in a circle",
                    code="E213",
                    subject=f"function {domain}::{name}",
                    hint="export the model again; functions must not be recursive",
                )
            calls = {key: called for key, called in calls.items() if key not in leaves}

    def apply(self, model: ir.Model) -> bool:
        """Inline all calls."""
        if not model.functions:
            return False
        version = model.opset_imports.get("")
        for function in model.functions.values():
            own = function.opset_imports.get("")
            if own is not None and version is None:
                model.opset_imports[""] = version = own
            elif own is not None and version is not None and own != version:
                convert(function, own, version)
                function.opset_imports[""] = version
        InlinePass()(model)
        # What nothing called is left over.
        model.functions.clear()
        return True

    def ensures(self, model: ir.Model) -> str | None:
        """No function is left."""
        return "a local function is left" if model.functions else None
