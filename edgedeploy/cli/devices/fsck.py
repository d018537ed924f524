"""``edgedeploy devices fsck``: check what lies on devices, repair it, clean it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy import api
from edgedeploy.cli.fleet import fleet_of, fleet_options, show_rows
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.request import device_options
from edgedeploy.errors import UsageError
from edgedeploy.remote import printable

if TYPE_CHECKING:
    from edgedeploy.deploy.fleet import Row

KEEP = 2
SHORT = 12


@click.command()
@device_options
@fleet_options
@click.option("--app", metavar="PROFILE|NAME", help="Only the depot of this application.")
@click.option("--repair", is_flag=True, help="Take away what is damaged; never what is active.")
@click.option("--gc", is_flag=True, help="Remove versions that are not needed.")
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    help=f"With --gc: so many of the newest stay besides current and previous; {KEEP} by default.",
)
@verb
def command(
    output: Output,
    app: str | None,
    repair: bool,
    gc: bool,
    keep: int | None,
    wait_s: float,
    **rest: Any,
) -> int:
    """Check the depots on devices: every object, version and link; show what is active.

    With -v also the end of each depot's journal.

    Exit status: 0 sound or repaired, 7 damaged, 4 a device failed.
    """
    if keep is not None and not gc:
        raise UsageError("--keep means nothing without --gc", code="E100", hint="add --gc")
    fleet = fleet_of(output, rest, Path(app).parent if app else Path())
    care = api.Care(
        repair=repair,
        keep=(KEEP if keep is None else keep) if gc else None,
        journal=output.verbose,
        wait_s=wait_s,
    )
    result = api.fsck(None if app is None else api.app_name(app), fleet, care)
    return show_rows(output, result, lines=_lines)


def _lines(row: Row) -> list[str]:
    """Return what the depots of a device hold, line by line."""
    found = []
    for depot in row.details.get("depots", ()):
        free = f"{depot['free_bytes'] / 1e9:.2f} GB free, by the {depot['agent']} agent"
        found.append(f"  {depot['app']}  {depot['root']}  ({free})")
        for version in depot["versions"]:
            marks = [mark for mark in ("current", "previous") if depot[mark] == version]
            found.append(f"    {version[:SHORT]}  {', '.join(marks)}".rstrip())
        for item in depot["damage"]:
            end = "  repaired" if item["repaired"] else ""
            found.append(f"    {item['what']}  {item['path']}{end}")
        if depot["freed_bytes"] is not None:
            found.append(f"    {depot['freed_bytes'] / 1e6:.2f} MB removed")
        found += [f"    {_event(line)}" for line in depot.get("journal", ())]
    return found


def _event(line: str) -> str:
    """Return a line of a journal for people: when by the device's clock, what, which version."""
    try:
        found = json.loads(line)
        when = datetime.fromtimestamp(found["clock"], UTC).strftime("%Y-%m-%d %H:%M:%S")
        words = [when, found["event"], str(found.get("version", ""))[:SHORT]]
        if found.get("before"):
            words.append(f"(before: {found['before'][:SHORT]})")
        if found.get("details"):
            told = json.loads(found["details"])
            told.pop("version", None)
            words += [
                ", ".join(one) if isinstance(one, list) else str(one) for one in told.values()
            ]
        return printable(" ".join(word for word in words if word).encode())
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError):
        return line  # whatever lies there is shown as it is
