"""A configuration file as plain data, with the place of every key and value in a side table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgedeploy.errors import Diagnostic, Place, Severity

DataPath = tuple[str | int, ...]
"""Where something stands in the data: map keys and list positions from the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A text that values come from: a file, or a ``--set`` argument.

    Attributes:
        label: What diagnostics call it.
        lines: Its lines without line ends.
    """

    label: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A position in a source; ``line`` and ``column`` count from 1."""

    source: Source
    line: int
    column: int


@dataclass(slots=True, kw_only=True)
class Work:
    """How much work reading a file took; every field is bounded by :class:`Limits`."""

    bytes: int = 0
    events: int = 0
    nodes: int = 0
    aliases: int = 0
    depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where reading stops; ``nodes`` counts what aliases stand for as well."""

    bytes: int = 1 << 20
    nodes: int = 50_000
    aliases: int = 100
    depth: int = 50


@dataclass(slots=True, kw_only=True)
class Document:
    """Plain data with places.

    Attributes:
        data: Maps with text keys, lists, text, int, float, bool and None.
        label: What diagnostics call the file.
        values: Mark of each value by its path; ``()`` is the whole.
        keys: Mark of each map key by the path of its value.
        texts: How an unquoted scalar was written, by path, where it was not read as text.
        work: What reading it took.
    """

    data: Any
    label: str
    values: dict[DataPath, Mark] = field(default_factory=dict)
    keys: dict[DataPath, Mark] = field(default_factory=dict)
    texts: dict[DataPath, str] = field(default_factory=dict)
    work: Work = field(default_factory=Work)

    def mark(self, path: DataPath, *, key: bool = False) -> Mark | None:
        """Return the mark of the value (or key) at ``path``, else of the nearest one around it."""
        if key and path in self.keys:
            return self.keys[path]
        for end in range(len(path), -1, -1):
            if path[:end] in self.values:
                return self.values[path[:end]]
        return None

    def place(self, path: DataPath, *, key: bool = False) -> Place | None:
        """Return the place of the value (or key) at ``path``, or of what is nearest around it."""
        mark = self.mark(path, key=key)
        return None if mark is None else place_of(mark)

    def diagnostic(
        self,
        code: str,
        message: str,
        path: DataPath,
        *,
        hint: str | None = None,
        key: bool = False,
        severity: Severity = "error",
    ) -> Diagnostic:
        """Return a diagnostic that points at the value (or key) at ``path``."""
        mark = self.mark(path, key=key)
        if mark is None:
            return Diagnostic(
                code=code, message=message, hint=hint, severity=severity, subject=self.label
            )
        return marked(code, message, mark, hint=hint, severity=severity)

    def graft(self, path: DataPath, other: Document) -> None:
        """Set the value at ``path`` to the data of ``other``, with its marks.

        The containers on the way must exist; a list position must exist as well.
        """
        container = self.data
        for part in path[:-1]:
            container = container[part]
        container[path[-1]] = other.data
        tables: tuple[tuple[dict[DataPath, Any], Mapping[DataPath, Any]], ...] = (
            (self.values, other.values),
            (self.keys, other.keys),
            (self.texts, other.texts),
        )
        for mine, theirs in tables:
            for old in [item for item in mine if item[: len(path)] == path]:
                if mine is not self.keys or old != path:
                    del mine[old]
            mine.update({path + tail: value for tail, value in theirs.items()})


def place_of(mark: Mark) -> Place:
    """Return the mark as a place."""
    return Place(file=mark.source.label, line=mark.line, column=mark.column)


def marked(
    code: str,
    message: str,
    mark: Mark,
    *,
    hint: str | None = None,
    severity: Severity = "error",
) -> Diagnostic:
    """Return a diagnostic at a mark, with its source line."""
    lines = mark.source.lines
    return Diagnostic(
        code=code,
        message=message,
        severity=severity,
        place=place_of(mark),
        hint=hint,
        snippet=lines[mark.line - 1] if 0 < mark.line <= len(lines) else None,
    )


def by_place(diagnostic: Diagnostic) -> tuple[bool, str, int, int, str, str]:
    """Return the sort key of diagnostics: by file, line and column; those without a place last."""
    place = diagnostic.place
    if place is None:
        return (True, diagnostic.subject or "", 0, 0, diagnostic.code, diagnostic.message)
    return (False, place.file, place.line, place.column, diagnostic.code, diagnostic.message)
