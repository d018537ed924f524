"""``edgedeploy cache``: list, check and clean the store."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.config.units import UnitError, size_bytes
from edgedeploy.errors import ExitCode, UsageError
from edgedeploy.places import default_store_path
from edgedeploy.store import Store
from edgedeploy.store_care import collect, list_actions, verify


@click.group()
def command() -> None:
    """List, check and clean the store of build results."""


def _store(path: Path | None) -> Store:
    return Store(path or default_store_path())


_STORE = click.option(
    "--store", type=click.Path(path_type=Path), help="The store's folder (EDGEDEPLOY_STORE)."
)


@command.command("path")
@_STORE
@verb
def show_path(output: Output, store: Path | None) -> int:
    """Print where the store lies."""
    path = store or default_store_path()
    return output.result(str(path), {"path": str(path)})


@command.command("ls")
@_STORE
@verb
def list_(output: Output, store: Path | None) -> int:
    """List the stored results, the most recently used first."""
    found = list_actions(_store(store))
    lines = [
        f"{item.record.key[:16]}  {item.record.kind:<12}  {item.size_bytes / 1e6:9.2f} MB  "
        f"{datetime.fromtimestamp(item.used_s):%Y-%m-%d %H:%M}"
        for item in found
    ]
    total = sum(item.size_bytes for item in found)
    lines.append(f"{len(found)} results, {total / 1e6:.2f} MB")
    data = [
        {
            "key": item.record.key,
            "kind": item.record.kind,
            "size_bytes": item.size_bytes,
            "used_s": item.used_s,
        }
        for item in found
    ]
    return output.result("\n".join(lines), {"results": data})


@command.command("verify")
@_STORE
@click.option("--repair", is_flag=True, help="Drop what is damaged, so that it is built anew.")
@verb
def verify_(output: Output, store: Path | None, repair: bool) -> int:
    """Hash every stored file again; exit 7 if anything is damaged and not repaired."""
    found = verify(_store(store), repair=repair)
    bad = bool(found.damaged or found.dangling)
    if bad:
        text = f"{len(found.damaged)} damaged, {len(found.dangling)} results without their files"
        text += "; dropped" if repair else "; `edgedeploy cache verify --repair` drops them"
    else:
        text = f"{found.trees} stored outputs, all sound"
    data = {"trees": found.trees, "damaged": found.damaged, "dangling": found.dangling}
    code = ExitCode.INTEGRITY if bad and not repair else ExitCode.DONE
    return output.result(text, data, code)


@command.command("gc")
@_STORE
@click.option("--keep", default="0 B", show_default=True, help="Size to keep, such as 5 GB.")
@click.option("--unused-days", type=float, default=0.0, help="Keep what was used since.")
@verb
def gc(output: Output, store: Path | None, keep: str, unused_days: float) -> int:
    """Remove stored results, the least recently used first."""
    try:
        keep_bytes = size_bytes(keep)
    except UnitError as error:
        raise UsageError(f"--keep: {error}", code="E100", hint=error.hint) from error
    found = collect(_store(store), keep_bytes=keep_bytes, unused_days=unused_days)
    data = {
        "actions": found.actions,
        "trees": found.trees,
        "folders": found.folders,
        "freed_bytes": found.freed_bytes,
    }
    text = f"removed {found.actions} results, freed {found.freed_bytes / 1e6:.2f} MB"
    return output.result(text, data)
