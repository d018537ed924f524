"""The file of a bundle: a zip archive with one possible form for a given content.

Members are stored, sorted by path, with one date, mode 0644, no extra fields, no comments, no data
descriptors: equal contents give equal bytes, whoever writes them. A reader takes that form and no
other, so that nothing can hide between members, behind them, or in a second directory that other
programs would read. Source: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.4; the Zip64 forms of
section 4.5.3 are used where a size or an offset asks for them.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgedeploy.errors import IntegrityError
from edgedeploy.release.content import Content, parts_of, size_of

CHUNK_BYTES = 1 << 20
MOST_MEMBERS = 20_000
MOST_PATH_BYTES = 1024

_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_CENTRAL = struct.Struct("<4sHHHHHHLLLHHHHHLL")
_END = struct.Struct("<4sHHHHLLH")
_END64 = struct.Struct("<4sQHHLLQQQQ")
_LOCATOR = struct.Struct("<4sLQL")
_STORED = 0
_UTF8 = 1 << 11
_DATE = (1 << 5) | 1  # 1 January 1980, the first day that the format knows
_VERSION, _VERSION64 = 20, 45
_MADE_BY = 3 << 8  # Unix, so that the mode means something
_MODE = 0o100644 << 16
_MOST32, _MOST16 = 0xFFFFFFFF, 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file in an archive.

    Attributes:
        path: Relative POSIX path.
        size: Bytes.
        crc: CRC-32 of the content.
        offset: Of the content in the archive.
    """

    path: str
    size: int
    crc: int
    offset: int


def write_archive(goal: Path, members: Mapping[str, Content]) -> None:
    """Write an archive; equal contents give equal bytes.

    Args:
        goal: The file; replaced when all is written and synced, untouched before.
        members: Content by relative POSIX path.

    Raises:
        OSError: A file cannot be read or the disk refuses.
    """
    part = goal.with_name(f".part.{os.getpid()}.{os.urandom(6).hex()}")
    try:
        with open(part, "wb") as file:
            written = [_write(file, path, members[path]) for path in sorted(members)]
            _write_directory(file, written)
            file.flush()
            os.fsync(file.fileno())
        part.replace(goal)
    finally:
        part.unlink(missing_ok=True)


def _write(file: BinaryIO, path: str, content: Content) -> Member:
    start = file.tell()
    size = size_of(content)
    name, extra = path.encode(), _sizes64(size)
    file.write(_local(name, size, 0, extra))
    offset, crc = file.tell(), 0
    for data in parts_of(content, path):
        crc = zlib.crc32(data, crc)
        file.write(data)
    end = file.tell()
    file.seek(start)
    file.write(_local(name, size, crc, extra))
    file.seek(end)
    return Member(path=path, size=size, crc=crc, offset=offset)


def _sizes64(size: int) -> bytes:
    """Return the Zip64 field of a local header, where the size needs one."""
    return struct.pack("<HHQQ", 1, 16, size, size) if size >= _MOST32 else b""


def _local(name: bytes, size: int, crc: int, extra: bytes) -> bytes:
    shown = _MOST32 if extra else size
    version = _VERSION64 if extra else _VERSION
    head = _LOCAL.pack(
        b"PK\x03\x04", version, _UTF8, _STORED, 0, _DATE, crc, shown, shown, len(name), len(extra)
    )
    return head + name + extra


def _central(member: Member) -> bytes:
    name = member.path.encode()
    start = member.offset - _LOCAL.size - len(name) - len(_sizes64(member.size))
    wide = b""
    if member.size >= _MOST32:
        wide += struct.pack("<QQ", member.size, member.size)
    if start >= _MOST32:
        wide += struct.pack("<Q", start)
    extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
    size = min(member.size, _MOST32)
    version = _VERSION64 if wide else _VERSION
    head = _CENTRAL.pack(
        b"PK\x01\x02",
        _MADE_BY | version,
        version,
        _UTF8,
        _STORED,
        0,
        _DATE,
        member.crc,
        size,
        size,
        len(name),
        len(extra),
        0,
        0,
        0,
        _MODE,
        min(start, _MOST32),
    )
    return head + name + extra


