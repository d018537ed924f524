"""Strict YAML: a file or text becomes a :class:`Document`, after a bounded amount of work.

PyYAML's event parser (libyaml where it is built in) does the syntax; everything after that is ours,
so that limits hold while events arrive and before anything grows: size, depth, nodes, aliases. Keys
are always text. Anchors and aliases are allowed, what they stand for is counted and copied; merge
keys, tags outside the core schema, duplicate keys and several documents are refused.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from edgedeploy.config.compose import Composer
from edgedeploy.config.document import Document, Limits, Mark, Source, Work, by_place, marked
from edgedeploy.errors import Diagnostic, ProfileError

LIMITS = Limits()

_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # what libyaml counts as line ends
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAB_INDENT = re.compile(r"^ *\t\s*[^\s#]", re.MULTILINE)


def read_document(path: Path, *, label: str | None = None, work: Work | None = None) -> Document:
    """Return the file as a document.

    Args:
        path: A regular file.
        label: What diagnostics call it; by default the path as given.
        work: Counters to use, for callers that want them after a failure.

    Raises:
        ProfileError: It cannot be read (E101), is empty (E102) or too large (E103), or its text is
            refused (E110 to E121).
    """
    name = str(path) if label is None else label
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ProfileError(
                    f"cannot read `{name}`: not a regular file",
                    code="E101",
                    subject=name,
                    hint="give the path of a YAML file",
                )
            content = file.read(LIMITS.bytes + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ProfileError(
            f"cannot read `{name}`: {reason}",
            code="E101",
            subject=name,
            hint="give the path of a YAML file that exists and that you may read",
        ) from error
    return read_bytes(content, label=name, work=work)


def read_bytes(content: bytes, *, label: str, work: Work | None = None) -> Document:
    """Return the bytes of a YAML file as a document; see :func:`read_document`."""
    work = Work() if work is None else work
    work.bytes = len(content)
    if len(content) > LIMITS.bytes:
        raise ProfileError(
            f"`{label}` is larger than {LIMITS.bytes} bytes",
            code="E103",
            subject=label,
            hint="move data out of the file and name it by its path",
        )
    return read_text(_decode(content, label), label=label, work=work)


def read_text(text: str, *, label: str, work: Work | None = None) -> Document:
    """Return YAML text as a document; see :func:`read_document`."""
    source = Source(label=label, lines=tuple(_LINE_END.split(text)))
    work = Work(bytes=len(text)) if work is None else work
    found = _forbidden_character(text, source) or _tab(text, source)
    if found is not None:
        raise ProfileError(found)
    composer = Composer(_events(text), source, LIMITS, work)
    try:
        document = composer.document()
    except yaml.YAMLError as error:
        raise ProfileError([*composer.findings, _syntax(error, source)]) from error
    if composer.findings:
        raise ProfileError(sorted(composer.findings, key=by_place))
    return document


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file so that a named pipe does not block."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _events(text: str) -> Callable[[], Any]:
    """Return a function that gives the next parser event."""
    # The pure parser is the fallback where PyYAML was built without libyaml; same events.
    parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    return parser.get_event


def _decode(content: bytes, label: str) -> str:
    """Return UTF-8 bytes as text, without a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        lines = _LINE_END.split(before)
        shown = _LINE_END.split(content[: error.start + 200].decode("utf-8", "replace"))
        mark = Mark(
            source=Source(label=label, lines=tuple(shown)),
            line=len(lines),
            column=len(lines[-1]) + 1,
        )
        raise ProfileError(
            marked(
                "E110",
                f"byte 0x{content[error.start]:02x} is not UTF-8 text",
                mark,
                hint="save the file as UTF-8",
            )
        ) from error


def _forbidden_character(text: str, source: Source) -> Diagnostic | None:
    """Return the finding for the first character that YAML forbids."""
    found = _FORBIDDEN.search(text)
    if found is None:
        return None
    return marked(
        "E110",
        f"character U+{ord(found[0]):04X} is not allowed in YAML",
        _mark_at(text, found.start(), source),
        hint='remove it, or write it as an escape in double quotes, such as "\\u0001"',
    )


def _tab(text: str, source: Source) -> Diagnostic | None:
    """Return the finding for the first line that is indented with a tab."""
    found = _TAB_INDENT.search(text)
    if found is None:
        return None
    return marked(
        "E112",
        "a tab indents this line",
        _mark_at(text, found.start() + found[0].index("\t"), source),
        hint="indent with spaces",
    )


def _mark_at(text: str, offset: int, source: Source) -> Mark:
    lines = _LINE_END.split(text[:offset])
    return Mark(source=source, line=len(lines), column=len(lines[-1]) + 1)


def _syntax(error: yaml.YAMLError, source: Source) -> Diagnostic:
    """Return a parser error as a finding."""
    problem = str(getattr(error, "problem", None) or error)
    context = getattr(error, "context", None)
    at = getattr(error, "problem_mark", None)
    if "expected ',' or" in problem or at is None:
        at = getattr(error, "context_mark", None)  # the bracket that was never closed
    message = f"not YAML: {problem}" + (f" ({context})" if context else "")
    line = min(at.line + 1, len(source.lines)) if at is not None else 1
    column = at.column + 1 if at is not None else 1
    return marked(
        "E111",
        message,
        Mark(source=source, line=line, column=column),
        hint=_syntax_hint(problem),
    )


def _syntax_hint(problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return "put text that contains `: ` in quotes, or check the indentation"
    if "cannot start any token" in problem:
        return "put text that starts with a special character (@ ` % tab) in quotes"
    if "expected ',' or" in problem:
        return "close the bracket or add the missing comma"
    return "check the indentation, brackets and quotes at this place"
