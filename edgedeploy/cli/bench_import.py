"""``edgedeploy bench import``: take over what an app measured on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedeploy import api
from edgedeploy.cli.build import show_build
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.progress import watch
from edgedeploy.cli.request import profile_options, request_of
from edgedeploy.events import EventLog


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@profile_options
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("build"),
    show_default=True,
    help="Folder for results.",
)
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(output: Output, file: Path, folder: Path, store: Path | None, **rest: Any) -> int:
    """Keep what the tests of an app measured, and judge PROFILE's gates by it.

    FILE is the attachment `bench-MODEL-BOARD-RUNTIME.json` of the tests of a Swift package. It
    must be of an artifact of PROFILE's last build. The record says that it was imported, and so
    does every report that shows it.

    Exit status: 0 no gate refused, 1 one did, 2 the file or the profile is refused.
    """
    request = request_of(rest)
    listener = watch(output)
    events = EventLog(listener)
    try:
        found = api.import_bench(request, file, output=folder, store=store, events=events)
        app = found.app
        where = f"{app.machine}, {app.system} {app.os_version}, {app.created}"
        already = "" if found.new else ", which was imported before"
        output.say(f"imported: {app.model} for {app.target} on {where}{already}")
        for reason in found.reasons:
            output.say(f"it judges no gates: {reason}")
        options = api.BuildOptions(output=folder, store=store, measure="known")
        result = api.build(request, options, events)
    finally:
        listener.close()
    return show_build(output, result.folder, result.exit_code)
