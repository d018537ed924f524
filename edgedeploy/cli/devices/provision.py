"""``edgedeploy devices provision``: put a runtime on devices that have none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy import api
from edgedeploy.cli.fleet import fleet_of, fleet_options, show_rows
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.progress import watch
from edgedeploy.cli.request import device_options
from edgedeploy.events import EventLog

if TYPE_CHECKING:
    from edgedeploy.deploy.fleet import Row


@click.command()
@device_options
@fleet_options
@click.option(
    "--runtime",
    "family",
    type=click.Choice(["ort", "openvino", "coreml"]),
    default="ort",
    show_default=True,
    help="Which runtime.",
)
@click.option("--version", metavar="X", help="Exactly this version of it.")
@click.option(
    "--native",
    is_flag=True,
    help="A small program and the runtime's C library; devices without Python get it anyway.",
)
@click.option(
    "--upgrade", is_flag=True, help="Look for a newer one, also where there is one already."
)
@verb
def command(
    output: Output,
    family: str,
    version: str | None,
    native: bool,
    upgrade: bool,
    wait_s: float,
    **rest: Any,
) -> int:
    """Put a runtime on devices; they need neither internet nor root.

    It is chosen and fetched here, by pip, for each device's processor, C library and Python.

    Exit status: 0 it is there, 4 a device failed, 5 pip or a compiler is missing here.
    """
    fleet = fleet_of(output, rest, Path())
    wish = api.Wish(family=family, version=version, native=native, upgrade=upgrade, wait_s=wait_s)
    listener = watch(output)
    try:
        result = api.provision(fleet, wish, EventLog(listener))
    finally:
        listener.close()
    return show_rows(output, result, lines=_lines)


def _lines(row: Row) -> list[str]:
    """Return what was put on a device, part by part."""
    return [
        f"  {part['name']} {part.get('version', part.get('compiler', ''))}  "
        f"{part.get('license', '')}  {part['sha256'][:12]}"
        for part in row.details.get("parts", ())
    ]
