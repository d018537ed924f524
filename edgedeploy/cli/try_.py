"""``edgedeploy try``: one file through everything that was built, answers side by side."""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy import api
from edgedeploy.cli.fleet import sites_of
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.progress import watch
from edgedeploy.cli.request import device_options, profile_options, request_of
from edgedeploy.errors import UsageError
from edgedeploy.events import EventLog

if TYPE_CHECKING:
    from edgedeploy.trying import Answered, Tried

_PROFILE = re.compile(r"^edgedeploy\s*:", re.MULTILINE)
"""The key that every profile has, and no other YAML file."""

_WIDE = 110
"""Columns of the table, unless the terminal has fewer."""

_LEAST = 24
"""Columns that an answer is wrapped in at the least."""

_GLUE = "\0"
"""Stands for a space at which no line breaks."""

_EVIDENCE = len("refused by a gate")
"""Columns of where an answer comes from."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@functools.partial(profile_options, required=False)
@device_options
@click.option(
    "-o",
    "--output",
    "pictures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Draw the boxes of every answer into copies of the picture, in this folder.",
)
@click.option(
    "--build",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("build"),
    show_default=True,
    help="Folder for results that the build was given.",
)
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(
    output: Output,
    file: Path,
    pictures: Path | None,
    folder: Path,
    store: Path | None,
    **rest: Any,
) -> int:
    """Show what the last build of PROFILE answers to FILE: a picture, a WAV, a text or arrays.

    The float model and the artifact of every target, side by side: the answer, how it differs from
    the float model's, and where it comes from. With -d the artifacts run on devices; the file is
    read, and answers are decoded, here. Nothing is timed and nothing of FILE is kept.

    Without PROFILE the one profile in this folder is taken.

    Exit status: 0 all answered, 2 FILE does not suit, 3 not built or an artifact failed, 4 a device
    failed.
    """
    rest["profile"] = rest["profile"] or only_profile(Path())
    listener = watch(output)
    events = EventLog(listener)
    with contextlib.ExitStack() as stack:
        stack.callback(listener.close)
        sites = []
        if rest["devices"]:
            sites = sites_of(output, rest, rest["profile"].parent, events)
            for site in sites:
                stack.callback(site.close)
        options = api.TryOptions(output=folder, store=store, pictures=pictures)
        found = api.try_file(file, request_of(rest), options, events, sites)
    for row in found.rows:
        output.diagnostics(row.diagnostics)
    return output.result(tried_text(found), {"try": found.to_json()}, found.exit_code)


def only_profile(folder: Path) -> Path:
    """Return the one profile that a folder holds.

    Raises:
        UsageError: There is none, or there are several (E854).
    """
    found = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        with contextlib.suppress(OSError, ValueError):  # what cannot be read is no profile
            if _PROFILE.search(path.read_text(encoding="utf-8")):
                found.append(path)
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found)
    raise UsageError(
        f"this folder has several profiles: {names}" if found else "this folder has no profile",
        code="E854",
        hint="name one: edgedeploy try FILE PROFILE",
    )


def tried_text(tried: Tried) -> str:
    """Return what was answered as text for a terminal, without a line feed at its end."""
    from edgedeploy.report.figures import printable
    from edgedeploy.report.table import Row, Table
    from edgedeploy.report.terminal import plain_table

    width = min(shutil.get_terminal_size((_WIDE, 0)).columns, _WIDE)
    others = max(len(_named(row)) for row in tried.rows) + _EVIDENCE + 3 * len("  ")
    cell = functools.partial(_wrapped, width=max(_LEAST, (width - others) // 2))
    parts = [f"{tried.file.name} ({tried.kind}), asked of {tried.app}"]
    for model in dict.fromkeys(row.model for row in tried.rows):
        rows = [row for row in tried.rows if row.model == model]
        table = Table(
            columns=("Target", "Answer", "Against float", "Evidence"),
            rows=tuple(Row(standing="float", cells=_cells(row, cell)) for row in rows),
        )
        parts += ["", f"Model {model}" if model != "pipeline" else "Pipeline", ""]
        parts.append(plain_table(table, width).rstrip("\n"))
    devices = sorted({row.device for row in tried.rows if row.device})
    if devices:
        parts += ["", f"The models ran on {', '.join(devices)}; reading and decoding ran here."]
    pictures = [str(row.picture) for row in tried.rows if row.picture]
    if pictures:
        parts += ["", *(f"drawn: {path}" for path in pictures)]
    return printable("\n".join(parts))


Cell = Callable[[str], tuple[str, ...]]


def _cells(row: Answered, cell: Cell) -> tuple[tuple[str, ...], ...]:
    """Return a row's cells: target, answer, difference and evidence."""
    if row.answer is None:
        answer = cell("; ".join(item.message for item in row.diagnostics) or "no answer")
    else:
        answer = cell(row.answer["words"] or "an empty text")
    against = cell(row.difference["words"]) if row.difference else ("-",)
    refused = "refused by a gate" if row.verdict == "refused" else ""
    evidence = (row.evidence, f"on {row.device}" if row.device else "", refused)
    return (
        (_named(row),),
        answer,
        against,
        tuple(part for part in evidence if part),
    )


def _named(row: Answered) -> str:
    """Return what answers; a model that the file does not fit was not asked."""
    if row.target is None:
        return "not asked" if row.evidence == "none" else "float model"
    return f"{row.target} {row.candidate}".rstrip()


def _wrapped(text: str, width: int) -> tuple[str, ...]:
    """Return a text in lines, which break behind commas rather than inside of an item."""
    lines: list[str] = []
    for line in text.splitlines():
        items = [
            item.replace(" ", _GLUE) if len(item) < width else item for item in line.split(", ")
        ]
        lines += textwrap.wrap(", ".join(items), width, break_on_hyphens=False) or [""]
    return tuple(line.replace(_GLUE, " ") for line in lines) or ("",)
