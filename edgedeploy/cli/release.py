"""``edgedeploy release``: a signed bundle of what the last build accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.package import format_option, told
from edgedeploy.cli.progress import watch
from edgedeploy.cli.request import profile_options, request_of
from edgedeploy.places import default_store_path


@click.command()
@profile_options
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), default=Path("build"))
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Private key that signs.",
)
@click.option("--counter", type=click.IntRange(min=1), default=1, help="Of this release.")
@format_option
@verb
def command(
    output: Output,
    folder: Path,
    store: Path | None,
    key: Path,
    counter: int,
    formats: tuple[str, ...],
    **rest: Any,
) -> int:
    """Write the last build of PROFILE as a signed bundle, NAME-VERSION.edpkg.

    Only what passed its gates enters it. The same build, released anywhere, gives the same bytes.
    With --format, packages for apps lie in packages/ beside it.

    Exit status: 0 written, 1 a gate had refused it, 2 the profile or the key is refused, 3 not
    built, 7 signing failed.
    """
    from edgedeploy import api
    from edgedeploy.events import EventLog

    listener = watch(output)
    try:
        made = api.release(
            request_of(rest),
            api.ReleaseOptions(
                output=folder,
                store=store or default_store_path(),
                key=key,
                counter=counter,
                formats=formats,
            ),
            EventLog(listener),
        )
    finally:
        listener.close()
    lines = [f"{made.path}  {made.release.digest}", *told(made.packages)]
    return output.result("\n".join(lines), {"release": made.to_json()})
