"""``edgedeploy targets``: list and show targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.target.host import is_this_machine
from edgedeploy.target.library import TargetLibrary

_PATH = click.option(
    "--target-path",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Look here for targets first.",
)


@click.group()
def command() -> None:
    """List and show targets (board/runtime)."""


@command.command("list")
@_PATH
@verb
def list_(output: Output, target_path: tuple[Path, ...]) -> int:
    """List every target that can be built."""
    library = TargetLibrary(option=target_path)
    found = [library.load(name) for name in library.targets()]
    lines = [
        f"{target.id:<26} {target.get('board.title')}, {target.get('runtime.title')}"
        + ("  (this machine)" if is_this_machine(target) else "")
        for target in found
    ]
    data = [
        {"id": target.id, "digest": target.digest, "this_machine": is_this_machine(target)}
        for target in found
    ]
    return output.result("\n".join(lines), {"targets": data})


@command.command("show")
@click.argument("target")
@_PATH
@verb
def show(output: Output, target: str, target_path: tuple[Path, ...]) -> int:
    """Show the facts of TARGET with their sources."""
    found = TargetLibrary(option=target_path).load(target)
    lines = [found.id]
    for path, value in _leaves("", found.fields):
        source = found.sources.get(path) or found.sources.get(path.rpartition(".")[0])
        lines.append(f"  {path} = {value}" + (f"   [{source}]" if source else ""))
    data: dict[str, Any] = {
        "id": found.id,
        "fields": dict(found.fields),
        "sources": dict(found.sources),
        "digest": found.digest,
    }
    return output.result("\n".join(lines), data)


def _leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    """Return every single value below ``value`` with its dotted path."""
    if isinstance(value, dict):
        return [
            leaf
            for key, item in value.items()
            for leaf in _leaves(f"{path}.{key}".lstrip("."), item)
        ]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [leaf for at, item in enumerate(value) for leaf in _leaves(f"{path}.{at}", item)]
    return [(path, value)]
