"""Digests of the user's files, remembered by stat values so that big files are hashed once."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgedeploy.events import EventLog, StoreHealed
from edgedeploy.manifest import PART, canonical, digest

# A file changed within this time of being looked at may change again with the same time stamp:
# coarse kernel time stamps tick every 4-10 ms.
RACY_NS = 100_000_000
# File systems with whole seconds (ext3, HFS+) or two (FAT) show them by a zero fraction.
RACY_COARSE_NS = 2_000_000_000
# A small file is hashed as fast as it is looked up, and a bounded memory stays fast to read.
SMALLEST_BYTES = 1 << 16
MAX_ENTRIES = 20_000

# What a build itself, or merely importing, adds to the user's folders.
_OUR_MARKS = frozenset({"__pycache__", "build", "edgedeploy.lock"})
ABSENT = ""

Mark = list[int]


def stat_mark(state: os.stat_result) -> Mark:
    """Return device, inode, size, modification and change time (ns): changes with the content."""
    return [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def settled(mark: Mark, looked_ns: int) -> bool:
    """Whether a file looked at then cannot have changed since without a new time stamp."""
    coarse = any(stamp % 1_000_000_000 == 0 for stamp in mark[3:])
    return mark[4] + (RACY_COARSE_NS if coarse else RACY_NS) < looked_ns


def listing_digest(folder: Path) -> str:
    """Return a digest of the names in a folder, ``ABSENT`` when it cannot be listed."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names, not paths
    except OSError:
        return ABSENT
    return digest("listing", sorted(name for name in names if name not in _OUR_MARKS))


class FileMemory:
    """The memory file; losing it, or an entry of it, only costs time.

    Args:
        path: The file.
        scratch: A folder on the same file system for unfinished files.
        events: Where a damaged memory is told.
    """

    def __init__(self, path: Path, scratch: Path, events: EventLog) -> None:
        self._path = path
        self._scratch = scratch
        self._events = events
        self._mutex = threading.Lock()
        self._read_at: Mark | None = None
        self._entries: dict[str, Any] = {}

    def digests(self, paths: Iterable[Path]) -> dict[Path, str]:
        """Return the SHA-256 of each file, from memory where its stat values are unchanged.

        Raises:
            OSError: A file cannot be read or is no regular file.
        """
        found: dict[Path, str] = {}
        new: dict[str, Any] = {}
        with self._mutex:
            self._read()
            entries = self._entries
        for path in paths:
            if path in found:
                continue
            place = os.path.abspath(path)  # noqa: PTH100 - links stay: what they show is looked at
            found[path], entry = _digest(path, entries.get(place))
            if entry is not None:
                new[place] = entry
        if new:
            with self._mutex:
                self._write(new)
        return found

    def _read(self) -> None:
        """Bring the entries up to date with the file."""
        try:
            mark = stat_mark(self._path.stat())
            if mark == self._read_at:
                return
            content = self._path.read_bytes()
        except OSError:
            self._read_at, self._entries = None, {}
            return
        head, _, body = content.partition(b"\n")
        self._read_at, self._entries = mark, {}
        try:
            if head.decode() != hashlib.sha256(body).hexdigest():
                raise ValueError("its content does not match its digest")
            data = json.loads(body)
            if data["schema"] != 1:
                raise ValueError("unknown schema")
            self._entries = data["files"]
        except (ValueError, TypeError, KeyError) as error:
            self._events.emit(StoreHealed(what=f"memory {self._path.name}", why=str(error)))
            self._path.unlink(missing_ok=True)

    def _write(self, new: dict[str, Any]) -> None:
        """Add entries; what another process wrote meanwhile is kept, the oldest are given up."""
        self._read()
        entries = {**self._entries, **new}
        if len(entries) > MAX_ENTRIES:
            newest = sorted(entries.items(), key=lambda item: -int(item[1][1]))
            entries = dict(newest[: MAX_ENTRIES // 2])
        self._entries = entries
        body = canonical({"schema": 1, "files": entries})
        part = self._scratch / f"{PART}{os.getpid()}.{os.urandom(6).hex()}"
        # No fsync: this memory may be lost. A full disk is met again by what matters.
        try:
            part.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            part.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()


def _digest(path: Path, known: Any) -> tuple[str, list[Any] | None]:
    """Return a file's digest and what to remember of it, None when there is nothing new."""
    looked_ns = time.time_ns()
    # Without O_NONBLOCK a pipe that nobody writes to would be waited for for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        mark = stat_mark(state)
        if known and known[0] == mark and settled(mark, known[1]):
            return str(known[2]), None
        with open(descriptor, "rb", closefd=False) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    finally:
        os.close(descriptor)
    if state.st_size < SMALLEST_BYTES or not settled(mark, looked_ns):
        return sha256, None
    return sha256, [mark, looked_ns, sha256]
