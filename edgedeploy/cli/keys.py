"""``edgedeploy keys``: keys that sign releases."""

from __future__ import annotations

from pathlib import Path

import click

from edgedeploy.cli.output import Output, verb

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def command() -> None:
    """Make and show keys that sign releases."""


@command.command("new")
@click.argument("file", type=_FILE)
@verb
def new(output: Output, file: Path) -> int:
    """Make a key: the private part in FILE (mode 600), the public part in FILE.pub.

    Exit status: 0 made, 2 one of the files exists, 6 the disk failed.
    """
    from edgedeploy import api

    made = api.new_key(file)
    public = file.with_name(f"{file.name}.pub")
    lines = [
        f"id       {made.id}",
        f"private  {file}  keep it secret, and a copy of it elsewhere",
        f"public   {public}  give it to those who get releases, and the id on another way",
    ]
    data = {"id": made.id, "private": str(file), "public": str(public)}
    return output.result("\n".join(lines), {"key": data})


@command.command("show")
@click.argument("file", type=_FILE)
@verb
def show(output: Output, file: Path) -> int:
    """Print the id of the key in FILE, of either part, and its raw public bytes.

    Exit status: 0 shown, 2 it cannot be read or holds no key.
    """
    from edgedeploy import api

    public = api.read_public_part(file)
    data = {"id": api.key_id(public), "raw": public.hex()}
    return output.result(f"id   {data['id']}\nraw  {data['raw']}", {"key": data})
