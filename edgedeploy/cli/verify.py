"""``edgedeploy verify``: whether a bundle is right, who vouches for it, and its files."""

from __future__ import annotations

from pathlib import Path

import click

from edgedeploy.cli.believing import believing_options, trust_file
from edgedeploy.cli.output import Output, verb
from edgedeploy.places import default_state_path


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@believing_options
@click.option("--extract", type=click.Path(path_type=Path), help="Extract it into this new folder.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that remembers the newest releases (else in your home).",
)
@click.option("--allow-downgrade", is_flag=True, help="Take an older release than the newest.")
@verb
def command(
    output: Output,
    bundle: Path,
    keys: tuple[Path, ...],
    trust: Path | None,
    extract: Path | None,
    state: Path | None,
    allow_downgrade: bool,
) -> int:
    """Check BUNDLE to the last byte, and that a trusted key vouches for it.

    Exit status: 0 all of it is right, 2 a key or the folder is refused, 6 the disk failed, 7 the
    bundle is refused; then nothing of it was written anywhere.
    """
    from edgedeploy import api
    from edgedeploy.report.figures import size

    found = api.verify(
        bundle,
        api.VerifyOptions(
            keys=keys,
            trust=trust_file(keys, trust),
            state=state or default_state_path(),
            allow_downgrade=allow_downgrade,
            extract=extract,
        ),
    )
    release, data = found.release, found.to_json()
    lines = [
        f"{release.name} {release.version}, counter {release.counter}, is right",
        f"sha256     {release.digest}",
        *(f"signed by  {signer}" for signer in found.signers),
        *(f"for        {target.target}" for target in release.targets),
        *(
            f"engine     {model} for {target}: {engine.in_words()}"
            for target, model, engine in release.engines()
        ),
        f"files      {data['files']}, {size(data['size_bytes'])}",
        *(f"unaccepted {text}" for text in release.unaccepted),
    ]
    if found.folder is not None:
        lines.append(f"extracted  {found.folder}")
    return output.result("\n".join(lines), {"verified": data})
