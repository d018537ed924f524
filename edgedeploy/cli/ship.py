"""``edgedeploy ship``: build, push, bench, accept and activate in one go."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import click

from edgedeploy.cli.fleet import fleet_of, fleet_options, show_rows, workshop_of
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.progress import watch
from edgedeploy.cli.request import device_options, profile_options, request_of
from edgedeploy.events import EventLog
from edgedeploy.places import DOCUMENT, TEXT, default_store_path


@click.command()
@profile_options
@device_options
@functools.partial(fleet_options, careful=True)
@click.option("--no-bench", is_flag=True, help="Measure nothing on the devices.")
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), default=Path("build"))
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(
    output: Output, no_bench: bool, folder: Path, store: Path | None, wait_s: float, **rest: Any
) -> int:
    """Build PROFILE, push it to devices, measure it on one of each board, and activate it.

    Nothing is activated unless every gate passes with what was measured. The same command again
    goes on where it stopped.

    Exit status: 0 active everywhere, 1 refused or rolled back, 2 profile or model refused, 3 a
    stage failed, 4 a device failed.
    """
    from edgedeploy.shipping import ShipOptions, ship

    project, asked = rest["profile"].parent, dict(rest)
    fleet = fleet_of(output, rest, project)
    listener = watch(output)
    events = EventLog(listener)
    options = ShipOptions(
        output=folder, store=store or default_store_path(), bench=not no_bench, wait_s=wait_s
    )
    try:
        workshop = workshop_of(asked, project, events)
        shipped = ship(request_of(rest), fleet, options, events, workshop)
    finally:
        listener.close()
    output.diagnostics([*shipped.build.notes, *shipped.build.unmeasured])
    place = shipped.build.folder
    output.say((place / TEXT).read_text(encoding="utf-8").rstrip("\n"))
    if shipped.stopped:
        output.say(f"stopped at {shipped.stopped}: nothing was activated")
    document = json.loads((place / DOCUMENT).read_text(encoding="utf-8"))
    more = {"stopped": shipped.stopped, "build": document}
    if shipped.result is None:
        return output.result("", more, shipped.exit_code)
    return show_rows(output, shipped.result, more, code=shipped.exit_code)
