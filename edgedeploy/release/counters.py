"""``edgedeploy.releases``: which counter every release of a profile got.

It lies beside the profile and is committed with it, like ``edgedeploy.lock``, so that the same
release made elsewhere gets the same counter, and no counter is given twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.errors import ProfileError
from edgedeploy.manifest import write_atomic
from edgedeploy.plaindata import from_plain, to_plain
from edgedeploy.release.bundle import Release
from edgedeploy.release.verify_file import MOST_COUNTER

NAME = "edgedeploy.releases"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A release that was made: its counter, its version, and the digest of its manifest."""

    counter: int
    version: str
    digest: str


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Let one process at a time count releases in a folder; the others wait.

    Raises:
        OSError: The folder cannot be opened or locked.
    """
    # The folder itself, because a lock file would lie among the user's files for ever.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_counted(folder: Path, name: str) -> tuple[Counted, ...]:
    """Return the releases of a name that were made so far, by counter.

    Args:
        folder: Of the profile.
        name: Of the profile.

    Raises:
        ProfileError: The file cannot be read, or says what cannot be (E748).
    """
    return _read(folder).get(name, ())


def counter_for(before: Sequence[Counted], version: str, wanted: int | None) -> int:
    """Return the counter of a version: the one that it has, else one more than the last.

    Args:
        before: The releases so far.
        version: Of the release.
        wanted: What the user says; None: nothing.

    Raises:
        ProfileError: The version has another counter, or another version has this or a higher one
            (E749).
    """
    last = max((item.counter for item in before), default=0)
    for item in before:
        if item.version == version:
            if wanted not in (None, item.counter):
                raise _taken(f"version {version} was released with counter {item.counter}")
            return item.counter
    if wanted is not None and wanted <= last:
        raise _taken(f"counter {last} was given before, and counters grow")
    return last + 1 if wanted is None else wanted


def check_counted(before: Sequence[Counted], release: Release) -> None:
    """Refuse a release whose version was released before with other content.

    Raises:
        ProfileError: It was (E749).
    """
    for item in before:
        if item.version == release.version and item.digest != release.digest:
            raise _taken(
                f"version {release.version} was released before and was another: "
                f"{item.digest[:16]}, now {release.digest[:16]}"
            )


def keep_counted(folder: Path, release: Release) -> bool:
    """Write down a release; return whether it is a new one. The caller holds the folder.

    Raises:
        ProfileError: As :func:`read_counted` and :func:`check_counted`.
        OSError: The folder cannot be written.
    """
    entries = _read(folder)
    before = entries.get(release.name, ())
    check_counted(before, release)
    made = Counted(counter=release.counter, version=release.version, digest=release.digest)
    if made in before:
        return False
    entries[release.name] = (*before, made)
    data = {"edgedeploy-releases": FORMAT, "profiles": to_plain(entries)}
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1) + "\n"
    write_atomic(folder / NAME, text.encode())
    return True


def _read(folder: Path) -> dict[str, tuple[Counted, ...]]:
    try:
        data = json.loads((folder / NAME).read_bytes())
        if not isinstance(data, dict) or data.get("edgedeploy-releases") != FORMAT:
            raise ValueError("it is not a file of releases of this format")
        return {name: _counted(name, items) for name, items in data["profiles"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ProfileError(
            f"cannot read {NAME}: {error}",
            code="E748",
            subject=NAME,
            hint="restore it from version control; a merge keeps the entries of both sides",
        ) from error


def _counted(name: str, items: Any) -> tuple[Counted, ...]:
    found: tuple[Counted, ...] = from_plain(tuple[Counted, ...], items, name)
    counters = [item.counter for item in found]
    growing = counters == sorted({*counters}) and all(0 < at <= MOST_COUNTER for at in counters)
    if not growing or len({item.version for item in found}) != len(found):
        raise ValueError(f"the counters of {name} do not grow, or a version is there twice")
    return found


def _taken(why: str) -> ProfileError:
    return ProfileError(
        why,
        code="E749",
        subject=NAME,
        hint=f"raise `version:`; or take the entry out of {NAME} if nobody ever got that release",
    )
