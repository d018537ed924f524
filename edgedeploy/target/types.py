"""Targets as frozen data: a board joined with a runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One ``board/runtime``, its fields expanded (``extends`` merged, sources kept apart).

    Attributes:
        id: ``board/runtime``.
        fields: Nested JSON data ``{"board": {...}, "runtime": {...}}``; read by dotted path with
            :meth:`get`. Stages see only the paths that they declared.
        sources: Dotted path -> where the fact comes from (URL or document and section).
        origins: Where its board and its runtime were found, in words: ``bundled``, ``project``,
            ``plugin acme`` ...
        digest: SHA-256 (64 hex digits) of the canonical JSON of ``fields`` and ``sources``.
        files: The YAML files it was read from, nearest first; empty when it comes from an
            expanded profile.
    """

    id: str
    fields: Mapping[str, Any]
    sources: Mapping[str, str]
    origins: tuple[str, ...] = ()
    digest: str = ""
    files: tuple[Path, ...] = field(default=(), compare=False)

    @property
    def board(self) -> str:
        """The board's id."""
        return self.id.split("/")[0]

    @property
    def runtime(self) -> str:
        """The runtime's id."""
        return self.id.split("/")[1]

    def get(self, path: str) -> Any:
        """Return the field at a dotted path such as ``runtime.opset``, None when it is not set."""
        value: Any = self.fields
        for part in path.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
        return value
