"""Signatures over a bundle's manifest: DSSE envelopes with Ed25519.

Sources: DSSE 1.0.2 (github.com/secure-systems-lab/dsse, protocol.md and envelope.md); Ed25519,
RFC 8032. A key's id is the SHA-256 of its 32 raw public bytes, 64 hexadecimal digits: it says
which key to try, and vouches for nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from edgedeploy.errors import IntegrityError
from edgedeploy.manifest import canonical

PAYLOAD_TYPE = "application/vnd.edgedeploy.release+json"
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
MOST_SIGNATURES = 16

Sign = Callable[[bytes], bytes]
"""From what is signed to the 64 bytes of its Ed25519 signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature in an envelope: ``keyid`` 64 hexadecimal digits, ``sig`` 64 bytes."""

    keyid: str
    sig: bytes


def key_id(public: bytes) -> str:
    """Return the id of a public key (32 bytes)."""
    return hashlib.sha256(public).hexdigest()


def pre_authentication(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return what is signed: the pre-authentication encoding (DSSE protocol.md)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def envelope(payload: bytes, signatures: Iterable[Signature]) -> bytes:
    """Return the canonical JSON of an envelope, signatures sorted by key."""
    return canonical(
        {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [
                {"keyid": item.keyid, "sig": base64.b64encode(item.sig).decode()}
                for item in sorted(signatures, key=lambda item: (item.keyid, item.sig))
            ],
        }
    )


def sign(payload: bytes, public: bytes, by: Sign) -> Signature:
    """Return the signature of a payload; checked before anybody gets it.

    Args:
        payload: What is vouched for.
        public: The key's 32 public bytes.
        by: Makes the signature.

    Raises:
        IntegrityError: What came back is no signature of this key (E733).
    """
    made = by(pre_authentication(payload))
    if len(made) != SIGNATURE_BYTES or not is_signed(payload, public, made):
        raise IntegrityError(
            "what was to sign gave no signature of this key",
            code="E733",
            subject=key_id(public),
            hint="check that the command signs its input as it is, with the key's own private part",
        )
    return Signature(keyid=key_id(public), sig=made)


def is_signed(payload: bytes, public: bytes, signature: bytes) -> bool:
    """Return whether a signature over a payload is that of a public key (32 bytes)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(signature, pre_authentication(payload))
    except (InvalidSignature, ValueError):
        return False
    return True


def read_envelope(content: bytes) -> tuple[bytes, tuple[Signature, ...]]:
    """Return payload and signatures of an envelope; nothing is verified yet.

    Raises:
        IntegrityError: It is no envelope of a release in the canonical form (E732).
    """
    try:
        data = json.loads(content)
        if canonical(data) != content:
            raise ValueError("it is not in the canonical form")
        if data.keys() != {"payloadType", "payload", "signatures"}:
            raise ValueError("it has missing or unknown fields")
        if data["payloadType"] != PAYLOAD_TYPE:
            raise ValueError("it signs something else than a release")
        if not 0 < len(data["signatures"]) <= MOST_SIGNATURES:
            raise ValueError("it has no signature, or too many")
        found = tuple(_signature(item) for item in data["signatures"])
        return _bytes(data["payload"]), found
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise IntegrityError(
            f"the signature cannot be read: {error}",
            code="E732",
            hint="get the bundle again from where it was published",
        ) from error


def _signature(data: Any) -> Signature:
    if data.keys() != {"keyid", "sig"}:
        raise ValueError("a signature has missing or unknown fields")
    sig = _bytes(data["sig"])
    if len(sig) != SIGNATURE_BYTES or not isinstance(data["keyid"], str):
        raise ValueError("a signature has another form")
    return Signature(keyid=data["keyid"], sig=sig)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("a part is not base64") from error
