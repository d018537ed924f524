"""Only the outputs that the profile names stay, in its order."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.passes.base import Pass


class KeepOutputs(Pass):
    """Drops all outputs but the named ones.

    Args:
        names: Outputs to keep, in order; empty keeps all as they are.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    def requires(self, model: ir.Model) -> None:
        """Refuse a name that is no output (E222)."""
        known = [value.name for value in model.graph.outputs]
        for name in self._names:
            if name not in known:
                raise ModelError(
                    f"the model has no output {name!r}; it has {', '.join(map(str, known))}",
                    code="E222",
                    subject=name,
                    hint="name outputs of the model",
                )

    def apply(self, model: ir.Model) -> bool:
        """Keep and order the outputs."""
        outputs = model.graph.outputs
        if not self._names or self._names == tuple(value.name for value in outputs):
            return False
        by_name = {value.name: value for value in outputs}
        outputs.clear()
        outputs.extend(by_name[name] for name in self._names)
        return True

    def ensures(self, model: ir.Model) -> str | None:
        """The outputs are the named ones."""
        found = tuple(value.name for value in model.graph.outputs)
        return f"the outputs are {found}" if self._names and found != self._names else None
