"""Diagnostics as workflow commands of GitHub Actions, which become annotations of a change.

A command is one line, ``::error file=F,line=L,col=C,title=T::MESSAGE``. GitHub's runner reads it
from a step's output, splits it at ``::``, commas and line ends, and then undoes the escapes,
``%25`` last. Sources: "Workflow commands for GitHub Actions" in GitHub's documentation; the escapes
are those that ``ActionCommand.cs`` of GitHub's runner undoes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from edgedeploy.errors import Diagnostic
from edgedeploy.errors.render import printable

COMMANDS: Mapping[str, str] = {"error": "error", "warning": "warning", "note": "notice"}
"""Severity -> command."""

_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY = _DATA | str.maketrans({":": "%3A", ",": "%2C"})


def annotation(diagnostic: Diagnostic, root: str | None) -> str:
    """Return the diagnostic as one line without a line end.

    Args:
        diagnostic: What was found. Its subject and hint stand in the message, its source line does
            not: GitHub shows the annotation beside the line.
        root: Folder of the checkout (``GITHUB_WORKSPACE``). GitHub wants paths relative to it,
            whatever the current folder is; a file that is not below it keeps its path.
    """
    place = diagnostic.place
    message = [printable(diagnostic.message)]
    properties = {}
    if place is not None:
        path = _below(place.file, root)
        properties = {"file": path, "line": str(place.line), "col": str(place.column)}
    elif diagnostic.subject is not None:
        message[0] = f"{printable(diagnostic.subject)}: {message[0]}"
    if diagnostic.hint is not None:
        message.append(f"hint: {printable(diagnostic.hint)}")
    properties["title"] = f"edgedeploy {diagnostic.code}"
    told = ",".join(f"{name}={text.translate(_PROPERTY)}" for name, text in properties.items())
    data = "\n".join(message).translate(_DATA)
    return f"::{COMMANDS[diagnostic.severity]} {told}::{data}"


def _below(file: str, root: str | None) -> str:
    """Return the path of a file relative to a folder that it lies in, links resolved."""
    if not root:
        return file
    path, top = os.path.realpath(file), os.path.realpath(root)
    return os.path.relpath(path, top) if os.path.commonpath((path, top)) == top else file
