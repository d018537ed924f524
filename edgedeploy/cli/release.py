"""``edgedeploy release``: a signed bundle of what the last build accepted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.package import format_option, told
from edgedeploy.cli.progress import watch
from edgedeploy.cli.request import profile_options, request_of
from edgedeploy.cli.signing import sign_command_option
from edgedeploy.errors import UsageError
from edgedeploy.places import default_store_path, default_trust_path

if TYPE_CHECKING:
    from edgedeploy.release.packing import Codecs


@click.command()
@profile_options
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), default=Path("build"))
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Private key that signs; with --sign-command, the public one.",
)
@sign_command_option
@click.option(
    "--counter",
    type=click.IntRange(min=1),
    help="Of this release, else the next; edgedeploy.releases keeps it.",
)
@click.option("--unaccepted", is_flag=True, help="Take what a gate refused; the release says so.")
@click.option("--deny", multiple=True, help="SPDX licence id that no part may need; repeatable.")
@format_option
@click.option(
    "--delta-from",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Bundle of an earlier version: also write the delta from it.",
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Trust file: who else may have signed that bundle (else the one in your home).",
)
@click.option(
    "--delta-codec",
    type=click.Choice(["zstd", "lzma"]),
    default="zstd",
    help="What reads the delta has: zstd, or Python alone.",
)
@click.option(
    "--openssf-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Private EC key: also sign for OpenSSF Model Signing, NAME-VERSION.model.sig.",
)
@verb
def command(
    output: Output,
    folder: Path,
    store: Path | None,
    key: Path,
    sign_command: tuple[str, ...],
    counter: int | None,
    unaccepted: bool,
    deny: tuple[str, ...],
    formats: tuple[str, ...],
    delta_from: Path | None,
    trust: Path | None,
    delta_codec: Codecs,
    openssf_key: Path | None,
    **rest: Any,
) -> int:
    """Write the last build of PROFILE as a signed bundle, NAME-VERSION.edpkg.

    Only what passed its gates enters it, or what --unaccepted let in; it says so. The same build,
    released anywhere, gives the same bytes. What was measured lies beside it, signed for itself.
    With --format, packages for apps lie in packages/ beside it.

    With `--delta-from OLD.edpkg` also NAME-OLD-to-NEW.eddelta, from which `edgedeploy apply` makes
    the same bundle where OLD is. OLD is signed by the same key, or by one that is believed.

    Exit status: 0 written, 1 a gate had refused it, 2 the profile or the key is refused, 3 not
    built, 5 zstandard is missing or the command that signs failed, 7 it gave no signature.
    """
    from edgedeploy import api
    from edgedeploy.events import EventLog

    if trust is not None and delta_from is None:
        raise UsageError(
            "--trust says who may have signed the bundle of --delta-from, and there is none",
            code="E100",
            hint="leave it away",
        )
    if delta_from is not None and trust is None and default_trust_path().exists():
        trust = default_trust_path()
    listener = watch(output)
    try:
        made = api.release(
            request_of(rest),
            api.ReleaseOptions(
                output=folder,
                store=store or default_store_path(),
                key=key,
                sign_command=sign_command,
                counter=counter,
                unaccepted=unaccepted,
                deny=deny,
                formats=formats,
                delta_from=delta_from,
                trust=trust,
                delta_codec=delta_codec,
                openssf_key=openssf_key,
            ),
            EventLog(listener),
        )
    finally:
        listener.close()
    release = made.release
    lines = [f"{made.path}  {release.digest}", f"counter  {release.counter}", *told(made.packages)]
    if made.model_signature is not None:
        lines.append(f"{made.model_signature}  for OpenSSF Model Signing")
    if made.delta is not None:
        share = made.delta.size_bytes / made.delta.new_bytes
        lines.append(f"{made.delta.path}  {made.delta.size_bytes} bytes, {share:.1%} of the bundle")
    lines += [f"not judged  {text}" for text in made.not_judged]
    lines += [f"unaccepted  {text}" for text in release.unaccepted]
    return output.result("\n".join(lines), {"release": made.to_json()})
