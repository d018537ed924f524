"""Signatures in the format of OpenSSF Model Signing over an extracted release.

They are for who has that verifier already; ours are in the bundle. The format knows elliptic
curve keys and no Ed25519, so that a second key makes such a signature. Sources: OpenSSF Model
Signing (OMS) specification 1.0, sections 4 to 6; Sigstore bundle format 0.3; in-toto Statement v1;
DSSE 1.0.2. The verifier ``model_signing`` 1.1.1 wants the SHA-256 of the public key's PEM form as
hint. ECDSA is deterministic (RFC 6979), so that the same release has the same signature.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.errors import UsageError
from edgedeploy.manifest import canonical
from edgedeploy.release.bundle import ENVELOPE, MANIFEST, SUMS, Release, sums
from edgedeploy.release.bundle import SUFFIX as BUNDLE_SUFFIX
from edgedeploy.release.keys import read_private
from edgedeploy.release.signing import Sign, pre_authentication

SUFFIX = ".model.sig"
_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
"""What the format leaves out at the top of a folder; no release has such files there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKey:
    """An elliptic curve key that can sign.

    Attributes:
        hint: SHA-256 of the public part in PEM (64 hexadecimal digits), by which verifiers find it.
        sign: Returns an ECDSA signature (DER) of what it is given.
    """

    hint: str
    sign: Sign


def read_model_key(path: Path) -> ModelKey:
    """Return the elliptic curve key in a file.

    Raises:
        UsageError: The file cannot be read, others may read it (E751), or it holds no private key
            on P-256, P-384 or P-521 in PEM without a passphrase (E780).
    """
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    content = read_private(path)
    digests: Mapping[str, hashes.HashAlgorithm] = {
        "secp256r1": hashes.SHA256(),
        "secp384r1": hashes.SHA384(),
        "secp521r1": hashes.SHA512(),
    }
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
        raise _no_key(path) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in digests:
        raise _no_key(path)
    scheme = ec.ECDSA(digests[key.curve.name], deterministic_signing=True)
    shown = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return ModelKey(
        hint=hashlib.sha256(shown).hexdigest(), sign=lambda data: key.sign(data, scheme)
    )


def _no_key(path: Path) -> UsageError:
    return UsageError(
        f"{path} holds no private key on P-256, P-384 or P-521 in PEM without a passphrase",
        code="E780",
        subject=str(path),
        hint=f"make one: openssl ecparam -name prime256v1 -genkey -noout -out {path.name}",
    )


def model_signature_path(bundle: Path) -> Path:
    """Return where the signature over the content of a bundle lies."""
    return bundle.with_name(f"{bundle.name.removesuffix(BUNDLE_SUFFIX)}{SUFFIX}")


def model_signature(release: Release, envelope: bytes, key: ModelKey) -> bytes:
    """Return the signature over a release as ``edgedeploy verify --extract`` writes it: JSON.

    Args:
        release: What is vouched for.
        envelope: Of the release, with our own signatures: a file of the folder like the others.
        key: Signs.
    """
    own = {MANIFEST: release.manifest, ENVELOPE: envelope, SUMS: sums(release.files)}
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in own.items()}
    digests |= {file.path: file.sha256 for file in release.files}
    payload = canonical(_statement(f"{release.name}-{release.version}", digests))
    signature = key.sign(pre_authentication(payload, _PAYLOAD_TYPE))
    return canonical(
        {
            "mediaType": _BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": key.hint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": _PAYLOAD_TYPE,
                "signatures": [{"keyid": "", "sig": base64.b64encode(signature).decode()}],
            },
        }
    )


def _statement(name: str, digests: Mapping[str, str]) -> Mapping[str, object]:
    """Return the statement over the files of a folder, by path; sections 5 and 6.5 of OMS."""
    paths = sorted(digests)
    root = hashlib.sha256(b"".join(bytes.fromhex(digests[path]) for path in paths))
    return {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root.hexdigest()}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "resources": [
                {"name": path, "algorithm": "sha256", "digest": digests[path]} for path in paths
            ],
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(_IGNORED),
            },
        },
    }
