"""Canonical JSON and the digests made from it: the identity of everything in the store.

The form is RFC 8785's (sorted keys, no white space, UTF-8, shortest floats) with one difference:
numbers print as Python's ``repr`` does, because both sides are always this program.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20


def canonical(data: Any) -> bytes:
    """Return ``data`` (JSON data) as canonical bytes.

    Raises:
        ValueError: A float is NaN or infinite.
        TypeError: Something is not JSON data.
    """
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


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


def write_atomic(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` so that a reader, or a crash, sees the old or the new.

    Raises:
        OSError: The disk refuses; the old content stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable (fsync of the directory)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
