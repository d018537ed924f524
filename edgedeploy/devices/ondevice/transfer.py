# Runs on devices: Python 3.6, standard library alone.
"""Streams that come in, and objects that are put together of them and of other objects."""

import contextlib
import hashlib
import os
import stat
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from edgedeploy.devices.ondevice import disk
from edgedeploy.devices.ondevice.disk import RefusalError, progress
from edgedeploy.devices.ondevice.layout import HEX, object_path
from edgedeploy.devices.ondevice.lock import Lock

FRAME_BYTES = 4 << 20

Part = NamedTuple("Part", [("source", Optional[str]), ("offset", int), ("length", int)])


def part_path(stream: str) -> str:
    """Return where a stream's bytes are kept until they are needed."""
    return "incoming/%s.part" % stream


def incoming(stream: str) -> Tuple[int, List[str]]:
    """Return how many bytes of a stream are here, and the digest of each frame of them."""
    path = part_path(stream)
    if not disk.kind(path):
        return 0, []
    descriptor = disk.open_file(path)
    try:
        with disk.told_as(path):
            length = os.fstat(descriptor).st_size
            starts = range(0, length, FRAME_BYTES)
            return length, [disk.hash_range(descriptor, at, FRAME_BYTES) for at in starts]
    finally:
        os.close(descriptor)


class Receiver:
    """An incoming stream that is written."""

    def __init__(self, stream: str, offset: int, total: Optional[int]) -> None:
        """Cut the stream to ``offset`` bytes, when the device has room for ``total`` of them."""
        path = part_path(stream)
        _reopen(path)
        length = os.lstat(path).st_size if disk.kind(path) == "file" else 0
        if offset % FRAME_BYTES or offset > length:
            raise RefusalError("E432", "%s holds %d bytes, not %d" % (path, length, offset))
        if total is not None:
            disk.need_bytes(total - offset, "the rest of %s" % path)
        self._path = path
        self._unsynced = 0
        self._descriptor = disk.open_file(path, os.O_WRONLY | os.O_CREAT)
        self.length = offset
        with disk.told_as(path):
            os.ftruncate(self._descriptor, offset)
            os.lseek(self._descriptor, offset, os.SEEK_SET)

    def write(self, frame: Any) -> int:
        """Append a frame; return the length of the stream. After a failure it ends before it."""
        try:
            with disk.told_as(self._path):
                disk.write_all(self._descriptor, frame)
                self._unsynced += len(frame)
                if self._unsynced >= disk.SYNC_BYTES:
                    os.fsync(self._descriptor)
                    self._unsynced = 0
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.length)
            raise
        self.length += len(frame)
        return self.length

    def close(self) -> None:
        """End the writing; the bytes stay."""
        os.close(self._descriptor)


def _reopen(path: str) -> None:
    """Let a stream be written to that was about to become an object when its agent died."""
    if disk.kind(path) == "file" and not os.lstat(path).st_mode & stat.S_IWUSR:
        os.chmod(path, 0o600)


def assemble(lock: Lock, sha256: str, size: int, stream: Optional[str], parts: List[Part]) -> None:
    """Put an object together of parts, check it, and make it durable under its name.

    Raises:
        RefusalError: The result is not its digest (E720), a source is not there or shorter (E433),
            there is no room (E423), or the lock is not held (E422).
    """
    lock.check()
    goal = object_path(sha256)
    if disk.kind(goal) == "file" and os.lstat(goal).st_size == size:
        _make_room_for(goal)
        disk.sync_folder(os.path.dirname(goal))
    else:
        _check_parts(size, stream, parts)
        _make_room_for(goal)
        if stream is not None and _is_all_of(stream, size, parts):
            _adopt(lock, part_path(stream), goal, sha256)
        else:
            _copy(lock, goal, sha256, size, stream, parts)
    if stream is not None:
        disk.remove(part_path(stream))


