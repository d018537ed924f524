"""Applying a delta: the new bundle appears whole and signed by the right key, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.errors import IntegrityError, ToolError
from edgedeploy.release import apply_file
from edgedeploy.release.bundle import Release, parse_release
from edgedeploy.release.opening import NOBODY, check_signatures, open_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A bundle that was rebuilt.

    Attributes:
        path: Where it lies.
        release: What it holds.
        sha256: Of the bundle.
        signers: Ids of the trusted keys whose signatures are right; empty where none was looked at.
    """

    path: Path
    release: Release
    sha256: str
    signers: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "path": str(self.path),
            "name": self.release.name,
            "version": self.release.version,
            "counter": self.release.counter,
            "sha256": self.sha256,
            "signers": list(self.signers),
        }


def apply_delta(
    delta: Path,
    old: Path,
    goal: Path,
    trusted: Mapping[str, bytes] | None,
    revoked: Mapping[str, str] = NOBODY,
) -> Applied:
    """Rebuild the new bundle from the old one.

    The signature is checked before anything is written, and the whole bundle before it gets its
    name.

    Args:
        delta: From anywhere.
        old: The bundle that it was made from.
        goal: Where the new one is written; what is there is replaced when all is right.
        trusted: The 32 public bytes of the keys that are believed, by id; None: no signature is
            looked at.
        revoked: Why keys are believed no more, by id.

    Raises:
        IntegrityError: The delta is none or damaged (E770), the old bundle is not that from which
            it was made (E771), or the new one is none that a key vouches for that is believed
            (E731 to E736, E746).
        ToolError: The delta needs zstandard, which is not installed (E773).
        OSError: A file cannot be read or the disk refuses.
    """
    signers: list[str] = []
    releases: list[Release] = []

    def check(manifest: bytes, envelope: bytes) -> None:
        if trusted is not None:
            signers.extend(check_signatures(manifest, envelope, trusted, revoked=revoked))
        releases.append(parse_release(manifest))

    def approve(part: str) -> None:
        if trusted is not None:
            with open_bundle(Path(part), trusted, revoked):
                pass  # opening is checking

    try:
        plan = apply_file.apply(str(delta), str(old), str(goal), check, approve)
    except apply_file.WrongBaseError as error:
        raise IntegrityError(
            f"{old.name} is not the bundle that the delta was made from: {error}",
            code="E771",
            subject=str(old),
            hint="give the bundle of that version as it was published, or get the new one whole",
        ) from error
    except apply_file.DamagedError as error:
        raise IntegrityError(
            f"{delta.name} cannot be applied: {error}",
            code="E770",
            subject=str(delta),
            hint="get it again from where it was published, or get the new bundle whole",
        ) from error
    except apply_file.MissingPartError as error:
        raise ToolError(
            str(error),
            code="E773",
            subject="zstandard",
            hint="install edgedeploy[zstd], or ask for a delta made with --delta-codec lzma",
        ) from error
    (release,) = releases
    return Applied(path=goal, release=release, sha256=plan["new"]["sha256"], signers=tuple(signers))
