"""What travels of a local file, in frames: read when they are sent, hashed when compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from edgedeploy.devices.depot import FRAME_BYTES, Incoming
from edgedeploy.devices.difference import Missing
from edgedeploy.disk import disk_errors
from edgedeploy.errors import StoreError


class Stream:
    """The ranges of a local file that a device lacks, one after the other.

    Args:
        item: What is missing.
        path: The local file, of the content that ``item.file`` says.

    Attributes:
        length: Bytes.
        sent: Bytes that were read to be sent, resumed ones not counted.
    """

    def __init__(self, item: Missing, path: Path) -> None:
        self._ranges = item.ranges
        self._path = path
        self._whole = item.file.sha256 if item.stream_bytes == item.file.size else None
        self._name: str | None = None
        self.length = item.stream_bytes
        self.sent = 0

    def name(self) -> str:
        """Return the SHA-256 of all of it (64 hex digits); reads it unless it is a whole file.

        Raises:
            StoreError: The file cannot be read, or is became shorter (E437, E602).
        """
        if self._whole is not None:
            return self._whole
        if self._name is None:
            whole = hashlib.sha256()
            for frame in self._read(0):
                whole.update(frame)
            self._name = whole.hexdigest()
        return self._name

    def start(self, held: Incoming) -> int:
        """Return from where on it must be sent: the end of the last frame that is right there.

        Args:
            held: What the device has of it.

        Raises:
            StoreError: As :meth:`name`.
        """
        right = 0
        for frame, there in zip(self._read(0), held.frames, strict=False):
            end = right + len(frame)
            if end > held.length or hashlib.sha256(frame).hexdigest() != there:
                break
            right = end
        # The last frame is short; it is right only as the end of a stream of the right length.
        if right == self.length == held.length:
            return right
        return right // FRAME_BYTES * FRAME_BYTES

    def frames(self, start: int) -> Iterator[bytes]:
        """Yield the frames from ``start`` on, a multiple of ``FRAME_BYTES``.

        Raises:
            StoreError: As :meth:`name`.
        """
        for frame in self._read(start):
            self.sent += len(frame)
            yield frame

    def _read(self, start: int) -> Iterator[bytes]:
        """Yield frames; a frame may hold the end of one range and the start of others."""
        frame = bytearray()
        with disk_errors("cannot read what is to be pushed"), open(self._path, "rb") as file:
            for offset, length in self._ranges:
                if start >= length:
                    start -= length
                    continue
                file.seek(offset + start)
                left, start = length - start, 0
                while left:
                    data = file.read(min(left, FRAME_BYTES - len(frame)))
                    if not data:
                        raise _shorter(self._path)
                    left -= len(data)
                    if not frame and len(data) == FRAME_BYTES:
                        yield data
                        continue
                    frame += data
                    if len(frame) == FRAME_BYTES:
                        yield bytes(frame)
                        frame.clear()
        if frame:
            yield bytes(frame)


def _shorter(path: Path) -> StoreError:
    return StoreError(
        "a file became shorter while it was pushed",
        code="E437",
        subject=str(path),
        hint="build again, then push; nothing else may write to the build and the store",
    )
