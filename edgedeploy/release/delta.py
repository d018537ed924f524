"""From two bundles to a delta: what turns the old one's bytes into the new one's.

:mod:`edgedeploy.release.apply_file` is the reader and describes the file,
:mod:`edgedeploy.release.streams` decides what travels how.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edgedeploy.errors import InternalError, UsageError
from edgedeploy.manifest import canonical
from edgedeploy.release import apply_file
from edgedeploy.release.apply_file import CHUNK_BYTES, MAGIC, SCHEMA
from edgedeploy.release.bundle import ENVELOPE, SUMS
from edgedeploy.release.packing import Codecs, pack_plan, zstandard
from edgedeploy.release.pieces import Anatomy, dissect
from edgedeploy.release.streams import Pair, Streams

SUFFIX = ".eddelta"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A delta that was written and tried.

    Attributes:
        path: Where it lies.
        size_bytes: Of its file.
        new_bytes: Of the bundle that it makes.
        copied_bytes: Of that, what the old bundle holds.
    """

    path: Path
    size_bytes: int
    new_bytes: int
    copied_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "path": str(self.path),
            "size_bytes": self.size_bytes,
            "new_bytes": self.new_bytes,
            "copied_bytes": self.copied_bytes,
        }


def write_delta(old: Path, new: Path, folder: Path, codecs: Codecs = "zstd") -> Delta:
    """Write the delta between two bundles, and try it.

    Args:
        old: The bundle that readers have.
        new: The bundle that they shall have.
        folder: Where ``NAME-OLD-to-NEW.eddelta`` is written.
        codecs: What readers have.

    Raises:
        UsageError: The two are no releases of one name, or the same version (E774).
        IntegrityError: One of them is no bundle (E731, E734, E735).
        ToolError: zstandard is not installed, and ``codecs`` needs it (E773).
        OSError: A bundle cannot be read or the disk refuses; no delta is left behind.
    """
    if codecs == "zstd":
        zstandard()
    with (
        open(old, "rb") as old_file,
        open(new, "rb") as new_file,
        tempfile.TemporaryDirectory(prefix=".delta-", dir=folder) as scratch,
    ):
        pair = Pair(old_file, new_file, dissect(old_file), dissect(new_file))
        _check_pair(pair.old, pair.new)
        about = _about(pair)
        versions = f"{pair.old.release.version}-to-{pair.new.release.version}"
        name = f"{pair.new.release.name}-{versions}{SUFFIX}"
        made = Path(scratch, name)
        found = [
            Streams(pair, codecs, Path(scratch, "parts")).write(),
            Streams(pair, codecs, Path(scratch, "whole")).write_whole(),
        ]
        best = min(found, key=lambda streams: streams.size)
        _join(made, canonical(about | best.plan()), best.place)
        _try(made, old, Path(scratch, "tried"))
        size = made.stat().st_size
        made.replace(folder / name)
    return Delta(
        path=folder / name,
        size_bytes=size,
        new_bytes=about["new"]["size"],
        copied_bytes=best.copied_bytes,
    )


def _check_pair(old: Anatomy, new: Anatomy) -> None:
    why = None
    if old.release.name != new.release.name:
        why = f"is of {old.release.name!r}, not of {new.release.name!r}"
    elif old.release.version == new.release.version:
        why = f"is of version {old.release.version!r} as well"
    if why is not None:
        raise UsageError(
            f"the old bundle {why}",
            code="E774",
            subject=old.release.file_name,
            hint="give the bundle of an earlier version of the same profile",
        )


def _about(pair: Pair) -> dict[str, Any]:
    """Return what the plan says beside its streams.

    The envelope and SHA256SUMS follow from the manifest, but for the signatures.
    """
    new = pair.new
    payload = base64.b64encode(new.manifest).decode()
    before, _, after = new.envelope.decode().partition(payload)
    envelope, sums = new.own[ENVELOPE], new.own[SUMS]
    return {
        "schema": SCHEMA,
        "base": _identity(pair.old_file, pair.old),
        "new": _identity(pair.new_file, new),
        "envelope": {
            "at": envelope.offset,
            "length": envelope.size,
            "before": before,
            "after": after,
        },
        "sums": {"at": sums.offset, "length": sums.size},
    }


def _identity(file: BinaryIO, anatomy: Anatomy) -> dict[str, Any]:
    return {
        "version": anatomy.release.version,
        "sha256": apply_file.sha256_of(file),
        "size": file.seek(0, os.SEEK_END),
    }


def _join(goal: Path, plan: bytes, streams: Path) -> None:
    packed = pack_plan(plan)
    head = len(packed).to_bytes(4, "little") + packed
    found = hashlib.sha256(head)
    with open(goal, "wb") as file, open(streams, "rb") as source:
        file.write(MAGIC + bytes(found.digest_size) + head)
        while data := source.read(CHUNK_BYTES):
            found.update(data)
            file.write(data)
        file.seek(len(MAGIC))
        file.write(found.digest())
        file.flush()
        os.fsync(file.fileno())


def _try(delta: Path, old: Path, goal: Path) -> None:
    """Apply a delta once: one that does not make the new bundle never leaves here."""
    try:
        apply_file.apply(str(delta), str(old), str(goal))
    except (apply_file.DamagedError, apply_file.WrongBaseError) as error:
        raise InternalError(f"{delta.name} does not make the new bundle: {error}") from error
