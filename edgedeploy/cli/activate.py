"""``edgedeploy activate``: switch devices to a staged version, or leave them as they were."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

from edgedeploy import api
from edgedeploy.cli.fleet import fleet_of, fleet_options, show_rows
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.progress import watch
from edgedeploy.cli.request import device_options, profile_options, request_of
from edgedeploy.events import EventLog
from edgedeploy.places import default_store_path


@click.command()
@profile_options
@device_options
@functools.partial(fleet_options, careful=True)
@click.option(
    "--version",
    metavar="PREFIX",
    help="This version on the device; by default what the last build made for it.",
)
@click.option(
    "--no-golden",
    is_flag=True,
    help="Do not run the version first; the device's own health hook must vouch for it.",
)
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), default=Path("build"))
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(
    output: Output,
    version: str | None,
    no_golden: bool,
    folder: Path,
    store: Path | None,
    wait_s: float,
    **rest: Any,
) -> int:
    """Make the pushed version of PROFILE active on devices.

    The staged version is run there first; then it is active on trial while the device's own
    restart and health hooks are asked; then it is confirmed. Otherwise the version before is
    active again.

    Exit status: 0 active, 1 refused or rolled back, 4 a device failed.
    """
    fleet = fleet_of(output, rest, rest["profile"].parent)
    listener = watch(output)
    try:
        result = api.activate(
            request_of(rest),
            fleet,
            api.ActivateOptions(
                output=folder,
                store=store or default_store_path(),
                version=version,
                golden=not no_golden,
                wait_s=wait_s,
            ),
            EventLog(listener),
        )
    finally:
        listener.close()
    return show_rows(output, result)