def _check_parts(size: int, stream: Optional[str], parts: List[Part]) -> None:
    lengths: Dict[str, int] = {}
    for part in parts:
        path = _source(stream, part)
        if path not in lengths:
            if disk.kind(path) != "file":
                raise RefusalError("E433", "%s is not there" % path)
            lengths[path] = os.lstat(path).st_size
        if part.offset + part.length > lengths[path]:
            raise RefusalError("E433", "%s is shorter than its recipe says" % path)
    if sum(part.length for part in parts) != size:
        raise RefusalError("E433", "the parts are not as long as the object")


def _source(stream: Optional[str], part: Part) -> str:
    if part.source is not None:
        return object_path(part.source)
    if stream is None:
        raise RefusalError("E433", "a part is of a stream that is not named")
    return part_path(stream)


def _make_room_for(goal: str) -> None:
    folder = os.path.dirname(goal)
    if disk.kind(folder) != "folder":
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
        disk.sync_folder("objects")


def _is_all_of(stream: str, size: int, parts: List[Part]) -> bool:
    """Whether the object is the stream as it came: then it need not be copied."""
    at = 0
    for part in parts:
        if part.source is not None or part.offset != at:
            return False
        at += part.length
    return at == size == os.lstat(part_path(stream)).st_size


def _adopt(lock: Lock, path: str, goal: str, sha256: str) -> None:
    descriptor = disk.open_file(path)
    try:
        with disk.told_as(path):
            if disk.hash_range(descriptor, 0, os.fstat(descriptor).st_size) != sha256:
                disk.remove(path)
                raise RefusalError("E720", "the bytes that came for %s are not it" % sha256)
            os.fchmod(descriptor, 0o444)
            os.fsync(descriptor)
        _name(lock, path, goal)
    finally:
        os.close(descriptor)


def _copy(
    lock: Lock, goal: str, sha256: str, size: int, stream: Optional[str], parts: List[Part]
) -> None:
    disk.need_bytes(size, goal)
    path = "tmp/" + disk.random_name()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        with disk.told_as(path):
            made = hashlib.sha256()
            unsynced = 0
            for data in _bytes_of(stream, parts):
                made.update(data)
                disk.write_all(descriptor, data)
                unsynced += len(data)
                if unsynced >= disk.SYNC_BYTES:
                    os.fsync(descriptor)
                    unsynced = 0
                progress(len(data))
            if made.hexdigest() != sha256:
                _blame(stream, {part.source for part in parts if part.source is not None})
                raise RefusalError("E720", "what was put together for %s is not it" % sha256)
            os.fchmod(descriptor, 0o444)
            os.fsync(descriptor)
        _name(lock, path, goal)
    except BaseException:
        disk.remove(path)
        raise
    finally:
        os.close(descriptor)


def _bytes_of(stream: Optional[str], parts: List[Part]) -> Iterable[bytes]:
    """Yield the parts' bytes; a source stays open while parts of it follow one another."""
    path, descriptor = "", -1
    try:
        for part in parts:
            if _source(stream, part) != path:
                if descriptor >= 0:
                    os.close(descriptor)
                    descriptor = -1
                path = _source(stream, part)
                descriptor = disk.open_file(path)
            at, end = part.offset, part.offset + part.length
            while at < end:
                data = os.pread(descriptor, min(disk.CHUNK_BYTES, end - at), at)
                if not data:
                    raise RefusalError("E433", "%s got shorter" % path)
                at += len(data)
                yield data
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _name(lock: Lock, path: str, goal: str) -> None:
    """Give a synced file its name; without a durable name it has none."""
    lock.check()
    os.rename(path, goal)
    try:
        disk.sync_folder(os.path.dirname(goal))
    except OSError:
        disk.remove(goal)
        raise


def _blame(stream: Optional[str], sources: Set[str]) -> None:
    """Take away what made a wrong object: the stream, and the objects that are not their names."""
    if stream is not None:
        disk.remove(part_path(stream))
    for source in sorted(sources):
        if disk.hash_file(object_path(source)) != source:
            disk.remove(object_path(source))


def streams() -> List[str]:
    """Return the names of all incoming streams."""
    names = [name[:-5] for name in os.listdir("incoming") if name.endswith(".part")]
    return sorted(name for name in names if HEX.match(name))
