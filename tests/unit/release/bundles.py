"""Small signed bundles for tests: the files are the test's, the rest follows."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgedeploy.artifact import scan_tree
from edgedeploy.release.bundle import Release, ReleaseFile
from edgedeploy.release.keys import SigningKey, new_key
from edgedeploy.releasing import Draft, write_release

Cuts = Mapping[str, Sequence[tuple[int, int]]]


def a_key(folder: Path) -> SigningKey:
    """Return a new key that lies in a folder."""
    return new_key(folder / f"key-{os.urandom(4).hex()}")


def a_bundle(
    folder: Path,
    version: str,
    files: Mapping[str, bytes],
    key: SigningKey,
    *,
    cuts: Cuts | None = None,
    name: str = "doorbell",
) -> Path:
    """Return the bundle of some files; ``cuts`` are offset and length of their tensors."""
    place = folder / f"files-{name}-{version}-{os.urandom(4).hex()}"
    for path, content in files.items():
        goal = place / path
        goal.parent.mkdir(parents=True, exist_ok=True)
        goal.write_bytes(content)
    entries = scan_tree(place, cuts).files
    release = Release(
        name=name,
        version=version,
        counter=1,
        created=None,
        made_by="edgedeploy tests",
        unaccepted=(),
        targets=(),
        licences=(),
        files=tuple(
            ReleaseFile(
                path=entry.path,
                size=entry.size,
                sha256=entry.sha256,
                role="weights",
                segments=tuple((part.offset, part.length, part.sha256) for part in entry.segments),
            )
            for entry in entries
        ),
    )
    places = {entry.sha256: place / entry.path for entry in entries}
    return write_release(Draft(release=release, places=places), folder, key)