def _directory(members: list[Member], at: int) -> bytes:
    """Return the central directory and what ends the archive."""
    entries = b"".join(map(_central, members))
    end = b""
    count, size = len(members), len(entries)
    if count >= _MOST16 or at >= _MOST32 or size >= _MOST32:
        end += _END64.pack(
            b"PK\x06\x06", 44, _MADE_BY | _VERSION64, _VERSION64, 0, 0, count, count, size, at
        )
        end += _LOCATOR.pack(b"PK\x06\x07", 0, at + size, 1)
    shown = min(count, _MOST16)
    end += _END.pack(b"PK\x05\x06", 0, 0, shown, shown, min(size, _MOST32), min(at, _MOST32), 0)
    return entries + end


def _write_directory(file: BinaryIO, members: list[Member]) -> None:
    file.write(_directory(members, file.tell()))


def read_members(file: BinaryIO) -> dict[str, Member]:
    """Return the members of an archive by path, if it has the one form that we write.

    Every byte outside of the contents is compared with what would have been written.

    Args:
        file: Open for reading, seekable, from anywhere.

    Raises:
        IntegrityError: It has any other form (E731).
        OSError: It cannot be read.
    """
    end = file.seek(0, os.SEEK_END)
    at = 0
    found: list[Member] = []
    while True:
        file.seek(at)
        head = file.read(_LOCAL.size)
        if head[:4] != b"PK\x03\x04" or len(head) != _LOCAL.size:
            break
        if len(found) >= MOST_MEMBERS:
            raise _bad(f"it has more than {MOST_MEMBERS} members")
        found.append(_member(file, at, head, end))
        at = found[-1].offset + found[-1].size
    paths = [member.path for member in found]
    if paths != sorted(set(paths)):
        raise _bad("its members are not sorted, or one is there twice")
    wanted = _directory(found, at)
    file.seek(at)
    if file.read(len(wanted) + 1) != wanted or at + len(wanted) != end:
        raise _bad("its directory is not that of its members, or something follows it")
    return {member.path: member for member in found}


def _member(file: BinaryIO, at: int, head: bytes, end: int) -> Member:
    *_, crc, _, size, name_bytes, extra_bytes = _LOCAL.unpack(head)
    if not 0 < name_bytes <= MOST_PATH_BYTES or extra_bytes not in (0, 20):
        raise _bad(f"the header at byte {at} is not one of ours")
    name, extra = file.read(name_bytes), file.read(extra_bytes)
    if extra:
        size = int.from_bytes(extra[4:12], "little")
    try:
        path = name.decode()
    except UnicodeDecodeError:
        raise _bad(f"the name at byte {at} is not UTF-8") from None
    if head + name + extra != _local(name, size, crc, _sizes64(size)):
        raise _bad("its header is not one of ours", path)
    offset = at + len(head) + name_bytes + extra_bytes
    if offset + size > end:
        raise _bad("it is cut off", path)
    return Member(path=path, size=size, crc=crc, offset=offset)


def read_member(file: BinaryIO, member: Member, limit_bytes: int) -> bytes:
    """Return the content of a small member.

    Raises:
        IntegrityError: It is larger than ``limit_bytes`` (E731), or as :func:`read_parts`.
        OSError: It cannot be read.
    """
    if member.size > limit_bytes:
        raise _bad(f"it has {member.size} bytes, more than {limit_bytes}", member.path)
    return b"".join(read_parts(file, member))


def read_parts(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """Yield the content of a member in parts; who uses them checks the digest.

    Raises:
        IntegrityError: It ends early (E731), or has another CRC (E735): other programs that read
            archives would refuse what we take.
        OSError: It cannot be read.
    """
    left, crc = member.size, 0
    file.seek(member.offset)
    while left:
        data = file.read(min(left, CHUNK_BYTES))
        if not data:
            raise _bad("it is cut off", member.path)
        crc, left = zlib.crc32(data, crc), left - len(data)
        yield data
    if crc != member.crc:
        raise damaged(member.path, "its content is another")


def damaged(path: str, why: str) -> IntegrityError:
    """Return the refusal of a bundle for one of its files (E735)."""
    return IntegrityError(
        f"{path!r:.160}: {why}",
        code="E735",
        subject=path[:160],
        hint="the bundle was changed or damaged: get it again from where it was published",
    )


def _bad(why: str, path: str = "") -> IntegrityError:
    place = f"{path!r:.160}: " if path else ""
    return IntegrityError(
        f"this is no bundle as edgedeploy writes them: {place}{why}",
        code="E731",
        subject=path[:160] or None,
        hint="it is damaged, or something else wrote it: get it again from where it was published",
    )
