"""From a profile to devices that run it: build, push, bench, accept, activate, in one go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgedeploy.api import BuildOptions, BuildResult, Request, build
from edgedeploy.deploy.bench import DeviceSite, check_boards
from edgedeploy.deploy.fleet import Fleet, Result, Row
from edgedeploy.deploy.verbs import ActivateOptions, PushOptions, activate, push
from edgedeploy.devices.inventory import Device
from edgedeploy.engines import Workshop
from edgedeploy.errors import ExitCode, combined_exit_code
from edgedeploy.events import EventLog
from edgedeploy.plan import Plan
from edgedeploy.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipOptions:
    """How a profile is shipped.

    Attributes:
        output: Folder for results.
        store: The store.
        bench: Measure on the first device of each board before anything is activated.
        wait_s: How long to wait for a device's lock when somebody else holds it.
    """

    output: Path
    store: Path
    bench: bool = True
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What came of it.

    Attributes:
        build: The last build: with what was measured on devices, when something was.
        result: What became of each device in the last step it came to; None when the build, or
            what was measured, refused.
        stopped: The step at which it ended, empty when it went through.
    """

    build: BuildResult
    result: Result | None
    stopped: str

    @property
    def exit_code(self) -> ExitCode:
        """The process exit status."""
        codes = [self.build.exit_code, *([self.result.exit_code] if self.result else [])]
        return combined_exit_code(codes)


def ship(
    request: Request,
    fleet: Fleet[Device],
    options: ShipOptions,
    events: EventLog,
    workshop: Callable[[Plan, Store], Workshop | None] | None = None,
) -> Shipped:
    """Bring what a profile asks for onto every device of a fleet, and activate it there.

    Each step is as by its own verb, and finds done what was done before: the same call again goes
    on where this one stopped.

    Args:
        request: Which profile.
        fleet: The devices; its rollout orders the activation.
        options: How.
        events: Where progress is told.
        workshop: As for :func:`edgedeploy.api.build`; asked by the first build alone.

    Raises:
        EdgedeployError: The profile is refused, or fits one of the devices not.
    """
    wanted = BuildOptions(output=options.output, store=options.store)
    built = build(request, wanted, events, workshop=workshop)
    if built.exit_code != ExitCode.DONE:
        return Shipped(build=built, result=None, stopped="build")
    check_boards(built.plan, fleet.devices)
    how = PushOptions(output=options.output, store=options.store, wait_s=options.wait_s)
    rows = _rows(push(request, replace(fleet, rollout=None), how, events))
    ready = _done(fleet, rows)
    if ready.devices and options.bench:
        before = built.lock.artifacts
        built = _benched(request, ready, wanted, events)
        if built.exit_code != ExitCode.DONE:
            return Shipped(build=built, result=_result(fleet, rows), stopped="accept")
        if built.lock.artifacts != before:  # what was measured chose another candidate
            rows |= _rows(push(request, replace(ready, rollout=None), how, events))
            ready = _done(fleet, rows)
    if ready.devices:
        last = ActivateOptions(output=options.output, store=options.store, wait_s=options.wait_s)
        rows |= _rows(activate(request, ready, last, events))
    return Shipped(build=built, result=_result(fleet, rows), stopped="")


def _benched(
    request: Request, fleet: Fleet[Device], wanted: BuildOptions, events: EventLog
) -> BuildResult:
    """Measure on the first device of each board, and judge all gates by that."""
    first = {device.board: device for device in reversed(fleet.devices)}
    with contextlib.ExitStack() as stack:
        sites = []
        for device in first.values():
            site = DeviceSite(
                device,
                lambda device=device: fleet.connect(device),  # type: ignore[misc]
                pretended=device.kind == "fake",
                events=events,
            )
            stack.callback(site.close)
            sites.append(site)

        def measured_on(_: Plan) -> list[DeviceSite]:
            return sites

        return build(request, replace(wanted, measure="known"), events, sites=measured_on)


def _rows(result: Result) -> dict[str, Row]:
    return {row.device: row for row in result.rows}


def _done(fleet: Fleet[Device], rows: Mapping[str, Row]) -> Fleet[Device]:
    """Return the fleet of the devices that a step came through on."""
    devices = [device for device in fleet.devices if rows[device.name].state == "done"]
    return replace(fleet, devices=devices)


def _result(fleet: Fleet[Device], rows: Mapping[str, Row]) -> Result:
    return Result(rows=tuple(rows[device.name] for device in fleet.devices))
