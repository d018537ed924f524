"""``edgedeploy compare``: what changed between two builds, or two releases."""

from __future__ import annotations

from pathlib import Path

import click

from edgedeploy.cli.believing import believing_options, trust_file
from edgedeploy.cli.output import Output, verb
from edgedeploy.errors import ExitCode, UsageError


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@believing_options
@verb
def command(
    output: Output, old: Path, new: Path, keys: tuple[Path, ...], trust: Path | None
) -> int:
    """Compare the builds OLD and NEW (build folders or build.json files), or two bundles.

    Exit status 1 when NEW is worse in something; of two bundles, when it is worse past a gate.
    """
    from edgedeploy.comparing import compare_releases, is_bundle, releases_text

    bundles = [is_bundle(path) for path in (old, new)]
    if all(bundles):
        released = compare_releases(old, new, keys, trust_file(keys, trust))
        code = ExitCode.REFUSED if released.regressions else ExitCode.DONE
        text = releases_text(released).rstrip("\n")
        return output.result(text, {"comparison": released.to_json()}, code)
    if any(bundles) or keys or trust is not None:
        raise UsageError(
            "a release is compared with a release, and a build with a build",
            code="E763",
            subject=str(new),
            hint="give two bundles (.edpkg), or two build folders without --key and --trust",
        )
    return _builds(output, old, new)


def _builds(output: Output, old: Path, new: Path) -> int:
    from edgedeploy.places import DOCUMENT
    from edgedeploy.report.compare import compare, comparison_text
    from edgedeploy.report.document import read_document
    from edgedeploy.report.files import build_folder

    found = compare(
        read_document(build_folder(old) / DOCUMENT), read_document(build_folder(new) / DOCUMENT)
    )
    code = ExitCode.REFUSED if found.worse else ExitCode.DONE
    return output.result(comparison_text(found).rstrip("\n"), {"comparison": found.to_json()}, code)
