"""``edgedeploy build``: the main job."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.request import device_options, profile_options, request_of
from edgedeploy.errors import Diagnostic, ExitCode
from edgedeploy.freshness import snapshot_path, still_fresh
from edgedeploy.places import DOCUMENT, TEXT, default_store_path

# Options that change nothing of what comes out.
UNFELT = ("events", "jobs", "fail_fast", "accept_new", "no_input")


@click.command()
@profile_options
@device_options
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build"),
    show_default=True,
    help="Folder for results.",
)
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Workers at once.")
@click.option("--locked", is_flag=True, help="Insist on edgedeploy.lock.")
@click.option("--fail-fast", is_flag=True, help="Start nothing new after the first failure.")
@click.option("--sensitivity", is_flag=True, help="Rank the layers by what 8 bits cost them.")
@click.option("--no-bench", is_flag=True, help="Measure nothing now.")
@click.option("--events", type=click.Path(path_type=Path), help="Append events as JSON lines.")
@verb
def command(output: Output, **options: Any) -> int:
    """Build, verify and gate the artifacts of PROFILE.

    What only a device can build (TensorRT engines) is built on the devices of its board that
    devices.yaml names, or on those of them that -d chooses.

    Exit status: 0 all accepted, 1 a gate refused, 2 profile or model refused, 3 a stage failed,
    4 a device failed.
    """
    store: Path = options["store"] or default_store_path()
    said = {name: value for name, value in _said(options).items() if name not in UNFELT}
    fresh = snapshot_path(store, {"build": said})
    if not output.verbose and not options["events"]:
        kept = still_fresh(fresh)
        if kept is not None:
            output.diagnostics(Diagnostic.from_json(item) for item in kept["notes"])
            _annotate_refusals(output, options["profile"], Path(kept["folder"]))
            return show_build(output, Path(kept["folder"]), ExitCode(kept["status"]))
    from edgedeploy import api
    from edgedeploy.cli.fleet import workshop_of
    from edgedeploy.cli.progress import watch
    from edgedeploy.events import EventLog, JsonLines

    request = request_of(options)
    listener = watch(output)
    log = EventLog(listener)
    if options["events"]:
        log = EventLog(listener, JsonLines(options["events"]))
    try:
        result = api.build(
            request,
            api.BuildOptions(
                output=options["folder"],
                store=store,
                jobs=options["jobs"],
                locked=options["locked"],
                fail_fast=options["fail_fast"],
                measure="known" if options["no_bench"] else "missing",
                sensitivity=options["sensitivity"],
            ),
            log,
            fresh=fresh,
            workshop=workshop_of(options, request.profile.parent, log),
        )
    finally:
        listener.close()
    output.diagnostics(result.notes)
    failed = [outcome for outcome in result.outcomes if outcome.state == "failed"]
    findings = [item for out in failed for trial in out.trials for item in trial.diagnostics]
    findings += [item for found in result.combinations for item in found.diagnostics]
    output.diagnostics(dict.fromkeys(findings))  # targets that share a stage share its failure
    _annotate_refusals(output, request.profile, result.folder)
    return show_build(output, result.folder, result.exit_code)


def _said(options: dict[str, Any]) -> dict[str, Any]:
    """Return everything that the command line says as JSON data, with absolute paths."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value.absolute()) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in options.items()}


def _annotate_refusals(output: Output, profile: Path, folder: Path) -> None:
    """Annotate the targets that gates refused; the report says it to everybody else."""
    if output.annotations is None:
        return
    from edgedeploy.config.read import read_document as read_yaml
    from edgedeploy.profile.load import places_of_targets
    from edgedeploy.report.document import read_document
    from edgedeploy.report.refusals import refusals

    places = places_of_targets(read_yaml(profile))
    for item in refusals(read_document(folder / DOCUMENT), places):
        output.annotate(item)


def show_build(output: Output, folder: Path, code: ExitCode) -> int:
    """Print the report of the build in ``folder`` as the verb's result."""
    if output.as_json:
        data = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        return output.result("", {"build": data}, code)
    if not sys.stdout.isatty():
        return output.result((folder / TEXT).read_text(encoding="utf-8").rstrip("\n"), {}, code)
    from edgedeploy.report.document import read_document
    from edgedeploy.report.terminal import terminal_report

    width = shutil.get_terminal_size().columns
    document = read_document(folder / DOCUMENT)
    text = terminal_report(document, width=width, colour=output.colours_on(sys.stdout))
    return output.result(text.rstrip("\n"), {}, code)
