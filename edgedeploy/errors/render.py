"""Diagnostics as plain text; the command line adds colour."""

from __future__ import annotations

import unicodedata

from edgedeploy.errors import Diagnostic

SNIPPET_WIDTH = 100
"""Characters of a source line that are shown; longer lines are cut around the column."""


def render(diagnostic: Diagnostic) -> str:
    """Return the diagnostic as lines of text without a line end at the last.

    The form is ``error[E104]: message``, `` --> file:line:column`` (or the subject), the source
    line with a caret under the column, ``hint: ...``. Characters that are not printable are
    escaped, so that text out of a file cannot drive the terminal.
    """
    lines = [f"{diagnostic.severity}[{diagnostic.code}]: {printable(diagnostic.message)}"]
    place = diagnostic.place
    if place is not None:
        lines.append(f" --> {printable(str(place))}")
        if diagnostic.snippet is not None:
            lines.extend(_snippet(diagnostic.snippet, place.line, place.column))
    elif diagnostic.subject is not None:
        lines.append(f" --> {printable(diagnostic.subject)}")
    if diagnostic.hint is not None:
        lines.append(f"hint: {printable(diagnostic.hint)}")
    return "\n".join(lines)


def _snippet(text: str, line: int, column: int) -> list[str]:
    """Return the numbered source line and the caret line."""
    at = min(max(column - 1, 0), len(text))
    start = 0 if at < SNIPPET_WIDTH - 10 else at - SNIPPET_WIDTH // 2
    head = "..." if start else ""
    tail = "..." if len(text) > start + SNIPPET_WIDTH else ""
    shown = printable(text[start : start + SNIPPET_WIDTH])
    before = head + printable(text[start:at])
    number = str(line)
    indent = " " * _columns(before)
    gutter = " " * len(number)
    return [f"{number} | {head}{shown}{tail}", f"{gutter} | {indent}^"]


def _columns(text: str) -> int:
    """Return how many terminal columns the text takes (wide characters take two)."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def printable(text: str) -> str:
    """Return the text with tabs as one space and other unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else " " if char == "\t" else repr(char)[1:-1] for char in text
    )
