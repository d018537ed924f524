"""``edgedeploy package``: packages for apps, from a signed bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy.cli.believing import believing_options, trust_file
from edgedeploy.cli.output import Output, verb

if TYPE_CHECKING:
    from edgedeploy.release.packages import Package


def format_option(function: Callable[..., Any], *, required: bool = False) -> Callable[..., Any]:
    """Add ``--format``: names of package formats, separated by commas."""
    return click.option(
        "--format",
        "formats",
        multiple=True,
        metavar="NAME,...",
        required=required,
        callback=lambda context, parameter, given: tuple(
            name.strip() for text in given for name in text.split(",")
        ),
        help="Kinds of packages; `all`: every one that suits.",
    )(function)


def told(packages: Iterable[Package]) -> list[str]:
    """Return what is printed of packages: a line for each thing that a user takes."""
    return [f"{item.format:<10} {path}" for item in packages for path in item.paths]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@believing_options
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("packages"),
    help="Gets a folder for each format.",
)
@lambda function: format_option(function, required=True)
@verb
def command(
    output: Output,
    bundle: Path,
    keys: tuple[Path, ...],
    trust: Path | None,
    folder: Path,
    formats: tuple[str, ...],
) -> int:
    """Check BUNDLE and write packages of it, each in a folder named like its format.

    A package is made from the bundle alone: the same bundle gives the same bytes anywhere.

    Exit status: 0 written, 2 a format, a key or the folder is refused, 6 the disk failed, 7 the
    bundle is refused.
    """
    from edgedeploy import api

    made = api.package(
        bundle,
        api.PackageOptions(
            formats=formats, keys=keys, trust=trust_file(keys, trust), folder=folder
        ),
    )
    return output.result("\n".join(told(made)), {"packages": [item.to_json() for item in made]})
