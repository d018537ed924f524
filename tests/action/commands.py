"""Workflow commands as GitHub's runner reads them from a step's output.

Written from ``ActionCommand.cs`` (``TryParseV2``) and "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

from dataclasses import dataclass

ISSUES = ("error", "warning", "notice")
_DATA = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
_PROPERTY = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command: its name, properties and data, unescaped."""

    name: str
    properties: dict[str, str]
    data: str


def read_command(line: str) -> Command | None:
    """Return the command that a line is, None when it is ordinary output."""
    line = line.lstrip()
    if not line.startswith("::"):
        return None
    head, separator, data = line[2:].partition("::")
    name, _, told = head.partition(" ")
    if not separator or name not in ISSUES:
        return None
    pairs = [part.split("=", 1) for part in told.strip().split(",") if part]
    properties = {pair[0]: _undone(pair[1], _PROPERTY) for pair in pairs if len(pair) == 2}
    return Command(name=name, properties=properties, data=_undone(data, _DATA))


def read_commands(log: str) -> list[Command]:
    """Return the commands of a step's output in order."""
    return [found for line in log.split("\n") if (found := read_command(line)) is not None]


def _undone(text: str, escapes: tuple[tuple[str, str], ...]) -> str:
    for escape, char in escapes:
        text = text.replace(escape, char)
    return text
