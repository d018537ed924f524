"""``edgedeploy bench``: measure built artifacts, on this machine or on devices."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy import api
from edgedeploy.cli.build import show_build
from edgedeploy.cli.fleet import sites_of, workshop_of
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.progress import watch
from edgedeploy.cli.request import device_options, profile_options, request_of
from edgedeploy.errors import UsageError
from edgedeploy.events import EventLog

if TYPE_CHECKING:
    from edgedeploy.deploy.bench import DeviceSite
    from edgedeploy.plan import Plan


class _Bench(click.Command):
    """The verb, or the one below it: ``import`` stands where a profile would."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Return the context of the one that is called."""
        if args[:1] != ["import"]:
            return super().make_context(info_name, args, parent, **extra)
        from edgedeploy.cli.bench_import import command

        return command.make_context(f"{info_name} import", args[1:], parent, **extra)


@click.command(cls=_Bench)
@profile_options
@device_options
@click.option(
    "--mode",
    type=click.Choice(["quick", "full"]),
    help="quick: 10 s each; full: 60 s and 1024 inferences each. By default the profile's.",
)
@click.option(
    "--parity",
    metavar="N",
    default="16",
    help="With -d: compare what the artifact answers there to the first N samples, 0 or `all`, "
    "with the float model; by default 16.",
)
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), default=Path("build"))
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(
    output: Output,
    mode: str | None,
    parity: str,
    folder: Path,
    store: Path | None,
    **rest: Any,
) -> int:
    """Measure PROFILE's artifacts again, on this machine or on the devices that -d names.

    Without -d, for the targets that this machine may stand in for. With it, for the targets of
    the devices' boards: the artifacts are staged there, never activated, measured in turns with
    the float one, and asked samples. What is not built yet is built first. Measurements are kept
    as dated records, by which later builds judge the gates.

    `edgedeploy bench import FILE PROFILE` takes over what an app measured on a phone.
    """
    request = request_of(rest)
    if mode:
        request = replace(request, sets=(*request.sets, f"bench={mode}"))
    listener = watch(output)
    events = EventLog(listener)
    with contextlib.ExitStack() as stack:
        stack.callback(listener.close)
        sites = workshop = None
        if rest["devices"]:
            workshop = workshop_of(dict(rest), request.profile.parent, events)
            found = sites_of(output, rest, request.profile.parent, events, _samples(parity))
            for site in found:
                stack.callback(site.close)
            sites = _checked(found)
        result = api.build(
            request,
            api.BuildOptions(output=folder, store=store, measure="known" if sites else "again"),
            events,
            sites=sites,
            workshop=workshop,
        )
    if not any(outcome.records or outcome.unmeasured for outcome in result.outcomes):
        why = "no artifact for the board" if sites else "no target of the profile is this machine"
        output.say(f"nothing was measured: {why}, or bench: off")
    output.diagnostics(result.unmeasured)
    return show_build(output, result.folder, result.exit_code)


def _samples(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise UsageError(
            f"--parity {text!r:.40} is no number of samples",
            code="E100",
            hint="give a number, 0 for none, or `all`",
        )
    return int(text)


def _checked(sites: Sequence[DeviceSite]) -> Any:
    """Return what refuses devices without a target before anything is built."""

    def found(plan: Plan) -> Sequence[DeviceSite]:
        from edgedeploy.deploy.bench import check_boards

        check_boards(plan, [site.unit for site in sites])
        return sites

    return found
