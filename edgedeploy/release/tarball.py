"""Tar archives with one possible form for a given content, plain or in a gzip file.

Members are sorted by path, owned by root, with one date and no other attributes: POSIX.1-2001
(``pax``), whose extended headers appear only where a name or a size asks for them. A gzip file
holds its content stored, not compressed: what a compressor makes of the same bytes depends on its
version, and models are dense already. Sources: POSIX.1-2017, ``pax``; RFC 1951, 3.2.4; RFC 1952.
"""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.release.content import Content, parts_of, size_of

DATE = 315532800
"""1 January 1980, UTC: the date of our zip archives; GNU tar warns of the first day of 1970."""

_BLOCK = 512
_GZIP_HEAD = b"\x1f\x8b\x08" + bytes(6) + b"\xff"  # deflate, no name, no date, unknown system
_MOST_STORED = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file, folder or symbolic link in an archive.

    Attributes:
        path: Relative POSIX path; a leading ``./`` stays.
        content: Of a file; None for a folder or a link.
        link: What a link says; empty for a file or folder.
        executable: Whether a file may be run.
    """

    path: str
    content: Content | None = None
    link: str = ""
    executable: bool = False


def folders_to(paths: Iterable[str]) -> list[Entry]:
    """Return entries for every folder that some paths go through."""
    found = {
        path[:at] for path in paths for at, letter in enumerate(path) if letter == "/" and at > 0
    }
    return [Entry(path=path) for path in sorted(found)]


def tar_parts(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield an archive; equal entries, in any order, give equal bytes.

    Args:
        entries: Its members, each path once.

    Raises:
        OSError: A file cannot be read.
    """
    for entry in sorted(entries, key=lambda entry: entry.path):
        yield _header(entry)
        if entry.content is not None:
            yield from parts_of(entry.content, entry.path)
            yield bytes(-size_of(entry.content) % _BLOCK)
    yield bytes(2 * _BLOCK)


def _header(entry: Entry) -> bytes:
    info = tarfile.TarInfo(entry.path)
    info.mtime, info.uname, info.gname = DATE, "root", "root"
    info.mode = 0o755 if entry.executable else 0o644
    if entry.content is not None:
        info.size = size_of(entry.content)
    elif entry.link:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
    else:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def gzip_parts(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a gzip file that holds the joined parts, stored."""
    crc, size, rest = 0, 0, b""
    yield _GZIP_HEAD
    for part in parts:
        crc, size = zlib.crc32(part, crc), size + len(part)
        rest += part
        # Cut by position alone: how the parts were cut must not show.
        whole = len(rest) - len(rest) % _MOST_STORED
        for at in range(0, whole, _MOST_STORED):
            yield _stored(rest[at : at + _MOST_STORED], last=False)
        rest = rest[whole:]
    yield _stored(rest, last=True)
    yield struct.pack("<LL", crc, size & 0xFFFFFFFF)


def _stored(data: bytes, *, last: bool) -> bytes:
    return struct.pack("<BHH", last, len(data), len(data) ^ _MOST_STORED) + data


def write_tar(goal: Path, entries: Iterable[Entry], *, gzip: bool = False) -> None:
    """Write an archive into a new file.

    Args:
        goal: The file; its folder exists.
        entries: As for :func:`tar_parts`.
        gzip: Inside a gzip file.

    Raises:
        OSError: A file cannot be read or the disk refuses.
    """
    parts = tar_parts(entries)
    with open(goal, "xb") as file:
        file.writelines(gzip_parts(parts) if gzip else parts)
