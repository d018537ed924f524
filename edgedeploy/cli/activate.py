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
from edgedeploy.cli.trusted import bundle_of, bundle_options
from edgedeploy.errors import UsageError
from edgedeploy.events import EventLog
from edgedeploy.places import default_store_path


@click.command()
@functools.partial(profile_options, required=False)
@bundle_options
@device_options
@functools.partial(fleet_options, careful=True)
@click.option(
    "--version",
    metavar="PREFIX",
    help="This version on the device; by default what the last build made for it.",
)
@click.option(
    "--allow-development",
    is_flag=True,
    help="On a device that trusts keys: also a version that nobody signed.",
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
    allow_development: bool,
    no_golden: bool,
    folder: Path,
    store: Path | None,
    wait_s: float,
    **rest: Any,
) -> int:
    """Make the pushed version of PROFILE, or of a signed bundle, active on devices.

    The staged version is run there first; then it is active on trial while the device's own
    restart and health hooks are asked; then it is confirmed. Otherwise the version before is
    active again.

    A device that trusts keys (`edgedeploy keys enrol -d`) checks the version first, and takes
    signed releases alone.

    Exit status: 0 active, 1 refused or rolled back, 4 a device failed, 7 the bundle was refused
    here, or the version by a device that trusts keys.
    """
    bundle = bundle_of(rest)
    if bundle is not None and version is not None:
        raise UsageError(
            "a bundle is one version", code="E100", hint="leave out --version or --release"
        )
    downgrade = bundle is None and rest.pop("allow_downgrade")
    fleet = fleet_of(output, rest, Path() if bundle else rest["profile"].parent)
    options = api.ActivateOptions(
        output=folder,
        store=store or default_store_path(),
        version=version,
        golden=not no_golden,
        allowed=api.Allowed(development=allow_development, downgrade=downgrade),
        wait_s=wait_s,
    )
    listener = watch(output)
    try:
        if bundle is not None:
            result = api.activate_release(bundle, fleet, options, EventLog(listener))
        else:
            result = api.activate(request_of(rest), fleet, options, EventLog(listener))
    finally:
        listener.close()
    return show_rows(output, result)
