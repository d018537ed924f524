"""A tree: the files of one output of a stage, with their digests."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.manifest import CHUNK_BYTES, digest

MAX_FILES = 100_000
MAX_DEPTH = 64
SEGMENT_BYTES = 1024
"""Tensors smaller than this get no segment of their own: a digest costs a tenth of that."""


class UnfitTreeError(ValueError):
    """A folder holds something that cannot be kept as a tree; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a file that may be shared with other files, such as one tensor's bytes."""

    offset: int
    length: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a tree.

    Attributes:
        path: Relative POSIX path.
        size: Bytes.
        sha256: Digest of the whole content; this is the file's identity.
        segments: The parts, in order and covering the file; empty means the file is one part.
    """

    path: str
    size: int
    sha256: str
    segments: tuple[Segment, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON data."""
        data: dict[str, Any] = {"path": self.path, "size": self.size, "sha256": self.sha256}
        if self.segments:
            data["segments"] = [[part.offset, part.length, part.sha256] for part in self.segments]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FileEntry:
        """Return the entry that :meth:`to_json` wrote."""
        return cls(
            path=data["path"],
            size=data["size"],
            sha256=data["sha256"],
            segments=tuple(
                Segment(offset=part[0], length=part[1], sha256=part[2])
                for part in data.get("segments", ())
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files of one output, sorted by path; its digest is its name in the store."""

    files: tuple[FileEntry, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over paths, sizes and file digests (segments are an index, not identity)."""
        return digest("tree", [[file.path, file.size, file.sha256] for file in self.files])

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def file(self, path: str) -> FileEntry:
        """Return the entry of ``path``.

        Raises:
            KeyError: There is no such file.
        """
        for entry in self.files:
            if entry.path == path:
                return entry
        raise KeyError(path)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the tree as JSON data."""
        return [file.to_json() for file in self.files]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]]) -> Tree:
        """Return the tree that :meth:`to_json` wrote."""
        return cls(files=tuple(FileEntry.from_json(item) for item in data))


def settle_tree(folder: Path) -> None:
    """Bring a folder into the form in which trees are kept.

    Files get mode 0444 and folders 0755, whatever umask the writer had; empty folders go, because
    a tree is its files. Nothing may be writing to the folder any more.

    Raises:
        UnfitTreeError: It holds a link, a special file, a file with a second name elsewhere, a
            name that is not UTF-8, too many files or levels, or is no folder at all.
        OSError: The disk refuses.
    """
    if not stat.S_ISDIR(_mode(folder)):
        raise UnfitTreeError("the output folder itself was removed or replaced")
    folder.chmod(0o755)
    _settle(folder, "", 0)


def _settle(folder: Path, prefix: str, count: int) -> int:
    """Settle what is in ``folder``; return the number of files seen so far."""
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names, not paths
        path, shown = folder / name, f"{prefix}{name}"
        state = path.lstat()
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UnfitTreeError(f"{shown!a} is no UTF-8 file name")
        if stat.S_ISDIR(state.st_mode):
            if prefix.count("/") >= MAX_DEPTH:
                raise UnfitTreeError(f"there are folders more than {MAX_DEPTH} deep")
            path.chmod(0o755)
            before = count
            count = _settle(path, f"{shown}/", count)
            if count == before:
                path.rmdir()
            continue
        if not stat.S_ISREG(state.st_mode):
            raise UnfitTreeError(f"{shown} is not a regular file")
        if state.st_nlink != 1:
            raise UnfitTreeError(f"{shown} is a hard link to a file elsewhere")
        count += 1
        if count > MAX_FILES:
            raise UnfitTreeError(f"there are more than {MAX_FILES} files")
        path.chmod(0o444)
    return count


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def scan_tree(
    folder: Path, segments: Mapping[str, Sequence[tuple[int, int]]] | None = None
) -> Tree:
    """Hash every regular file below ``folder``.

    Args:
        folder: The tree's root.
        segments: Relative path -> ``(offset, length)`` cuts; gaps become segments of their own.

    Raises:
        OSError: A file or folder cannot be read.
        UnfitTreeError: The folder holds something that is neither a regular file nor a folder.
    """
    entries = []
    for base, folders, names in os.walk(folder, onerror=_refuse):
        for name in (*folders, *names):
            path = Path(base, name)
            mode = _mode(path)
            if stat.S_ISDIR(mode):
                continue
            relative = path.relative_to(folder).as_posix()
            if not stat.S_ISREG(mode):
                raise UnfitTreeError(f"{relative} is not a regular file")
            entries.append(_hash_file(path, relative, (segments or {}).get(relative, ())))
    return Tree(files=tuple(sorted(entries, key=lambda entry: entry.path)))


def _refuse(error: OSError) -> None:
    """Let a folder that cannot be listed be an error; ``os.walk`` would pass over it."""
    raise error


def _hash_file(path: Path, relative: str, cuts: Sequence[tuple[int, int]]) -> FileEntry:
    """Hash a file whole and by its segments in one reading."""
    size = path.stat().st_size
    whole = hashlib.sha256()
    parts: list[Segment] = []
    with open(path, "rb") as file:
        for offset, length in _cover(cuts, size):
            part = hashlib.sha256()
            left = length
            while left:
                chunk = file.read(min(CHUNK_BYTES, left))
                if not chunk:
                    raise OSError(f"{path} became shorter while it was read")
                whole.update(chunk)
                part.update(chunk)
                left -= len(chunk)
            parts.append(Segment(offset=offset, length=length, sha256=part.hexdigest()))
    return FileEntry(
        path=relative,
        size=size,
        sha256=whole.hexdigest(),
        segments=tuple(parts) if len(parts) > 1 else (),
    )


def _cover(cuts: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return ranges that cover ``0..size``: the cuts that fit in order, and what lies between."""
    ranges: list[tuple[int, int]] = []
    at = 0
    for offset, length in sorted(cuts):
        if offset < at or length <= 0 or offset + length > size:
            continue
        if offset > at:
            ranges.append((at, offset - at))
        ranges.append((offset, length))
        at = offset + length
    if at < size:
        ranges.append((at, size - at))
    return ranges
