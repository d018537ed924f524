"""External tensor data: which file a model may name, and opening it without following links.

The rules close the known holes of ONNX loaders: parent paths (CVE-2022-25882, CVE-2024-27318),
symbolic and hard links (CVE-2026-27489, CVE-2026-34446, CVE-2026-34447), attribute injection by
unknown keys (CVE-2026-34445), and the in-memory markers of one runtime, which crash another.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.errors import ModelError

_KEYS = frozenset(("location", "offset", "length", "checksum"))
_NUMBER = re.compile(r"[0-9]{1,19}")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\:*]")
_RESAVE = "save the model again with its external data in one plain file beside it"


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a tensor's external bytes lie: a checked relative path and a byte range."""

    location: str
    offset: int
    length: int


def reference(pairs: Iterable[tuple[str, str]], tensor: str, nbytes: int) -> Reference:
    """Return the external data reference of a tensor, checked except for the file itself.

    Args:
        pairs: The tensor's ``external_data`` entries.
        tensor: Its name, for the message.
        nbytes: The bytes that its dims and element type take.

    Raises:
        ModelError: The location is not a plain relative path (E204), or a key or number is not
            allowed (E206).
    """
    entries: dict[str, str] = {}
    for key, value in pairs:
        if key not in _KEYS:
            raise ModelError(
                f"the external data of a tensor has the unknown key {key[:40]!r}",
                code="E206",
                subject=tensor,
                hint=_RESAVE,
            )
        if key in entries:
            raise ModelError(
                f"the external data of a tensor gives {key!r} twice",
                code="E206",
                subject=tensor,
                hint=_RESAVE,
            )
        entries[key] = value
    location = _checked_location(entries.get("location", ""), tensor)
    offset = _number(entries.get("offset", "0"), "offset", tensor)
    length = _number(entries.get("length", str(nbytes)), "length", tensor)
    if length != nbytes:
        raise ModelError(
            f"external data of {length} bytes does not fit the tensor, which takes {nbytes}",
            code="E207",
            subject=tensor,
            hint=_RESAVE,
        )
    return Reference(location, offset, length)


def _checked_location(location: str, tensor: str) -> str:
    parts = location.split("/")
    if (
        not location
        or len(location) > 1024
        or len(parts) > 16
        or _UNSAFE.search(location)
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise ModelError(
            f"the external data location {location[:80]!r} is not a plain relative path",
            code="E204",
            subject=tensor,
            hint=_RESAVE,
        )
    return location


def _number(text: str, key: str, tensor: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ModelError(
            f"the external data {key} {text[:40]!r} is not a whole number of bytes",
            code="E206",
            subject=tensor,
            hint=_RESAVE,
        )
    return int(text)


def check_ranges(references: Iterable[tuple[Reference, str]], sizes: dict[str, int]) -> None:
    """Check that all ranges lie in their files and that no two overlap.

    Args:
        references: References with their tensors' names.
        sizes: Size in bytes of every file by location.

    Raises:
        ModelError: E206 with the tensor.
    """
    used = [item for item in references if item[0].length]
    used.sort(key=lambda item: (item[0].location, item[0].offset))
    last_location, last_end, last_tensor = "", 0, ""
    for wanted, tensor in used:
        end = wanted.offset + wanted.length
        if end > sizes[wanted.location]:
            raise ModelError(
                f"external data at {wanted.offset}..{end} lies beyond the end of "
                f"{wanted.location} ({sizes[wanted.location]} bytes)",
                code="E206",
                subject=tensor,
                hint="fetch the whole external data file again; it may be cut off",
            )
        if wanted.location == last_location and wanted.offset < last_end:
            raise ModelError(
                f"the external data of this tensor overlaps that of {last_tensor!r}",
                code="E206",
                subject=tensor,
                hint=_RESAVE,
            )
        last_location, last_end, last_tensor = wanted.location, end, tensor


@contextmanager
def open_model(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """Open a model file for reading and yield the descriptor and its status.

    Raises:
        ModelError: It cannot be opened or is not a regular file (E200).
    """
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(
            f"the model file cannot be opened: {reason}",
            code="E200",
            subject=str(path),
            hint="check the path and its permissions",
        ) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(
                "the model is not a regular file",
                code="E200",
                subject=str(path),
                hint="name the .onnx file itself",
            )
        yield fd, status
    finally:
        os.close(fd)


@contextmanager
def open_external(folder: Path, location: str, tensor: str) -> Iterator[tuple[int, int]]:
    """Open an external data file below the model's folder; yield its descriptor and size.

    Every component is opened relative to the one before and no link is followed.

    Raises:
        ModelError: E205 with the tensor: a component is missing or a link, or the file is not
            regular or has a second name (hard link), which may lie outside of the folder.
    """
    fd = _open_below(folder, location, tensor)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _not_plain(location, tensor, "it is not a regular file")
        if status.st_nlink != 1:
            raise _not_plain(location, tensor, "it has more than one hard link")
        yield fd, status.st_size
    finally:
        os.close(fd)


def _open_below(folder: Path, location: str, tensor: str) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    *parents, name = location.split("/")
    try:
        at = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            for parent in parents:
                below = os.open(parent, flags | os.O_DIRECTORY, dir_fd=at)
                os.close(at)
                at = below
            # O_NONBLOCK: opening a FIFO must not wait for a writer.
            return os.open(name, flags | os.O_NONBLOCK, dir_fd=at)
        finally:
            os.close(at)
    except OSError as error:
        raise _not_plain(location, tensor, error.strerror or "it cannot be opened") from error


def _not_plain(location: str, tensor: str, reason: str) -> ModelError:
    return ModelError(
        f"the external data file {location!r} is refused: {reason}",
        code="E205",
        subject=tensor,
        hint="copy the model and its data as plain files into one folder of their own",
    )
