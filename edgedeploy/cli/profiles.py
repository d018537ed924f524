"""``edgedeploy profiles``: list and show the bundled profiles."""

from __future__ import annotations

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.config.bundled import bundled_folder
from edgedeploy.errors import UsageError


@click.group()
def command() -> None:
    """List and show the profiles that come with edgedeploy."""


@command.command("list")
@verb
def list_(output: Output) -> int:
    """List the bundled profiles."""
    found = sorted((bundled_folder() / "profiles").glob("*.yaml"))
    data = [{"name": path.stem, "path": str(path)} for path in found]
    return output.result("\n".join(str(path) for path in found), {"profiles": data})


@command.command("show")
@click.argument("name")
@verb
def show(output: Output, name: str) -> int:
    """Print a bundled profile; a start for your own."""
    names = [path.stem for path in (bundled_folder() / "profiles").glob("*.yaml")]
    if name not in names:
        raise UsageError(
            f"there is no bundled profile {name!r}",
            code="E100",
            hint=f"there are: {', '.join(sorted(names))}",
        )
    text = (bundled_folder() / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")
    return output.result(text.rstrip("\n"), {"name": name, "text": text})
