"""``edgedeploy keys``: keys that sign releases, and which of them are believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.signing import sign_command_option
from edgedeploy.cli.trusted import (
    change_on_devices,
    is_on_devices,
    key_lines,
    list_on_devices,
    trust_options,
)
from edgedeploy.errors import UsageError
from edgedeploy.places import default_trust_path

if TYPE_CHECKING:
    from edgedeploy.release.trust import Trust

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def command() -> None:
    """Make keys that sign releases, hand over to new ones, and say which are believed."""


@command.command("new")
@click.argument("file", type=_FILE)
@verb
def new(output: Output, file: Path) -> int:
    """Make a key: the private part in FILE (mode 600), the public part in FILE.pub.

    Exit status: 0 made, 2 one of the files exists, 6 the disk failed.
    """
    from edgedeploy import api

    made = api.new_key(file)
    public = file.with_name(f"{file.name}.pub")
    lines = [
        f"id       {made.id}",
        f"private  {file}  keep it secret, and a copy of it elsewhere",
        f"public   {public}  give it to those who get releases, and the id on another way",
    ]
    data = {"id": made.id, "private": str(file), "public": str(public)}
    return output.result("\n".join(lines), {"key": data})


@command.command("show")
@click.argument("file", type=_FILE)
@verb
def show(output: Output, file: Path) -> int:
    """Print the id of the key in FILE, of either part, and its raw public bytes.

    Exit status: 0 shown, 2 it cannot be read or holds no key.
    """
    from edgedeploy import api

    public = api.read_public_part(file)
    data = {"id": api.key_id(public), "raw": public.hex()}
    return output.result(f"id   {data['id']}\nraw  {data['raw']}", {"key": data})


_TRUST = click.option(
    "--trust", type=_FILE, help="Trust file (else trust.json in your configuration folder)."
)


@command.command("enrol")
@click.argument("file", type=_FILE)
@click.option("--name", help="Of the publisher, for a public key.")
@_TRUST
@trust_options
@verb
def enrol(output: Output, file: Path, name: str | None, trust: Path | None, **rest: Any) -> int:
    """Believe the public key in FILE, or what the signed statement in FILE says.

    With -d and --app devices believe it, for that application: from then on they take signed
    releases alone.

    Compare the id of a key with the publisher first, on another way than the key came. A statement
    needs no comparison: a key that is believed signed it.

    Exit status: 0 enrolled, 2 the key is refused, 4 a device failed, 6 the disk failed, 7 the
    statement or the trust file is refused.
    """
    from edgedeploy import api

    if is_on_devices(rest, trust):
        return change_on_devices(output, rest, api.enrolment(file, name, again=True))
    return _listed(output, api.enrol(trust or default_trust_path(), file, name))


@command.command("list")
@_TRUST
@trust_options
@verb
def list_(output: Output, trust: Path | None, **rest: Any) -> int:
    """List the keys of the trust file, or of those on devices, and why they are believed or not.

    Exit status: 0 listed, 2 there is no trust file, 4 a device failed, 6 the disk failed, 7 it is
    refused.
    """
    from edgedeploy import api

    if is_on_devices(rest, trust):
        return list_on_devices(output, rest)
    return _listed(output, api.read_trust(trust or default_trust_path()))


@command.command("rotate")
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@click.option("-o", "--output", "goal", type=_FILE, required=True, help="Where the statement goes.")
@sign_command_option
@verb
def rotate(output: Output, old: Path, new: Path, goal: Path, sign_command: tuple[str, ...]) -> int:
    """Write the statement by which the private key OLD hands over to the key NEW.

    Whoever believes OLD takes it with `edgedeploy keys enrol`. With --sign-command OLD may be the
    public part.

    Exit status: 0 written, 2 a key is refused, 5 the command that signs failed, 6 the disk failed,
    7 it gave no signature.
    """
    from edgedeploy import api

    said = api.hand_over(old, new, goal, sign_command)
    new_id = api.key_id(bytes.fromhex(said.public or ""))
    text = f"{goal}  {said.key[:16]} hands over to {new_id[:16]}"
    return output.result(text, {"statement": {"path": str(goal), "key": said.key, "new": new_id}})


@command.command("revoke")
@click.argument("key")
@click.option("--reason", required=True, help="Why, in one line.")
@_TRUST
@click.option("--by", "signer", type=_FILE, help="Private key that signs a statement instead.")
@click.option("-o", "--output", "goal", type=_FILE, help="Where the statement goes.")
@sign_command_option
@trust_options
@verb
def revoke(
    output: Output,
    key: str,
    reason: str,
    trust: Path | None,
    signer: Path | None,
    goal: Path | None,
    sign_command: tuple[str, ...],
    **rest: Any,
) -> int:
    """Believe KEY no more: an id, its first digits, or a publisher's name.

    With -d and --app devices believe it no more.

    With --by and -o the trust file stays as it is, and a statement is written that others take with
    `edgedeploy keys enrol`; KEY is an id or a key file then. It is signed by KEY itself or by a
    successor of it.

    Exit status: 0 revoked or written, 2 the key is refused, 4 a device failed, 5 the command that
    signs failed, 6 the disk failed, 7 the trust file or the signature is refused.
    """
    from edgedeploy import api

    here = signer is None and goal is None and not sign_command
    if is_on_devices(rest, trust):
        if not here:
            raise UsageError(
                "devices hold no key that could sign a statement",
                code="E100",
                hint="leave out --by, -o and --sign-command; or write one, and `keys enrol -d` it",
            )
        return change_on_devices(output, rest, api.revocation(key, reason))
    if here:
        return _listed(output, api.revoke(trust or default_trust_path(), key, reason))
    if signer is None or goal is None or trust is not None:
        raise UsageError(
            "a statement needs --by and -o, and changes no trust file",
            code="E100",
            hint="give both, or neither to revoke the key in the trust file",
        )
    said = api.state_revoked(key, signer, reason, goal, sign_command)
    text = f"{goal}  {said.key[:16]} is revoked: {said.reason}"
    return output.result(text, {"statement": {"path": str(goal), "key": said.key}})


def _listed(output: Output, trust: Trust) -> int:
    keys = [key.to_json() for key in trust.keys]
    return output.result("\n".join(key_lines(keys)), {"keys": keys})
