"""The trust file: which keys a reader of releases believes, and why.

A person enrols the first key of a publisher. From then on a key hands over to its successor by a
statement that it signs (:mod:`edgedeploy.release.statements`), and is revoked by a person, by
itself or by a successor. There is no clock in it: a device's clock may be wrong, and a statement
has no date that anybody could check.

Whoever may write the file decides who is believed; it is refused when others than its owner may.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedeploy.disk import disk_errors, locked
from edgedeploy.errors import IntegrityError, UsageError
from edgedeploy.manifest import canonical, write_atomic
from edgedeploy.plaindata import from_plain, to_plain
from edgedeploy.release.signing import key_id
from edgedeploy.release.statements import (
    MOST_REASON,
    is_public,
    is_reason,
    read_statement,
    refused,
)

SCHEMA = 1
MOST_BYTES = 4 << 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~@-]{0,99}\Z")
_FEWEST_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A key in a trust file.

    Attributes:
        name: Of the publisher; a successor has the name of the key before it.
        public: Its 32 bytes, 64 hexadecimal digits.
        by: Id of the key that handed over to it; None: a person enrolled it.
        revoked: Why it is not believed any more; None: it is.
    """

    name: str
    public: str
    by: str | None = None
    revoked: str | None = None

    @property
    def id(self) -> str:
        """Its id, 64 hexadecimal digits."""
        return key_id(bytes.fromhex(self.public))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"id": self.id, **to_plain(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a trust file says; every change gives a new one.

    Attributes:
        keys: In the order in which they came.
        statements: The signed ones that were taken, as text; those by which keys handed over prove
            that they did.
    """

    schema: int = SCHEMA
    keys: tuple[TrustedKey, ...] = ()
    statements: tuple[str, ...] = ()

    @property
    def believed(self) -> dict[str, bytes]:
        """The 32 public bytes of the keys that are believed, by id."""
        return {key.id: bytes.fromhex(key.public) for key in self.keys if key.revoked is None}

    @property
    def revoked(self) -> dict[str, str]:
        """Why keys are not believed any more, by id."""
        return {key.id: key.revoked for key in self.keys if key.revoked is not None}

    def key(self, wanted: str) -> TrustedKey:
        """Return the key with an id.

        Raises:
            KeyError: There is none.
        """
        for key in self.keys:
            if key.id == wanted:
                return key
        raise KeyError(wanted)

    def found(self, wanted: str) -> TrustedKey:
        """Return the one key that a person means.

        Args:
            wanted: An id, at least eight digits of its beginning, or a publisher's name.

        Raises:
            UsageError: None or several fit (E747).
        """
        begins = len(wanted) >= _FEWEST_DIGITS
        fit = [key for key in self.keys if begins and key.id.startswith(wanted)]
        fit = fit or [key for key in self.keys if key.name == wanted]
        if len(fit) != 1:
            shown = ", ".join(f"{key.name} {key.id[:16]}" for key in fit or self.keys)
            raise UsageError(
                f"{wanted!r} names {'several keys' if fit else 'no key'} of the trust file",
                code="E747",
                hint=f"give the id of one: {shown}" if shown else "it holds no keys",
            )
        return fit[0]

    def with_key(self, name: str, public: bytes) -> Trust:
        """Return it with the first key of a publisher, which a person vouches for.

        Args:
            name: Of the publisher.
            public: The key's 32 bytes.

        Raises:
            UsageError: It is in the file already, perhaps revoked, is a weak key, or the name is
                none (E747).
        """
        key = TrustedKey(name=name, public=public.hex())
        known = {other.id: other for other in self.keys}.get(key.id)
        if not _NAME.match(name):
            why = f"{name[:100]!r} is no name: letters, digits and `._+~@-`"
        elif not is_public(key.public):
            why = "everybody can sign for this key: it is a point of small order"
        elif known is None:
            return replace(self, keys=(*self.keys, key))
        elif known.revoked is None:
            why = f"{key.id[:16]} is enrolled already, as {known.name}"
        else:
            why = f"{key.id[:16]} was revoked and cannot come back: {known.revoked}"
        raise UsageError(why, code="E747", hint="`edgedeploy keys list` shows what is enrolled")

    def without(self, wanted: str, reason: str) -> Trust:
        """Return it with a key revoked for ever.

        Args:
            wanted: Id of a key of the file.
            reason: In words.

        Raises:
            UsageError: The reason is no short line (E747).
        """
        check_reason(reason)
        return self._revoking(wanted, reason)

    def taking(self, content: bytes) -> Trust:
        """Return it with what a signed statement says; the same, where it said so before.

        Args:
            content: The statement, from anywhere.

        Raises:
            IntegrityError: It cannot be read, no key of the file signed it, or the key may not say
                that: it was revoked, handed over before, or is no successor of the key that it
                revokes (E745).
        """
        signed = read_statement(content)
        said, text = signed.statement, content.decode()
        if text in self.statements:
            return self
        signer = self._signer(signed.signature.keyid)
        if not signed.is_by(bytes.fromhex(signer.public)):
            raise refused(f"the signature of {signer.id[:16]} is not right")
        if signer.revoked is not None:
            raise refused(f"{signer.id[:16]} signed it, and was revoked: {signer.revoked}")
        changed = replace(self, statements=(*self.statements, text))
        if said.act == "revoke":
            if said.key not in self._before(signer):
                raise refused(f"{signer.id[:16]} is no successor of {said.key[:16]}")
            return changed._revoking(said.key, said.reason or "no reason was given")
        new = TrustedKey(name=signer.name, public=said.public or "", by=signer.id)
        if said.key != signer.id:
            raise refused(f"{signer.id[:16]} cannot hand over for {said.key[:16]}")
        if new.id in {key.id for key in self.keys}:
            raise refused(f"{new.id[:16]} is in the trust file already")
        for other in self.keys:
            if other.by == signer.id:
                raise refused(f"{signer.id[:16]} handed over before, to {other.id[:16]}")
        return replace(changed, keys=(*self.keys, new))

    def _signer(self, wanted: str) -> TrustedKey:
        try:
            return self.key(wanted)
        except KeyError:
            raise refused(f"{wanted[:16]} signed it, which is not in the trust file") from None

    def _before(self, key: TrustedKey) -> Iterator[str]:
        """Yield the ids of a key and of all that it is a successor of."""
        yield key.id
        while key.by is not None:
            key = self.key(key.by)
            yield key.id

    def _revoking(self, wanted: str, reason: str) -> Trust:
        if wanted in self.revoked:
            return self  # for the reason that was given first
        keys = (replace(key, revoked=reason) if key.id == wanted else key for key in self.keys)
        return replace(self, keys=tuple(keys))


def check_reason(reason: str) -> None:
    """Refuse a reason that is no short line (E747)."""
    if not reason or not is_reason(reason):
        raise UsageError(
            f"the reason is no line of 1 to {MOST_REASON} characters",
            code="E747",
            hint="say it shorter",
        )


def parse_trust(content: bytes) -> Trust:
    """Return what a trust file says, after all that can be checked of it was.

    Raises:
        ValueError: It is not in the canonical form, of another schema, or contradicts itself.
    """
    data = json.loads(content)
    if canonical(data) != content:
        raise ValueError("it is not in the canonical form")
    found: Trust = from_plain(Trust, data, "trust")
    if found.schema != SCHEMA:
        raise ValueError(f"it has schema {found.schema}, this version reads {SCHEMA}")
    seen: dict[str, TrustedKey] = {}
    for key in found.keys:
        if not is_public(key.public) or not _NAME.match(key.name) or key.id in seen:
            raise ValueError("a key of it is none, has no name or is there twice")
        if key.revoked is not None and not (key.revoked and is_reason(key.revoked)):
            raise ValueError(f"the reason why {key.id[:16]} was revoked is none")
        if key.by is not None and (key.by not in seen or seen[key.by].name != key.name):
            raise ValueError(f"the key before {key.id[:16]} is not there")
        seen[key.id] = key
    said = set(_handed_over(found.statements, seen))
    handed = {(key.by, key.public) for key in found.keys if key.by is not None}
    if said != handed or len({by for by, _ in handed}) != len(handed):
        raise ValueError("its keys are not those that its statements hand over to")
    return found


def _handed_over(
    statements: tuple[str, ...], keys: Mapping[str, TrustedKey]
) -> Iterator[tuple[str, str]]:
    """Yield which key hands over to which public one; the signatures are verified."""
    for text in statements:
        try:
            signed = read_statement(text.encode())
        except IntegrityError as error:
            raise ValueError(str(error)) from error
        signer = keys.get(signed.signature.keyid)
        if signer is None or not signed.is_by(bytes.fromhex(signer.public)):
            raise ValueError("a statement of it is not signed by one of its keys")
        said = signed.statement
        if said.act == "rotate":
            yield signer.id, said.public or ""
        elif said.key not in keys or keys[said.key].revoked is None:
            raise ValueError(f"{said.key[:16]} is believed, though a statement revokes it")


def read_trust(path: Path) -> Trust:
    """Return what a trust file says.

    Raises:
        UsageError: It is not there: nobody is believed (E753).
        IntegrityError: It is damaged, no regular file, or others may write it (E743).
        OSError: It cannot be read.
    """
    try:
        # O_NONBLOCK: a pipe must not make us wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UsageError(
            f"nobody is believed: there is no trust file {path}",
            code="E753",
            subject=str(path),
            hint="enrol a publisher's key: `edgedeploy keys enrol KEY.pub --name PUBLISHER`",
        ) from None
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        ours = about.st_uid in (0, os.geteuid()) and not about.st_mode & 0o022
        if not stat.S_ISREG(about.st_mode) or not ours:
            raise _unbelievable(path, "it is no file that its owner alone may write")
        content = file.read(MOST_BYTES + 1)
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        return parse_trust(content)
    except (ValueError, RecursionError) as error:
        raise _unbelievable(path, str(error)) from error


def change_trust(path: Path, change: Callable[[Trust], Trust]) -> Trust:
    """Change a trust file, one after the other, and return what it says then.

    Args:
        path: The file; made, with its folder, when there is none.
        change: From what it says to what it shall say.

    Raises:
        IntegrityError: As :func:`read_trust`.
        StoreError: The disk refuses, or cannot lock (E601, E602, E603).
    """
    path = path.resolve()
    with disk_errors("cannot change the trust file"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = locked(path.with_name(f"{path.name}.lock"), fcntl.LOCK_EX)
        try:
            before = read_trust(path) if path.exists() else Trust()
            after = change(before)
            if after != before:
                content = canonical(to_plain(after))
                parse_trust(content)
                write_atomic(path, content, mode=0o644)
            return after
        finally:
            os.close(lock)


def _unbelievable(path: Path, why: str) -> IntegrityError:
    return IntegrityError(
        f"the trust file {path} cannot be believed: {why}",
        code="E743",
        subject=str(path),
        hint="bring it back from a backup, with mode 644 and its owner alone to write it",
    )
