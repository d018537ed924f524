"""``edgedeploy init``: a starter profile with the model's real inputs."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.errors import UsageError
from edgedeploy.intake import model_facts
from edgedeploy.manifest import write_atomic
from edgedeploy.profile.starter import starter_profile
from edgedeploy.signature import Signature
from edgedeploy.store import disk_errors


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "place",
    type=click.Path(path_type=Path),
    help="Where to write it; by default MODEL's name with .yaml, here.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@verb
def command(output: Output, model: Path, place: Path | None, force: bool) -> int:
    """Write a commented, valid profile for MODEL (an ONNX file)."""
    place = place or Path(f"{model.stem}.yaml")
    if place.exists() and not force:
        raise UsageError(
            f"{place} exists already",
            code="E100",
            hint="give another name with -o, or --force to replace it",
        )
    facts = model_facts(model)
    relative = Path(os.path.relpath(model, place.parent)).as_posix()
    text = starter_profile(relative, Signature.from_json(facts["signature"]), facts["metadata"])
    with disk_errors("cannot write the profile"):
        write_atomic(place, text.encode())
    return output.result(f"wrote {place}; next: edgedeploy build {place}", {"profile": str(place)})
