"""What people do with keys: enrol them, hand over to new ones, revoke them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from edgedeploy.disk import disk_errors
from edgedeploy.errors import UsageError
from edgedeploy.manifest import write_atomic
from edgedeploy.release.keys import SigningKey, read_public_key, read_public_part, signing_key
from edgedeploy.release.signing import key_id
from edgedeploy.release.statements import MOST_BYTES, Statement, state
from edgedeploy.release.trust import Trust, change_trust, check_reason

_ID = re.compile(r"[0-9a-f]{64}\Z")


def enrol(trust: Path, file: Path, name: str | None = None) -> Trust:
    """Take a public key, or a signed statement, into a trust file.

    Args:
        trust: The trust file; made when there is none.
        file: A public key (PEM), which a person vouches for, or a statement of a key.
        name: Of the publisher, for a public key.

    Raises:
        UsageError: The file cannot be read (E751), the key cannot be enrolled or has no name, or a
            statement was given one (E747).
        IntegrityError: The statement is not taken (E745), or the trust file cannot be believed
            (E743).
        StoreError: The disk refuses (E601, E602, E603).
    """
    return change_trust(trust, enrolment(file, name))


def enrolment(
    file: Path, name: str | None = None, *, again: bool = False
) -> Callable[[Trust], Trust]:
    """Return what takes a public key, or a signed statement, into a trust file.

    Args:
        file: As :func:`enrol`.
        name: As there.
        again: A key that is believed already changes nothing, so that what is done on many devices
            can be repeated; else it is refused.

    Raises:
        UsageError: As :func:`enrol`; what is returned raises the rest.
    """
    content = _statement(file)
    if (content is None) != (name is not None):
        raise UsageError(
            "a statement tells the publisher's name itself"
            if content is not None
            else "a key is enrolled under the name of its publisher",
            code="E747",
            subject=str(file),
            hint="leave out --name" if content is not None else "give --name PUBLISHER",
        )
    if content is not None:
        return lambda before: before.taking(content)
    public, named = read_public_key(file), name or ""

    def with_key(before: Trust) -> Trust:
        if again and public in before.believed.values():
            return before
        return before.with_key(named, public)

    return with_key


def _statement(file: Path) -> bytes | None:
    """Return the content of a file that begins like a statement, None for another one."""
    try:
        with open(file, "rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}", code="E751", hint="check the path"
        ) from error
    return content if content.startswith(b"{") else None


def revoke(trust: Path, wanted: str, reason: str) -> Trust:
    """Revoke a key in a trust file, for ever.

    Args:
        trust: The trust file.
        wanted: The key's id, the beginning of it, or its publisher's name.
        reason: Why, in words.

    Raises:
        UsageError: It names no key or several, or the reason is none (E747).
        IntegrityError: The trust file cannot be believed (E743).
        StoreError: The disk refuses (E601, E602, E603).
    """
    return change_trust(trust, revocation(wanted, reason))


def revocation(wanted: str, reason: str) -> Callable[[Trust], Trust]:
    """Return what revokes a key in a trust file; arguments and errors as :func:`revoke`."""
    return lambda before: before.without(before.found(wanted).id, reason)


def hand_over(old: Path, new: Path, goal: Path, command: Sequence[str] = ()) -> Statement:
    """Write the statement by which a key hands over to another, and return it.

    Args:
        old: File of the key that signs, as :func:`edgedeploy.release.keys.signing_key`.
        new: File of the new key, of either part.
        goal: Where the statement is written.
        command: What signs instead of the file.

    Raises:
        UsageError: A key cannot be used (E751, E752), it would hand over to itself (E747), or
            something else than a statement lies at ``goal`` (E750).
        EdgedeployError: As :func:`edgedeploy.release.statements.state`.
        StoreError: The disk refuses (E601, E602).
    """
    key, public = signing_key(old, command), read_public_part(new)
    if public == key.public:
        raise UsageError(
            f"{old} and {new} are one key, and a key hands over to another",
            code="E747",
            subject=str(new),
            hint="make the new one with `edgedeploy keys new FILE`",
        )
    said = Statement(act="rotate", key=key.id, public=public.hex())
    _write_statement(said, key, goal)
    return said


def state_revoked(
    wanted: str, signer: Path, reason: str, goal: Path, command: Sequence[str] = ()
) -> Statement:
    """Write the statement that a key is believed no more, and return it.

    Args:
        wanted: The key's id, or a file of either part of it.
        signer: File of the key that signs: the same one or a successor.
        reason: Why, in words.
        goal: Where the statement is written.
        command: What signs instead of the file.

    Raises:
        UsageError: A key cannot be used (E751, E752), the reason is none (E747), or something else
            than a statement lies at ``goal`` (E750).
        EdgedeployError: As :func:`edgedeploy.release.statements.state`.
        StoreError: The disk refuses (E601, E602).
    """
    check_reason(reason)
    about = wanted if _ID.match(wanted) else key_id(read_public_part(Path(wanted)))
    key = signing_key(signer, command)
    said = Statement(act="revoke", key=about, reason=reason)
    _write_statement(said, key, goal)
    return said


def _write_statement(said: Statement, key: SigningKey, goal: Path) -> None:
    """Sign and write a statement; a slip of the fingers in ``-o`` must not cost a key."""
    with disk_errors("cannot write the statement"):
        if os.path.lexists(goal) and not (goal.is_file() and _statement(goal)):
            raise UsageError(
                f"{goal} is there already, and holds no statement",
                code="E750",
                subject=str(goal),
                hint="name another file with -o; only a statement is replaced by a statement",
            )
        write_atomic(goal, state(said, key))
