"""``edgedeploy devices probe``: find out what devices are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.request import device_options

if TYPE_CHECKING:
    from edgedeploy.deploy.probe import Probe


@click.command()
@device_options
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(output: Output, store: Path | None, **rest: Any) -> int:
    """Find out what devices are: processor, system, memory, runtimes, sensors.

    Nothing is written on a device. What is found is kept with its date, and a target that does not
    fit is then refused before anything is sent.
    """
    raise NotImplementedError


def table(probe: Probe) -> str:
    """Return one device's facts as lines of text."""
    lines = [f"{probe.device}  ({probe.created}, {probe.facts.digest[:12]})"]
    for name, value in probe.facts.to_json().items():
        if value in (None, "", [], {}, False):
            continue
        changed = "  (changed)" if name in (probe.changed or ()) else ""
        lines.append(f"  {name.removesuffix('_bytes'):<16} {_shown(name, value)}{changed}")
    return "\n".join(lines)


def _shown(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return f"{value / 1e9:.1f} GB"
    if name == "gpus":
        return "; ".join(
            ", ".join(f"{key} {item}" for key, item in gpu.items() if item) for gpu in value
        )
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in sorted(value.items()))
    if isinstance(value, list):
        text = " ".join(value)
        return text if len(text) <= 200 else f"{text[:190]} ... ({len(value)})"
    return "yes" if value is True else str(value)
