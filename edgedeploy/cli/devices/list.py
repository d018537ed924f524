"""``edgedeploy devices list``: which devices there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.request import device_option, inventory_option


@click.command("list")
@device_option
@inventory_option
@verb
def command(output: Output, devices: tuple[str, ...], inventory: Path | None) -> int:
    """List the devices of devices.yaml; connect to none."""
    from edgedeploy.devices.inventory import EXAMPLE, FILE, load_inventory

    found = load_inventory(inventory, Path())
    chosen = found.select(devices) if devices else tuple(found.devices.values())
    rows = [
        (
            device.name,
            device.kind,
            device.host or "-",
            device.board or "-",
            " ".join([*(f"@{group}" for group in device.groups), *device.tags]) or "-",
        )
        for device in chosen
    ]
    lines = _table([("NAME", "KIND", "HOST", "BOARD", "GROUPS AND TAGS"), *rows])
    if found.file is None:
        lines += [
            "",
            f"There is no {FILE}; one beside the profile could say:",
            "",
            EXAMPLE.rstrip(),
        ]
    else:
        lines += ["", f"read from {found.file}"]
    data = {
        "file": None if found.file is None else str(found.file),
        "devices": [summary(device) for device in chosen],
        "groups": {group: list(names) for group, names in found.groups.items()},
    }
    return output.result("\n".join(lines), data)


def summary(device: Any) -> dict[str, Any]:
    """Return what the inventory says about a device, as JSON data."""
    return {
        "name": device.name,
        "kind": device.kind,
        "host": device.host or None,
        "user": device.user,
        "port": device.port,
        "jump": device.jump,
        "identity": None if device.identity is None else str(device.identity),
        "board": device.board,
        "tags": list(device.tags),
        "groups": list(device.groups),
        "root": device.root,
        "python": device.python,
        "hooks": {
            "restart": device.hooks.restart,
            "health": device.hooks.health,
            "health_url": device.hooks.health_url,
            "timeout_s": device.hooks.timeout_s,
        },
        "facts": dict(device.facts),
    }


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
