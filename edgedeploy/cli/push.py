"""``edgedeploy push``: bring what was built to devices, and leave what they run as it is."""

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
from edgedeploy.cli.trusted import bundle_of, bundle_options
from edgedeploy.errors import UsageError
from edgedeploy.events import EventLog
from edgedeploy.places import default_store_path


@click.command()
@functools.partial(profile_options, required=False)
@bundle_options
@device_options
@fleet_options
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), default=Path("build"))
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(output: Output, folder: Path, store: Path | None, wait_s: float, **rest: Any) -> int:
    """Stage the last build of PROFILE, or a signed bundle, on devices.

    Only what a device lacks travels. A push that was cut goes on where it was when it is run
    again. The staged version runs when `edgedeploy activate` switches to it.

    A bundle is verified here (--key, --trust), and once more on each device that trusts keys.

    Exit status: 0 staged, 1 a gate had refused it, 2 not for this device, 3 not built, 4 a device
    failed, 7 the bundle was refused, here or there, or what arrived was damaged again and again.
    """
    bundle = bundle_of(rest)
    if bundle is None and rest.pop("allow_downgrade"):
        raise UsageError(
            "--allow-downgrade is of a bundle", code="E100", hint="add --release BUNDLE"
        )
    fleet = fleet_of(output, rest, Path() if bundle else rest["profile"].parent)
    options = api.PushOptions(output=folder, store=store or default_store_path(), wait_s=wait_s)
    listener = watch(output)
    try:
        if bundle is not None:
            result = api.push_release(bundle, fleet, options, EventLog(listener))
        else:
            result = api.push(request_of(rest), fleet, options, EventLog(listener))
    finally:
        listener.close()
    return show_rows(output, result)
