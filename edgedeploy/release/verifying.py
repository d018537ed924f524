"""Verifying a release: what a reader does with a bundle before anything of it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.disk import disk_errors
from edgedeploy.errors import EdgedeployError, IntegrityError, StoreError
from edgedeploy.release.believing import believed
from edgedeploy.release.bundle import Release
from edgedeploy.release.extracting import check_goal, extract
from edgedeploy.release.opening import Bundle, open_bundle
from edgedeploy.release.verify_file import Memory, VerifyError


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """How a bundle is verified.

    Attributes:
        keys: Files of public keys that are believed.
        trust: Trust file whose keys are believed too, and whose revoked ones are not, whoever
            names them; None: there is none.
        state: File that remembers the newest release of every name that was taken.
        allow_downgrade: Take an older release than the newest.
        extract: Folder to extract it into; None: nowhere.
    """

    keys: tuple[Path, ...] = ()
    trust: Path | None = None
    state: Path
    allow_downgrade: bool = False
    extract: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A release that was verified.

    Attributes:
        release: What it holds.
        signers: Ids of the trusted keys that vouch for it.
        envelope: The signatures, as ``manifest.dsse.json`` holds them.
        folder: Where it was extracted; None: nowhere.
    """

    release: Release
    signers: tuple[str, ...]
    envelope: bytes
    folder: Path | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "name": self.release.name,
            "version": self.release.version,
            "counter": self.release.counter,
            "digest": self.release.digest,
            "signers": list(self.signers),
            "unaccepted": list(self.release.unaccepted),
            "targets": [target.target for target in self.release.targets],
            "engines": [
                {"target": target, "model": model, "entry": engine.entry, "by": engine.in_words()}
                for target, model, engine in self.release.engines()
            ],
            "files": len(self.release.files),
            "size_bytes": sum(file.size for file in self.release.files),
            "folder": None if self.folder is None else str(self.folder),
        }


def verify(path: Path, options: VerifyOptions) -> Verified:
    """Check a bundle to the last byte, remember it, and extract it if that is asked for.

    All or nothing: a bundle that is refused leaves neither a folder nor a memory, and no folder
    appears before the memory is on the disk.

    Args:
        path: The bundle.
        options: Who is believed, and what to do.

    Raises:
        UsageError: A key cannot be used (E751, E752), there is no trust file (E753), or there is
            something where the folder shall be (E742).
        IntegrityError: As :func:`edgedeploy.release.opening.open_bundle`; the trust file cannot be
            believed (E743); a newer release was taken
            before (E738), or another one of the same counter (E739); the memory cannot be believed
            (E740).
        StoreError: The memory cannot be read or written (E741), or the disk refuses (E601, E602).
    """
    whom = believed(options.keys, options.trust)
    publics = tuple(whom.trusted.values())
    if options.extract is not None:
        check_goal(options.extract)
    memory = Memory(str(options.state), options.allow_downgrade)
    with (
        disk_errors("cannot verify the bundle"),
        open_bundle(path, whom.trusted, whom.revoked) as bundle,
    ):
        found = _found(bundle)
        _remembering(lambda: memory.check(found, publics))

        def keep() -> None:
            _remembering(lambda: memory.keep(found, publics))

        if options.extract is None:
            keep()
        else:
            extract(bundle, options.extract, keep)
        return Verified(
            release=bundle.release,
            signers=bundle.signers,
            envelope=bundle.envelope,
            folder=options.extract,
        )


def _found(bundle: Bundle) -> dict[str, Any]:
    """Return what the memory knows a release by."""
    release = bundle.release
    return {
        "release": {"name": release.name, "counter": release.counter},
        "digest": release.digest,
        "signers": list(bundle.signers),
    }


_HINTS = {
    "E738": "get the newest release; to go back on purpose, give --allow-downgrade",
    "E739": "ask the publisher which of the two is right, and for one with a higher counter",
    "E740": "bring the file back from a backup; without it, it is not known what was taken before",
    "E741": "make its folder writable for you alone, or name another file with --state",
}


def _remembering(act: Callable[[], object]) -> None:
    """Turn what the memory says into our errors."""
    try:
        act()
    except VerifyError as error:
        kind: type[EdgedeployError] = StoreError if error.code == "E741" else IntegrityError
        raise kind(
            str(error), code=error.code, subject=error.subject, hint=_HINTS[error.code]
        ) from error
