"""What verbs on devices share: which devices and how many at once, and the table of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy.cli.output import Output

if TYPE_CHECKING:
    from edgedeploy.deploy.bench import DeviceSite
    from edgedeploy.deploy.fleet import Fleet, Result, Row
    from edgedeploy.devices.inventory import Device
    from edgedeploy.engines import Workshop
    from edgedeploy.errors import Diagnostic, ExitCode
    from edgedeploy.events import EventLog
    from edgedeploy.plan import Plan
    from edgedeploy.remote import Remote
    from edgedeploy.store import Store

WIDTH = 80
"""Columns that the row of a device with diagnostics may take."""


def fleet_options(function: Callable[..., Any], *, careful: bool = False) -> Callable[..., Any]:
    """Add ``-j`` and ``--wait``; with ``careful`` also ``--canary``, ``--batch``, ``--stop-above``.

    Args:
        function: A verb that takes ``device_options`` as well; see :func:`fleet_of`.
        careful: The verb changes what devices run.
    """
    options = [
        click.option(
            "--wait",
            "wait_s",
            type=click.FloatRange(min=0),
            default=0.0,
            metavar="SECONDS",
            help="Wait so long for somebody else's lock.",
        ),
        click.option("-j", "--jobs", type=click.IntRange(min=1), help="Devices at once."),
    ]
    if careful:
        options += [
            click.option(
                "--stop-above",
                type=click.FloatRange(0, 1),
                metavar="RATIO",
                help="Stop when more of a batch fail; by default 0.2.",
            ),
            click.option(
                "--batch", type=click.IntRange(min=1), help="Devices of a batch; by default 10."
            ),
            click.option(
                "--canary",
                type=click.IntRange(min=0),
                help="Devices that go first and must succeed; by default 1 of more than 3.",
            ),
        ]
    for option in options:
        function = option(function)
    return function


def fleet_of(output: Output, options: dict[str, Any], project: Path) -> Fleet[Device]:
    """Take what ``device_options`` and :func:`fleet_options` added out of a verb's options.

    ``wait_s`` stays: it is the verb's.

    Args:
        output: Where progress is told.
        options: The verb's options.
        project: Folder in which devices.yaml is looked for first.

    Raises:
        ProfileError: The inventory is refused.
        UsageError: No such device.
    """
    from edgedeploy.deploy.fleet import JOBS, Fleet, Rollout
    from edgedeploy.devices.inventory import load_inventory

    devices = load_inventory(options.pop("inventory"), project).select(options.pop("devices"))
    rollout = None
    if "canary" in options:
        wanted = [options.pop(name) for name in ("canary", "batch", "stop_above")]
        rollout = Rollout.careful(len(devices), *wanted)
    return Fleet(
        devices=devices,
        connect=_connector(options.pop("accept_new"), options.pop("no_input")),
        jobs=options.pop("jobs") or JOBS,
        rollout=rollout,
        told=output.say,
    )


def sites_of(
    output: Output,
    options: dict[str, Any],
    project: Path,
    events: EventLog,
    samples: int | None = None,
) -> list[DeviceSite]:
    """Take what ``device_options`` added out of a verb's options; return the devices as sites.

    Args:
        output: Where progress is told.
        options: The verb's options.
        project: Folder in which devices.yaml is looked for first.
        events: Where progress is told, too.
        samples: How many samples of an evaluation each is asked; None all.

    Raises:
        ProfileError: The inventory is refused.
        UsageError: No such device.
    """
    from edgedeploy.deploy.bench import DeviceSite

    fleet = fleet_of(output, {**options, "jobs": None}, project)
    return [
        DeviceSite(
            device,
            lambda device=device: fleet.connect(device),  # type: ignore[misc]
            pretended=device.kind == "fake",
            claimed=device.facts,
            samples=samples,
            events=events,
        )
        for device in fleet.devices
    ]


def workshop_of(
    options: Mapping[str, Any], project: Path, events: EventLog
) -> Callable[[Plan, Store], Workshop | None]:
    """Return what finds the devices that build engines: those of ``-d``, by default all.

    The inventory is read only for a plan that has something to build on a device.

    Args:
        options: The verb's, with what ``device_options`` added.
        project: Folder in which devices.yaml is looked for first.
        events: Where progress is told.
    """

    def found(plan: Plan, store: Store) -> Workshop | None:
        from edgedeploy.deploy.engines import DeviceWorkshop
        from edgedeploy.devices.inventory import load_inventory
        from edgedeploy.engines import is_built_on_device

        patterns = options["devices"]
        if not any(map(is_built_on_device, plan.items)):
            return None
        inventory = load_inventory(options["inventory"], project)
        chosen = {device.name for device in inventory.select(patterns)} if patterns else None
        connect = _connector(options["accept_new"], options["no_input"])
        return DeviceWorkshop(inventory, connect, store, events, chosen=chosen)

    return found


def _connector(accept_new: bool, no_input: bool) -> Callable[[Device], Remote]:
    from edgedeploy.cli.asking import asker
    from edgedeploy.devices.connect import connect

    ask = asker(no_input=no_input)
    return lambda device: connect(device, accept_new=accept_new, ask=ask)


def show_rows(
    output: Output,
    result: Result,
    more: Mapping[str, Any] | None = None,
    lines: Callable[[Row], list[str]] | None = None,
    code: ExitCode | None = None,
) -> int:
    """Print what became of every device as the verb's result; return the exit status.

    Args:
        output: Where.
        result: The rows.
        more: What the JSON document holds besides.
        lines: Further lines of text for a row.
        code: The exit status; None takes that of the rows.
    """
    output.diagnostics(
        dict.fromkeys(
            _placed(item, row.device)
            for row in result.rows
            for item in row.diagnostics
            if row.state != "skipped"
        )
    )
    width = max((len(row.device) for row in result.rows), default=0)
    text = []
    for row in result.rows:
        state = "already" if row.already and row.state == "done" else row.state
        line = f"{row.device:<{width}}  {state:<11}  {row.seconds:6.1f} s  {row.text}"
        if row.diagnostics and len(line) > WIDTH:  # they have said it in full
            line = f"{line[: WIDTH - 3]}..."
        text.append(line)
        text += lines(row) if lines else []
    counts = [f"{count} {state}" for state, count in result.counts.items() if count]
    if len(result.rows) > 1:
        text.append(", ".join(counts))
    data = {**result.to_json(), **(more or {})}
    return output.result("\n".join(text), data, result.exit_code if code is None else code)


def _placed(item: Diagnostic, device: str) -> Diagnostic:
    """Return a diagnostic that says which device it is about."""
    return item if item.place or item.subject else replace(item, subject=device)
