"""The IR version: the one that was current when the opset was released, so old runtimes read it."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from edgedeploy.passes.base import Pass

_OLDEST = 8
"""IR 8 (ONNX 1.10, 2021) came with opset 15; older runtimes are in no target's range."""


class SetIrVersion(Pass):
    """Sets the IR version.

    Args:
        version: The version; None takes the one that goes with the opset, at least 8.
    """

    def __init__(self, version: int | None) -> None:
        self._version = version

    def apply(self, model: ir.Model) -> bool:
        """Set it."""
        fitting = onnx.helper.OP_SET_ID_VERSION_MAP[("ai.onnx", model.opset_imports[""])]
        wanted = self._version or max(_OLDEST, int(fitting))
        changed = bool(model.ir_version != wanted)
        model.ir_version = wanted
        return changed

    def ensures(self, model: ir.Model) -> str | None:
        """Initialisers need not be inputs from IR 4 on."""
        return None if model.ir_version >= 4 else f"the IR version is {model.ir_version}"
