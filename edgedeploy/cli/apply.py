"""``edgedeploy apply``: a bundle from the one before and a delta."""

from __future__ import annotations

from pathlib import Path

import click

from edgedeploy.cli.believing import believing_options, trust_file
from edgedeploy.cli.output import Output, verb
from edgedeploy.errors import UsageError

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOUND = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.argument("delta", type=_FOUND)
@click.option("--to", "old", type=_FOUND, required=True, help="Bundle that it was made from.")
@click.option("-o", "--output", "goal", type=_FILE, required=True, help="Bundle to write.")
@believing_options
@click.option("--unverified", is_flag=True, help="Look at no signature; `verify` has to.")
@verb
def command(
    output: Output,
    delta: Path,
    old: Path,
    goal: Path,
    keys: tuple[Path, ...],
    trust: Path | None,
    unverified: bool,
) -> int:
    """Rebuild a bundle from the one before and DELTA, to the last byte.

    Nothing is written when DELTA is damaged, was made from another bundle, or makes one that
    nobody signed who is believed. Older releases than the newest are not refused: `edgedeploy
    verify` does that.

    Exit status: 0 written, 2 a key cannot be used or nobody is believed, 5 zstandard is missing, 6
    the disk refuses, 7 refused.
    """
    from edgedeploy import api

    if unverified and (keys or trust is not None):
        raise UsageError(
            "--unverified believes anybody, and --key and --trust do not",
            code="E100",
            hint="give one or the other",
        )
    found = None if unverified else trust_file(keys, trust)
    made = api.apply_delta(delta, old, goal, keys, found, unverified=unverified)
    by = ", ".join(item[:16] for item in made.signers) or "not checked: --unverified"
    lines = (
        f"{made.path}  {made.release.name} {made.release.version}",
        f"sha256     {made.sha256}",
        f"signed by  {by}",
    )
    return output.result("\n".join(lines), {"applied": made.to_json()})
