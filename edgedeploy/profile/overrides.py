"""``--set a.b=v``: changes to the data of a profile before it is checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from edgedeploy.config.document import Document, Mark, Source, marked
from edgedeploy.config.nearest import shorten
from edgedeploy.config.read import read_text
from edgedeploy.errors import Diagnostic, ProfileError

_PART = re.compile(r'"([^"]*)"|([^."=]+)')
_HINT = 'write `--set key.key=value`; put a key that holds a dot in quotes: `a."b.c"=1`'


def apply_sets(document: Document, sets: Sequence[str]) -> None:
    """Change ``document`` by each ``key.key=value``, in order; values are YAML in one line.

    Raises:
        ProfileError: One is malformed, or its path leads through something that is no map or
            list (E143), or its value is refused YAML.
    """
    found: list[Diagnostic] = []
    for text in sets:
        try:
            _apply(document, text)
        except ProfileError as error:
            found.extend(error.diagnostics)
    if found:
        raise ProfileError(found)


def _apply(document: Document, text: str) -> None:
    parts, start = _parts(text)
    source = Source(label="--set", lines=(text,))
    written = text[start:] if text[start:].strip() else "null"
    try:
        value = read_text(" " * start + written, label="--set")
    except ProfileError as error:
        raise ProfileError(
            [replace(item, snippet=item.snippet and text) for item in error.diagnostics]
        ) from error
    # The marks count columns in the whole argument; show the argument as it was given.
    value.values = {k: replace(mark, source=source) for k, mark in value.values.items()}
    value.keys = {k: replace(mark, source=source) for k, mark in value.keys.items()}
    path: list[str | int] = []
    container = document.data
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        step = _step(container, part, text, document)
        path.append(step)
        if last:
            break
        if isinstance(container, dict) and container.get(step) is None:
            container[step] = {}
            document.values[tuple(path)] = Mark(source=source, line=1, column=1)
        container = container[step]
    if isinstance(path[-1], str):
        document.keys.setdefault(tuple(path), Mark(source=source, line=1, column=1))
    document.graft(tuple(path), value)


def _parts(text: str) -> tuple[list[str], int]:
    """Return the keys on the left of ``=`` and where the value starts."""
    parts: list[str] = []
    at = 0
    while found := _PART.match(text, at):
        parts.append(found[2] if found[1] is None else found[1])
        at = found.end()
        if text[at : at + 1] != ".":
            break
        at += 1
    if not parts or text[at : at + 1] != "=":
        raise ProfileError(_fault(text, at + 1, f"`{shorten(text)}` sets nothing"))
    return parts, at + 1


def _step(container: object, part: str, text: str, document: Document) -> str | int:
    """Return the key or list position that ``part`` means in ``container``."""
    if isinstance(container, dict):
        return part
    if isinstance(container, list):
        if part.isdecimal() and len(part) < 6 and int(part) < len(container):
            return int(part)
        message = f"`{shorten(part)}` is no position in a list of {len(container)}"
    else:
        message = f"there is no map to hold `{shorten(part)}`"
    raise ProfileError(_fault(text, max(text.find(part), 0) + 1, message))


def _fault(text: str, column: int, message: str) -> Diagnostic:
    source = Source(label="--set", lines=(text,))
    return marked("E143", message, Mark(source=source, line=1, column=column), hint=_HINT)
