"""Statements about keys, signed by keys: one hands over to another, or is revoked.

A statement travels alone, from the publisher to everybody who believes one of its keys; nothing but
its signature says that it is right. It is a DSSE envelope like that of a release, of a payload type
of its own, so that no signature over the one is one over the other.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from edgedeploy.errors import IntegrityError
from edgedeploy.manifest import canonical
from edgedeploy.plaindata import from_plain, to_plain
from edgedeploy.release.keys import SigningKey
from edgedeploy.release.signing import Signature, envelope, is_signed, read_envelope, sign
from edgedeploy.release.verify_file import is_weak

SCHEMA = 1
PAYLOAD_TYPE = "application/vnd.edgedeploy.key-statement+json"
MOST_BYTES = 64 << 10
MOST_REASON = 200

_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a key states.

    Attributes:
        act: ``rotate``: ``key`` hands over to ``public``; ``revoke``: ``key`` is believed no more.
        key: Id of the key that it is about.
        public: The new key's 32 bytes, 64 hexadecimal digits; None where a key is revoked.
        reason: Why a key is revoked, in words; empty where one hands over.
    """

    schema: int = SCHEMA
    act: Literal["rotate", "revoke"]
    key: str
    public: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A statement that was read: its signature is not verified yet."""

    statement: Statement
    payload: bytes
    signature: Signature

    def is_by(self, public: bytes) -> bool:
        """Return whether the signature is that of a public key (32 bytes)."""
        return is_signed(self.payload, public, self.signature.sig, PAYLOAD_TYPE)


def state(statement: Statement, key: SigningKey) -> bytes:
    """Return a statement, signed by a key.

    Raises:
        IntegrityError: What signs gave no signature of the key (E733), or the statement is one that
            no reader would take (E745).
        ToolError: The command that signs failed (E744).
    """
    payload = canonical(to_plain(statement))
    _checked(json.loads(payload))
    signature = sign(payload, key.public, key.sign, PAYLOAD_TYPE)
    return envelope(payload, [signature], PAYLOAD_TYPE)


def read_statement(content: bytes) -> Signed:
    """Return a statement from anywhere; who takes it asks :meth:`Signed.is_by`.

    Raises:
        IntegrityError: It is no statement that this version can read (E745).
    """
    if len(content) > MOST_BYTES:
        raise refused(f"it has more than {MOST_BYTES} bytes")
    try:
        payload, signatures = read_envelope(content, PAYLOAD_TYPE)
        data = json.loads(payload)
        canonic = canonical(data) == payload
    except (ValueError, RecursionError, IntegrityError) as error:
        raise refused("it is damaged, or something else") from error
    if not canonic or len(signatures) != 1:
        raise refused("it is not in the canonical form, or signed by more than one key")
    return Signed(statement=_checked(data), payload=payload, signature=signatures[0])


def _checked(data: Any) -> Statement:
    try:
        found: Statement = from_plain(Statement, data, "statement")
    except ValueError as error:
        raise refused(str(error)) from error
    if found.schema != SCHEMA:
        raise refused(f"it has schema {found.schema}, this version reads {SCHEMA}")
    rotates = found.act == "rotate"
    if not _HEX.match(found.key) or rotates != (found.public is not None):
        raise refused("it says nothing that a key can state")
    if found.public is not None and (found.reason or not is_public(found.public)):
        raise refused("the key that it hands over to is none")
    if not is_reason(found.reason):
        raise refused(f"its reason is no line of at most {MOST_REASON} characters")
    return found


def is_public(text: str) -> bool:
    """Return whether text is a public key in 64 hexadecimal digits, and no weak one."""
    return _HEX.match(text) is not None and not is_weak(bytes.fromhex(text))


def is_reason(text: str) -> bool:
    """Return whether text can be shown as a reason: one printable line, not too long."""
    return text.isprintable() and len(text) <= MOST_REASON


def refused(why: str) -> IntegrityError:
    """Return why a statement is not taken (E745)."""
    return IntegrityError(
        f"the statement is not taken: {why}",
        code="E745",
        hint="ask the publisher; a key that is to be believed anyhow is enrolled by itself",
    )
