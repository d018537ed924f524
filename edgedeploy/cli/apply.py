"""``edgedeploy apply``: a bundle from the one before and a delta."""

from __future__ import annotations

from pathlib import Path

import click

from edgedeploy.cli.output import Output, verb

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOUND = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.argument("delta", type=_FOUND)
@click.option("--to", "old", type=_FOUND, required=True, help="Bundle that it was made from.")
@click.option("-o", "--output", "goal", type=_FILE, required=True, help="Bundle to write.")
@click.option("--key", "keys", type=_FILE, multiple=True, help="Public key that must have signed.")
@verb
def command(output: Output, delta: Path, old: Path, goal: Path, keys: tuple[Path, ...]) -> int:
    """Rebuild a bundle from the one before and DELTA, to the last byte.

    Nothing is written when DELTA is damaged, was made from another bundle, or makes one that none
    of the keys signed. Without a key nobody's signature is looked at: `edgedeploy verify` does
    that.

    Exit status: 0 written, 2 a key cannot be used, 5 zstandard is missing, 6 the disk refuses,
    7 refused.
    """
    from edgedeploy import api

    made = api.apply_delta(delta, old, goal, keys)
    by = ", ".join(item[:16] for item in made.signers) or "not checked: no --key was given"
    lines = (
        f"{made.path}  {made.release.name} {made.release.version}",
        f"sha256     {made.sha256}",
        f"signed by  {by}",
    )
    return output.result("\n".join(lines), {"applied": made.to_json()})
