# Runs on devices: Python 3.6, standard library alone.
"""What every change on the device's disk is made of: checked opens, syncs, links by rename."""

import binascii
import contextlib
import errno
import hashlib
import json
import os
import stat
import threading
from typing import Any, Callable, Dict, Optional

CHUNK_BYTES = 1 << 20
SYNC_BYTES = 64 << 20
"""A long write is synced so often: its end does not stall, and progress is seen."""


class RefusalError(Exception):
    """An answer that is no.

    Attributes:
        code: Diagnostic code; the host knows its meaning.
        message: What is wrong, with names and numbers.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class GoneError(Exception):
    """Nobody listens any more: what is going on is left as it is."""


class Progress:
    """Bytes that were worked on, told to the host; and whether it still listens."""

    def __init__(self) -> None:
        self.done = 0
        self.gone = threading.Event()

    def __call__(self, count: int) -> None:
        """Count bytes.

        Raises:
            GoneError: The host is gone.
        """
        self.done += count
        if self.gone.is_set():
            raise GoneError


progress = Progress()


def refusal(error: OSError) -> RefusalError:
    """Return what an error of the file system means: E423 when it is full, else E424."""
    name = error.filename if isinstance(error.filename, str) else "the depot"
    said = "%s: %s" % (name, error.strerror or error)
    if error.errno != errno.ENOSPC:
        symbol = errno.errorcode.get(error.errno or 0, "")
        return RefusalError("E424", "%s (%s)" % (said, symbol) if symbol else said)
    with contextlib.suppress(OSError):
        room = os.statvfs(".")
        if room.f_files and not room.f_favail:
            return RefusalError("E423", said + " (no inode is free)")
        said += " (%d bytes are free)" % (room.f_bavail * room.f_frsize)
    return RefusalError("E423", said)


def free_bytes() -> int:
    """Return the free space of the depot's file system for this user."""
    room = os.statvfs(".")
    return room.f_bavail * room.f_frsize


def need_bytes(count: int, what: str) -> None:
    """Refuse (E423) what cannot fit, before any of it is written."""
    free = free_bytes()
    if count > free:
        raise RefusalError("E423", "%s needs %d bytes, %d are free" % (what, count, free))


def random_name() -> str:
    """Return 16 hex digits that nobody else has."""
    return binascii.hexlify(os.urandom(8)).decode()


def kind(path: str) -> str:
    """Return what a name is: ``file``, ``folder``, ``link`` or ``other``; empty when not there.

    A link is not followed.
    """
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def open_file(path: str, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor of a plain file; links and pipes in its place are refused (E429)."""
    found = kind(path)
    if found not in ("", "file"):
        raise RefusalError("E429", "%s is no plain file (%s)" % (path, found))
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def read_file(path: str, limit: int) -> bytes:
    """Return the content of a small plain file, at most ``limit`` bytes of it."""
    descriptor = open_file(path)
    try:
        found = b""
        while len(found) < limit:
            data = os.read(descriptor, min(CHUNK_BYTES, limit - len(found)))
            if not data:
                break
            found += data
        return found
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: Any) -> None:
    """Write all of ``data``."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync folders
            error.filename = path
            raise
    finally:
        os.close(descriptor)


def write_new(path: str, content: bytes, mode: int) -> None:
    """Make a file durable under a new name; its folder is not synced. Nothing stays on failure."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        with told_as(path):
            write_all(descriptor, content)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
    except BaseException:
        remove(path)
        raise
    finally:
        os.close(descriptor)


def replace(path: str, content: bytes, mode: int, allowed: Callable[[], None]) -> None:
    """Replace a file by durable content; the folder that holds it is not synced."""
    part = "tmp/" + random_name()
    write_new(part, content, mode)
    try:
        allowed()
        os.rename(part, path)
    except BaseException:
        remove(part)
        raise


def point(name: str, goal: str, allowed: Callable[[], None]) -> None:
    """Make or replace a link in one step, and make it durable."""
    part = "tmp/" + random_name()
    os.symlink(goal, part)
    try:
        allowed()
        os.rename(part, name)
    except BaseException:
        remove(part)
        raise
    sync_folder(".")


def remove(path: str) -> None:
    """Remove a file or link; nothing to do when it is not there or the disk refuses."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def remove_tree(path: str) -> None:
    """Remove a file, a link or a folder with all that it holds; links are not followed."""
    if kind(path) != "folder":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    for name in os.listdir(path):
        remove_tree(path + "/" + name)
    os.rmdir(path)


class told_as:
    """Give errors of a descriptor the name of its file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: Any, error: Optional[BaseException], __: Any) -> None:
        """Name the file in an OSError that names none."""
        if isinstance(error, OSError) and error.filename is None:
            error.filename = self._path


def hash_range(descriptor: int, offset: int, length: int) -> str:
    """Return the SHA-256 of a range of an open file (shorter where the file ends)."""
    made = hashlib.sha256()
    while length > 0:
        data = os.pread(descriptor, min(CHUNK_BYTES, length), offset)
        if not data:
            break
        made.update(data)
        offset += len(data)
        length -= len(data)
        progress(len(data))
    return made.hexdigest()


def hash_file(path: str) -> str:
    """Return the SHA-256 of a plain file."""
    descriptor = open_file(path)
    try:
        with told_as(path):
            return hash_range(descriptor, 0, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def one_line(data: Dict[str, Any]) -> bytes:
    """Return JSON on one line that a shell can take apart: sorted keys, no spaces, ASCII."""
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def parsed(content: bytes) -> Optional[Dict[str, Any]]:
    """Return the JSON object in ``content``, None when there is none."""
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
