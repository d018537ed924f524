"""Knowing that nothing changed since the last build by looking at stat values alone.

The long way (profile, keys, records, digests) gives the same answer; this one reads no content.
A snapshot lists every file and folder that a build depended on or wrote, with device, inode,
size and times. If all are as they were, the build would be all hits. If anything differs, or may
have changed within one tick of the clock, the long way decides.

A build that ends does not know what changed behind its back while it ran. So the stat values are
taken first, then everything is looked at once more by content, then they are taken again: what
was the same both times had the content that was looked at in between.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FORMAT = 2
SUFFIX = ".fresh"
# Time stamps of the kernel tick every 4-10 ms; a change within one tick leaves no trace.
TICK_NS = 100_000_000

Mark = list[int]


def snapshot_path(store: Path, request: Mapping[str, Any]) -> Path:
    """Return where the snapshot of a request lies.

    Args:
        store: The store's folder.
        request: Everything that the command line says, JSON data with absolute paths.
    """
    name = json.dumps({**request, **_surroundings()}, sort_keys=True)
    return store / "memory" / f"{hashlib.sha256(name.encode()).hexdigest()}{SUFFIX}"


def _surroundings() -> dict[str, Any]:
    """Return what else decides: the interpreter, and where it and we look for things."""
    names = ("EDGEDEPLOY_TARGET_PATH", "EDGEDEPLOY_DEVICES", "XDG_CONFIG_HOME", "HOME")
    return {
        "format": FORMAT,
        "python": [sys.executable, sys.version],
        "path": sys.path,
        "folder": str(Path.cwd()),
        "machine": os.uname()[:5],
        "environment": {name: os.environ.get(name) for name in names},
    }


def still_fresh(path: Path) -> dict[str, Any] | None:
    """Return what was kept of the build that the snapshot is of, None unless all is unchanged.

    The results in the store count as used: cleaning takes the longest unused first.
    """
    try:
        with open(path, "rb") as file:
            known = json.load(file)
        marks: dict[str, Mark | None] = known["marks"]
        if any(_mark(place) != mark for place, mark in marks.items()):
            return None
        for record in known["uses"]:
            os.utime(record)  # one that is gone was cleaned away
        kept: dict[str, Any] = known["kept"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return kept


def take(
    path: Path,
    places: Sequence[Path],
    uses: Sequence[Path],
    confirmed: Callable[[], bool],
    kept: Mapping[str, Any],
    scratch: Path,
) -> None:
    """Write a snapshot; a disk that refuses costs only the shortcut.

    Args:
        path: From :func:`snapshot_path`.
        places: Files and folders; those that are not there are noted as absent.
        uses: Records in the store that the build used.
        confirmed: Looks at the content of everything once more and says whether it is what the
            build used and wrote; without that, no snapshot is taken.
        kept: What to return when all is still unchanged, JSON data.
        scratch: Folder on the same file system for the unfinished file.
    """
    from edgedeploy.filememory import settled
    from edgedeploy.manifest import write_atomic

    marks = {str(place): _mark(place) for place in places}
    if not confirmed():
        return
    newest = max((max(mark[3:]) for mark in marks.values() if mark), default=0)
    # What was written just now could be changed again without leaving a trace: let a tick pass.
    time.sleep(max(0.0, min(TICK_NS, newest + TICK_NS - time.time_ns()) / 1e9))
    looked_ns = time.time_ns() + 1
    if {str(place): _mark(place) for place in places} != marks:
        return
    if not all(settled(mark, looked_ns) for mark in marks.values() if mark):
        return  # a file system with coarse time stamps: a later build will take one
    data = {"kept": dict(kept), "marks": marks, "uses": [str(place) for place in uses]}
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomic(path, json.dumps(data).encode(), scratch=scratch)


def below(folder: Path, suffixes: Sequence[str] = ()) -> list[Path]:
    """Return a folder, its subfolders, and its files (only those with one of ``suffixes``)."""
    found = [folder]
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        found += [Path(base, name) for name in folders]
        kept = [name for name in names if not suffixes or name.endswith(tuple(suffixes))]
        found += [Path(base, name) for name in kept]
    return found


def _mark(place: str | Path) -> Mark | None:
    """Return device, inode, size, modification and change time (ns); None when it is absent.

    A folder's times change when a name in it appears or goes; its size says nothing.
    """
    try:
        state = os.stat(place)  # noqa: PTH116 - called for some hundred places, must be quick
    except OSError:
        return None
    size = 0 if stat.S_ISDIR(state.st_mode) else state.st_size
    return [state.st_dev, state.st_ino, size, state.st_mtime_ns, state.st_ctime_ns]
