"""``edgedeploy.lock``: what a build used and made, so that ``--locked`` can insist on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgedeploy.crashpoint import crashpoint
from edgedeploy.errors import IntegrityError, ProfileError
from edgedeploy.manifest import sweep_parts, write_atomic

NAME = "edgedeploy.lock"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One profile's entry.

    Attributes:
        expanded: Digest of the expanded profile with its targets.
        tools: Version by distribution, for every tool that entered a key.
        models: SHA-256 by model name.
        data: Digest of the samples by ``model.role``, or of the calibration table kept for them.
        chosen: Candidate by item name.
        schemes: Its scheme, where a search found it, by item name.
        artifacts: File path -> SHA-256 by item name. Where devices build, of the program: the
            same program gives another engine every time.
        engines: Where devices build: SHA-256 of the engine by the platform that built it, by item
            name. The platforms hold; the digests are there to be looked up.
    """

    expanded: str
    tools: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)
    schemes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    artifacts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    engines: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def platforms(self) -> dict[str, list[str]]:
        """The platforms that engines are for, by item name."""
        return {name: sorted(engines) for name, engines in self.engines.items()}


def read_lock(folder: Path, profile: str) -> Lock:
    """Return the entry of ``profile`` in the lock file of ``folder``.

    Raises:
        ProfileError: There is no lock file or entry (E182), or it cannot be read (E183).
    """
    found = _read(folder / NAME).get(profile)
    if found is None:
        raise ProfileError(
            f"{NAME} has no entry for profile {profile}",
            code="E182",
            subject=str(NAME),
            hint="build once without --locked and commit the lock file",
        )
    try:
        return Lock(**found)
    except TypeError as error:
        raise _unreadable(str(error)) from error


def write_lock(folder: Path, profile: str, lock: Lock) -> bool:
    """Write the entry of ``profile``, keeping the others; return whether anything changed.

    Raises:
        ProfileError: The file that is there cannot be read (E183).
        OSError: The folder cannot be written.
    """
    path = folder / NAME
    sweep_parts(folder)
    entries = _read(path)
    entry = asdict(lock)
    if not lock.engines:
        del entry["engines"]
    if entries.get(profile) == entry:
        return False
    entries[profile] = entry
    data = {"edgedeploy-lock": FORMAT, "profiles": entries}
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1) + "\n"
    write_atomic(path, text.encode())
    crashpoint("lock.written")
    return True


def check_lock(locked: Lock, now: Lock) -> None:
    """Compare what was just built with the lock.

    Raises:
        ProfileError: Profile, tools, models, data or the devices' platforms are not the locked ones
            (E184).
        IntegrityError: The inputs are the locked ones but an artifact is not (E702).
    """
    for part in ("expanded", "tools", "models", "data", "platforms"):
        old, new = getattr(locked, part), getattr(now, part)
        if old == new:
            continue
        what = part
        if isinstance(old, Mapping):
            names = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
            what = f"{part} ({', '.join(names)})"
        raise ProfileError(
            f"--locked: {what} is not what {NAME} says",
            code="E184",
            subject=part,
            hint="restore it, or build without --locked and review the change of the lock file",
        )
    for name, files in locked.artifacts.items():
        if dict(now.artifacts.get(name, {})) != dict(files):
            raise IntegrityError(
                f"--locked: the artifact of {name} differs from {NAME} though its inputs do not",
                code="E702",
                subject=name,
                hint="a tool is not deterministic here; report it with `edgedeploy doctor --json`",
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unreadable(str(error)) from error
    if not isinstance(data, dict) or data.get("edgedeploy-lock") != FORMAT:
        raise _unreadable("it is not a lock file of this format")
    profiles: dict[str, Any] = data["profiles"]
    return profiles


def _unreadable(why: str) -> ProfileError:
    return ProfileError(
        f"cannot read {NAME}: {why}",
        code="E183",
        subject=NAME,
        hint="restore it from version control, or remove it and build again",
    )
