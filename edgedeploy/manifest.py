"""Canonical JSON and the digests made from it: the identity of everything in the store.

The form is RFC 8785's (sorted keys, no white space, UTF-8, shortest floats) with three
differences, because both sides are always this program: numbers print as Python's ``repr`` does,
keys sort by code point, and the lone surrogates by which Python writes file names that are not
UTF-8 are kept.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20
PART = ".part."


def canonical(data: Any) -> bytes:
    """Return ``data`` (JSON data) as canonical bytes.

    Raises:
        ValueError: A float is NaN or infinite.
        TypeError: Something is not JSON data.
    """
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8", "surrogatepass")


def digest(tag: str, data: Any) -> str:
    """Return the SHA-256 (64 hex digits) of ``data`` in the name space ``tag``."""
    return hashlib.sha256(tag.encode() + b"\n" + canonical(data)).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content (64 hex digits).

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(
    path: Path, content: bytes, *, scratch: Path | None = None, mode: int | None = None
) -> None:
    """Replace ``path`` by ``content`` so that a reader, or a crash, sees the old or the new.

    Args:
        path: The file.
        content: Its new content.
        scratch: Folder on the same file system for the unfinished file; else beside ``path``.
        mode: Of the file; else as the umask gives it.

    Raises:
        OSError: The disk refuses, or ``path`` is a device, a pipe or a socket; it stays as it is.
    """
    check_replaceable(path)
    part = (scratch or path.parent) / f"{PART}{os.getpid()}.{os.urandom(6).hex()}"
    try:
        with open(part, "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def check_replaceable(path: Path) -> None:
    """Refuse to put a file in the place of a device, a pipe or a socket: root could.

    Raises:
        OSError: It is one.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder the system refuses itself
            raise OSError(errno.EINVAL, "it is no regular file, and stays", str(path))


def sweep_parts(folder: Path) -> None:
    """Remove unfinished files and folders that processes no longer alive left in ``folder``."""
    for part in folder.glob(f"{PART}*"):
        if not process_lives(part.name.removeprefix(PART).partition(".")[0]):
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # somebody else's, in a folder of many
                    part.unlink()


def process_lives(pid: str) -> bool:
    """Whether a process of that number is alive on this machine; true if it cannot be told."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable (fsync of the directory)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync folders
            raise
    finally:
        os.close(descriptor)
