"""``edgedeploy bench``: measure built artifacts on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edgedeploy import api
from edgedeploy.cli.build import show_build
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.progress import watch
from edgedeploy.cli.request import profile_options, request_of
from edgedeploy.events import EventLog


@click.command()
@profile_options
@click.option(
    "--mode",
    type=click.Choice(["quick", "full"]),
    help="quick: 10 s each; full: 60 s and 1024 inferences each. By default the profile's.",
)
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), default=Path("build"))
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(output: Output, mode: str | None, folder: Path, store: Path | None, **rest: Any) -> int:
    """Measure PROFILE's artifacts again, for the targets that this machine may stand in for.

    What is not built yet is built first. Measurements are kept as dated records.
    """
    request = request_of(rest)
    if mode:
        request = replace(request, sets=(*request.sets, f"bench={mode}"))
    listener = watch(output)
    try:
        result = api.build(
            request,
            api.BuildOptions(output=folder, store=store, measure="again"),
            EventLog(listener),
        )
    finally:
        listener.close()
    if not any(outcome.records for outcome in result.outcomes):
        output.say("nothing was measured: no target of the profile is this machine, or bench: off")
    return show_build(output, result.folder, result.exit_code)
