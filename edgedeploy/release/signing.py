"""Signatures over a bundle's manifest: DSSE envelopes with Ed25519.

Sources: DSSE 1.0.2 (github.com/secure-systems-lab/dsse, protocol.md and envelope.md); Ed25519,
RFC 8032. A key's id is the SHA-256 of its 32 raw public bytes, 64 hexadecimal digits: it says
which key to try, and vouches for nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgedeploy.errors import IntegrityError
from edgedeploy.manifest import canonical
from edgedeploy.release.verify_file import is_weak

PAYLOAD_TYPE = "application/vnd.edgedeploy.release+json"
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
MOST_SIGNATURES = 16

_SIGNATURE = rb'\{"keyid":"([0-9a-f]{64})","sig":"([A-Za-z0-9+/]{86}==)"\}'
_ENVELOPE = re.compile(
    rb'\{"payload":"([A-Za-z0-9+/]*={0,2})","payloadType":"([a-z0-9./+-]+)",'
    rb'"signatures":\[(.{0,%d})\]\}\Z' % (256 * MOST_SIGNATURES)
)

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


def envelope(
    payload: bytes, signatures: Iterable[Signature], payload_type: str = PAYLOAD_TYPE
) -> bytes:
    """Return the canonical JSON of an envelope, signatures sorted by key."""
    return canonical(
        {
            "payloadType": payload_type,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [
                {"keyid": item.keyid, "sig": base64.b64encode(item.sig).decode()}
                for item in sorted(signatures, key=lambda item: (item.keyid, item.sig))
            ],
        }
    )


def sign(payload: bytes, public: bytes, by: Sign, payload_type: str = PAYLOAD_TYPE) -> Signature:
    """Return the signature of a payload; checked before anybody gets it.

    Args:
        payload: What is vouched for.
        public: The key's 32 public bytes.
        by: Makes the signature.
        payload_type: What is signed; a signature over one type is none over another.

    Raises:
        IntegrityError: What came back is no signature of this key (E733).
    """
    made = by(pre_authentication(payload, payload_type))
    if len(made) != SIGNATURE_BYTES or not is_signed(payload, public, made, payload_type):
        raise IntegrityError(
            "what was to sign gave no signature of this key",
            code="E733",
            subject=key_id(public),
            hint="check that the command signs its input as it is, with the key's own private part",
        )
    return Signature(keyid=key_id(public), sig=made)


def is_signed(
    payload: bytes, public: bytes, signature: bytes, payload_type: str = PAYLOAD_TYPE
) -> bool:
    """Return whether a signature over a payload is that of a public key (32 bytes).

    A key of small order is nobody's: everybody can sign for it.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(signature, pre_authentication(payload, payload_type))
    except (InvalidSignature, ValueError):
        return False
    return not is_weak(public)


def read_envelope(
    content: bytes, payload_type: str = PAYLOAD_TYPE
) -> tuple[bytes, tuple[Signature, ...]]:
    """Return payload and signatures of an envelope; nothing is verified yet.

    It comes from anywhere, so it is compared with the one form that it may have; no JSON reader
    sees it.

    Raises:
        IntegrityError: It is no envelope of that type in the canonical form (E732).
    """
    found = _ENVELOPE.match(content)
    if found is None or found[2] != payload_type.encode():
        raise _unreadable(f"it is no envelope of {payload_type} in the canonical form")
    try:
        payload = base64.b64decode(found[1], validate=True)
    except ValueError:
        raise _unreadable("its payload is not base64") from None
    signatures = tuple(
        Signature(keyid=keyid.decode(), sig=base64.b64decode(sig))
        for keyid, sig in re.findall(_SIGNATURE, found[3])
    )
    if not 0 < len({item.keyid for item in signatures}) == len(signatures) <= MOST_SIGNATURES:
        raise _unreadable("it has no signature, too many, or two of one key")
    # As written again, because base64 has several forms for the same bytes.
    if envelope(payload, signatures, payload_type) != content:
        raise _unreadable("it is not in the canonical form")
    return payload, signatures


def _unreadable(why: str) -> IntegrityError:
    return IntegrityError(
        f"the signature cannot be read: {why}",
        code="E732",
        hint="get the bundle again from where it was published",
    )
