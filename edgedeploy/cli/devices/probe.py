"""``edgedeploy devices probe``: find out what devices are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy.cli.fleet import fleet_of, fleet_options, show_rows
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.request import device_options
from edgedeploy.places import default_store_path

if TYPE_CHECKING:
    from edgedeploy.deploy.fleet import Row

LIST_WIDTH = 40
"""Columns of a list, such as the processor's features, that is not shown whole."""


@click.command()
@device_options
@fleet_options
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(output: Output, store: Path | None, wait_s: float, **rest: Any) -> int:
    """Find out what devices are: processor, system, memory, runtimes, sensors.

    Nothing is written on a device. What is found is kept with its date and digest; -v shows all.
    """
    from edgedeploy.deploy.probe import probe_all
    from edgedeploy.store import Store

    fleet = fleet_of(output, rest, Path())
    result = probe_all(fleet, Store(store or default_store_path()))
    return show_rows(output, result, lines=lambda row: _lines(row, full=output.verbose))


def _lines(row: Row, *, full: bool) -> list[str]:
    """Return a device's facts as lines of text; what it does not say is left out.

    Args:
        row: The device's.
        full: Show long lists whole.
    """
    facts, changed = row.details.get("facts", {}), row.details.get("changed") or ()
    engines = row.details.get("engines")
    lines = [
        f"  {name.removesuffix('_bytes'):<15} {_shown(name, value, full=full)}"
        + ("  (changed)" if name in changed else "")
        for name, value in facts.items()
        if value not in (None, "", [], {}, False)
    ]
    if engines is not None:
        from edgedeploy.devices.gpu_survey import GpuSurvey

        lines.append("  engines")
        said = GpuSurvey.from_json(engines).in_words()
        lines += [f"    {name:<13} {text}" for name, text in said]
    return lines


def _shown(name: str, value: Any, *, full: bool) -> str:
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
        if full or len(text) <= LIST_WIDTH:
            return text
        return f"{text[:LIST_WIDTH].rpartition(' ')[0]} ... ({len(value)}; -v shows all)"
    return "yes" if value is True else str(value)
