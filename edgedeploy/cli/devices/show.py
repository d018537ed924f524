"""``edgedeploy devices show``: what a connection to a device would use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedeploy.cli.devices.list import summary
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.request import inventory_option
from edgedeploy.places import default_store_path


@click.command("show")
@click.argument("name")
@inventory_option
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(output: Output, name: str, inventory: Path | None, store: Path | None) -> int:
    """Show what devices.yaml and the ssh configuration say about NAME; connect to nothing.

    What its GPU and TensorRT were when they were last looked at is shown too.
    """
    from edgedeploy.devices.inventory import load_inventory

    found = load_inventory(inventory, Path())
    shown: list[dict[str, Any]] = []
    for device in found.select([name]):
        data = summary(device)
        data["connection"] = _connection(device) if device.kind == "ssh" else None
        data["engines"] = _engines(store or default_store_path(), device.name)
        shown.append(data)
    lines = [line for data in shown for line in _lines(data)]
    file = None if found.file is None else str(found.file)
    return output.result("\n".join(lines), {"file": file, "devices": shown})


def _connection(device: Any) -> dict[str, Any]:
    from edgedeploy.devices.sshconfig import options_for

    options = options_for(device)
    return {
        "host": options.host,
        "port": options.port,
        "user": options.user,
        "host_key_name": options.key_name,
        "jumps": [f"{hop.user}@{hop.host}:{hop.port}" for hop in options.jumps],
        "identities": [str(file) for file in options.identities],
        "identities_only": options.identities_only,
        "agent": options.agent,
        "known_hosts": [str(file) for file in (*options.known_hosts, *options.system_known_hosts)],
        "accept_new": options.accept_new,
    }


def _engines(place: Path, device: str) -> dict[str, Any] | None:
    """Return what the last survey of a device found, None when there is no store or no survey."""
    if not place.is_dir():
        return None
    from edgedeploy.deploy.gpu import dated_survey
    from edgedeploy.store import Store

    found = dated_survey(Store(place), device)
    return found and {"since": found[0], "survey": found[1].to_json()}


def _engine_lines(data: dict[str, Any]) -> list[str]:
    from edgedeploy.devices.gpu_survey import GpuSurvey

    said = GpuSurvey.from_json(data["survey"]).in_words()
    return [f"  engines             since {data['since']}"] + [
        f"    {name:<17} {text}" for name, text in said
    ]


def _lines(data: dict[str, Any]) -> list[str]:
    """Return a device as text; what nobody said is left out."""
    lines = [data["name"] + (" (fake)" if data["kind"] == "fake" else "")]
    for key, value in data.items():
        if key == "engines":
            lines += _engine_lines(value) if value else []
            continue
        inner = value.items() if isinstance(value, dict) else [(None, value)]
        for part, one in inner:
            if key == "name" or one in (None, [], {}, ""):
                continue
            text = ", ".join(str(item) for item in one) if isinstance(one, list) else _word(one)
            lines.append(f"  {_label(key, part):<19} {text}")
    return lines


_HOOKS = {"health": "health command", "health_url": "health url", "timeout_s": "health timeout"}


def _label(key: str, part: str | None) -> str:
    """Return what a fact is called, in the words of devices.yaml and of ssh."""
    if part is None:
        return key
    if key == "hooks":
        return _HOOKS.get(part, part)
    return f"facts {part}" if key == "facts" else f"ssh {part.replace('_', ' ')}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g} s" if isinstance(value, float) else str(value)
