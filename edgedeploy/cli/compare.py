"""``edgedeploy compare``: what changed between builds, releases, or a release and a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedeploy.cli.believing import believing_options, trust_file
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.progress import watch
from edgedeploy.cli.request import request_of
from edgedeploy.disk import disk_errors
from edgedeploy.errors import Diagnostic, ExitCode, UsageError
from edgedeploy.places import default_store_path

_PATH = click.Path(path_type=Path)
_SPELLED = {
    "targets": "target",
    "sets": "set",
    "target_path": "target-path",
    "folder": "output",
}
"""Options that are spelled otherwise than their parameters."""


@click.command()
@click.argument("old", type=_PATH)
@click.argument("new", type=_PATH)
@believing_options
@click.option(
    "--slices",
    multiple=True,
    metavar="COLUMN|FILE.py:FUNCTION",
    help="Judge samples apart by a column of the labels, or by a function of their names.",
)
@click.option("--markdown", type=_PATH, help="Also write a summary for a pull request there.")
@click.option("-t", "--target", "targets", multiple=True, help="Only these targets (patterns).")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change the profile.")
@click.option("--target-path", type=_PATH, multiple=True, help="Look here for targets first.")
@click.option("-o", "--output", "folder", type=_PATH, help="Folder of the build (build).")
@click.option("--store", type=_PATH, help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(
    output: Output, old: Path, new: Path, keys: tuple[Path, ...], trust: Path | None, **rest: Any
) -> int:
    """Compare the builds OLD and NEW (build folders or build.json files), or two bundles.

    Or a bundle OLD and the last build of the profile NEW (its file, or the folder it is in): then
    the artifacts of OLD are run on the profile's present data and paired with those of the build,
    sample by sample, over all samples, classes and slices.

    Exit status 1 when NEW is worse in something; where gates are known, when it is worse past one.
    """
    from edgedeploy.comparing import compare_releases, is_bundle, releases_text
    from edgedeploy.report.files import is_build

    if is_bundle(old) and not is_bundle(new) and not is_build(new):
        return _retrained(output, old, new, keys, trust_file(keys, trust), rest)
    given = [f"--{_SPELLED.get(name, name)}" for name, value in rest.items() if value]
    if given:
        raise UsageError(
            f"{given[0]} is for a release and the profile that was built since",
            code="E100",
            subject=str(new),
            hint="give a bundle (.edpkg) and the profile, or leave the option away",
        )
    bundles = [is_bundle(path) for path in (old, new)]
    if all(bundles):
        released = compare_releases(old, new, keys, trust_file(keys, trust))
        code = ExitCode.REFUSED if released.regressions else ExitCode.DONE
        text = releases_text(released).rstrip("\n")
        return output.result(text, {"comparison": released.to_json()}, code)
    if any(bundles) or keys or trust is not None:
        raise UsageError(
            "a release is compared with a release or a profile, and a build with a build",
            code="E763",
            subject=str(new),
            hint="give two bundles (.edpkg), a bundle and a profile, or two build folders without "
            "--key and --trust",
        )
    return _builds(output, old, new)


def _retrained(
    output: Output,
    old: Path,
    new: Path,
    keys: tuple[Path, ...],
    trust: Path | None,
    rest: dict[str, Any],
) -> int:
    from edgedeploy import api
    from edgedeploy.events import EventLog
    from edgedeploy.manifest import write_atomic
    from edgedeploy.retraining.text import retrained_markdown, retrained_text

    markdown: Path | None = rest.pop("markdown")
    options = api.RetrainOptions(
        output=rest.pop("folder") or Path("build"),
        store=rest.pop("store") or default_store_path(),
        keys=keys,
        trust=trust,
        slices=rest.pop("slices"),
    )
    request = request_of({"profile": api.profile_at(new), **rest})
    listener = watch(output)
    try:
        found = api.compare_with_release(old, request, options, EventLog(listener))
    finally:
        listener.close()
    if markdown is not None:
        with disk_errors("cannot write the summary"):
            write_atomic(markdown, retrained_markdown(found).encode())
    for item in found.regressions:
        about = f"{item.model} {item.target}"
        output.annotate(
            Diagnostic(code="E001", message=f"{item.quantity}: {item.why}", subject=about)
        )
    code = ExitCode.REFUSED if found.regressions else ExitCode.DONE
    text = retrained_text(found).rstrip("\n")
    return output.result(text, {"comparison": found.to_json()}, code)


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
