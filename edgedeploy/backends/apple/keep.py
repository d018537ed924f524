"""Nodes that the profile keeps in float32."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from edgedeploy.errors import BuildError, Diagnostic


class Keep:
    """Which nodes compute in float32 whatever the program's precision.

    Args:
        nodes: Their names, or glob patterns.
        ops: Operators all of whose nodes do.
    """

    def __init__(self, *, nodes: Sequence[str] = (), ops: Sequence[str] = ()) -> None:
        self._nodes = tuple(nodes)
        self._ops = tuple(ops)
        self._unused = {*self._nodes, *self._ops}

    def takes(self, name: str, op: str) -> bool:
        """Return whether a node computes in float32."""
        found = {pattern for pattern in self._nodes if fnmatchcase(name, pattern)}
        found.update(item for item in self._ops if item == op)
        self._unused -= found
        return bool(found)

    def check(self) -> None:
        """Let a finished translation pass.

        Raises:
            BuildError: Something named no node (E349).
        """
        if self._unused:
            raise BuildError(
                Diagnostic(
                    code="E349",
                    message=f"nothing in the model matches {pattern!r}",
                    subject=pattern,
                    hint="name nodes or operators of the normal form",
                )
                for pattern in sorted(self._unused)
            )
