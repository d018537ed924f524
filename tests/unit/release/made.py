"""Releases made by hand, for tests that need no build."""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgedeploy.manifest import canonical
from edgedeploy.plaindata import to_plain
from edgedeploy.release.archive import write_archive
from edgedeploy.release.bundle import (
    ENVELOPE,
    MANIFEST,
    SUMS,
    Figure,
    Golden,
    Release,
    ReleaseFile,
    ReleaseModel,
    ReleaseTarget,
    Tensor,
    members_of,
    sums,
)
from edgedeploy.release.keys import SigningKey
from edgedeploy.release.signing import envelope, sign

CONTENTS: Mapping[str, bytes] = {
    "doc/labels.txt": b"cat\ndog\n",
    "doc/labels-again.txt": b"cat\ndog\n",  # of one content with the one before
    "empty": b"",
    "rpi5/ort/golden/main/inputs/pack.json": b"{}",
    "rpi5/ort/golden/main/outputs/pack.json": b"[]",
    "rpi5/ort/main/model.ort": bytes(range(256)) * 20,
    "rpi5/ort/main/Ünïcode/weights.bin": b"\0" * 3000,
}


def key_of(number: int) -> SigningKey:
    """Return a key that is the same in every run."""
    secret = Ed25519PrivateKey.from_private_bytes(struct.pack(">32B", *[number] * 32))
    return SigningKey(public=secret.public_key().public_bytes_raw(), sign=secret.sign)


KEY, OTHER = key_of(1), key_of(2)
TRUSTED = {KEY.id: KEY.public}


def release_of(
    contents: Mapping[str, bytes] = CONTENTS,
    *,
    name: str = "doorbell",
    version: str = "1.0.0",
    counter: int = 7,
) -> Release:
    """Return a release of these files; with a model where its entry is among them."""
    entry = "rpi5/ort/main/model.ort"
    model = ReleaseModel(
        name="main",
        entry=entry,
        candidate="w8a8",
        artifact="a" * 64,
        inputs=(Tensor(name="image", dtype="float32", shape=(1, 3, "64..224", 224)),),
        outputs=(Tensor(name="scores", dtype="float32", shape=(1, 2)),),
        labels="doc/labels.txt",
        options={},
        size_bytes=5120,
        figures=(
            Figure(name="top1", value=0.5, low=0.25, high=0.75, samples=32, evidence="device"),
        ),
        gates=(),
        golden=Golden(
            inputs="rpi5/ort/golden/main/inputs",
            outputs="rpi5/ort/golden/main/outputs",
            cosine=0.99,
        ),
    )
    target = ReleaseTarget(
        target="rpi5/ort",
        os="linux",
        arch="arm64",
        os_version=None,
        runtime="ort",
        runtime_versions=">=1.17",
        compute_capabilities=(),
        models=(model,),
    )
    return Release(
        name=name,
        version=version,
        counter=counter,
        created=None,
        made_by="edgedeploy 0",
        unaccepted=(),
        targets=(target,) if entry in contents else (),
        licences=(),
        files=tuple(
            ReleaseFile(
                path=path,
                size=len(contents[path]),
                sha256=hashlib.sha256(contents[path]).hexdigest(),
                role="file",
            )
            for path in sorted(contents)
        ),
    )


def members(
    release: Release,
    contents: Mapping[str, bytes] = CONTENTS,
    keys: Sequence[SigningKey] = (KEY,),
    manifest: bytes | None = None,
) -> dict[str, Path | bytes]:
    """Return the members of a bundle; ``manifest`` instead of the release's is signed as it is."""
    manifest = release.manifest if manifest is None else manifest
    found: dict[str, Path | bytes] = {
        path: contents[path] for path in members_of(release.files).values()
    }
    found[MANIFEST] = manifest
    found[ENVELOPE] = envelope(manifest, [sign(manifest, key.public, key.sign) for key in keys])
    found[SUMS] = sums(release.files)
    return found


def write(folder: Path, release: Release | None = None, **how: Any) -> Path:
    """Write a bundle and return its path."""
    release = release or release_of()
    goal = folder / f"{release.digest[:8]}-{release.file_name}"
    write_archive(goal, members(release, **how))
    return goal


def spoiled(folder: Path, change: Mapping[str, Any]) -> Path:
    """Return a bundle whose manifest was changed before it was signed: a publisher's mistake."""
    release = release_of()
    manifest = canonical({**to_plain(release), **change})
    goal = folder / "spoiled.edpkg"
    write_archive(goal, members(release, manifest=manifest))
    return goal
