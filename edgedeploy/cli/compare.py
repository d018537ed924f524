"""``edgedeploy compare``: what changed between two builds."""

from __future__ import annotations

from pathlib import Path

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.errors import ExitCode
from edgedeploy.places import DOCUMENT
from edgedeploy.report.compare import compare, comparison_text
from edgedeploy.report.document import read_document
from edgedeploy.report.files import build_folder


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@verb
def command(output: Output, old: Path, new: Path) -> int:
    """Compare the builds OLD and NEW (build folders or build.json files).

    Exit status 1 when NEW is worse in something.
    """
    found = compare(
        read_document(build_folder(old) / DOCUMENT), read_document(build_folder(new) / DOCUMENT)
    )
    code = ExitCode.REFUSED if found.worse else ExitCode.DONE
    return output.result(comparison_text(found).rstrip("\n"), {"comparison": found.to_json()}, code)
