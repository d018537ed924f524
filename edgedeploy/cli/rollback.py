"""``edgedeploy rollback``: switch devices to the version that was active before."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

from edgedeploy import api
from edgedeploy.cli.fleet import fleet_of, fleet_options, show_rows
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.request import device_options


@click.command()
@click.argument("profile", metavar="PROFILE|NAME")
@device_options
@functools.partial(fleet_options, careful=True)
@click.option(
    "--from",
    "source",
    metavar="PREFIX",
    default="",
    help="Only where this version is active, so that the command can be repeated.",
)
@verb
def command(output: Output, profile: str, source: str, wait_s: float, **rest: Any) -> int:
    """Go back to the version that was active before, and restart what uses it.

    PROFILE is read for the application's name alone, which may be given in its place. A second
    roll-back undoes the first; with --from it does nothing.

    Exit status: 0 done, 1 done and not well, 4 a device failed.
    """
    app = api.app_name(profile)
    fleet = fleet_of(output, rest, Path(profile).parent)
    return show_rows(output, api.rollback(app, fleet, source=source, wait_s=wait_s), {"app": app})
