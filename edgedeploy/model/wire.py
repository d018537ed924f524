"""Reading the protobuf wire format: bounded, iterative, without trusting a single length.

Source: the protobuf encoding specification (varints, length-delimited fields, wire types). The
file is read with ``pread`` through one small window and never mapped, so that a file which
shrinks under the reader is a typed refusal and not a SIGBUS, and resident memory stays flat.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from edgedeploy.errors import ModelError

CHUNK_BYTES = 1 << 20
_WINDOW_BYTES = 1 << 18
_LONGEST_VARINT_BYTES = 10

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types; 3 and 4 (groups) do not occur in ONNX and are refused."""


def malformed(what: str, place: int) -> ModelError:
    """Return the refusal of bytes that are no protobuf message of an ONNX model."""
    return ModelError(
        f"the file is not a whole ONNX model: {what} at byte {place}",
        code="E201",
        hint="export or download the model again; the file is truncated or not ONNX",
    )


def read_exactly(fd: int, start: int, count: int) -> bytes:
    """Return ``count`` bytes of the file from ``start`` (one chunk; callers bound ``count``).

    Raises:
        ModelError: The file ends before (E217): it changed since its size was taken.
    """
    parts = []
    while count > 0:
        part = os.pread(fd, count, start)
        if not part:
            raise ModelError(
                "the file became shorter while it was read",
                code="E217",
                hint="run again when nothing else writes to the model",
            )
        parts.append(part)
        start += len(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def chunks(fd: int, start: int, count: int, step: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield ``count`` bytes of the file from ``start`` in pieces of at most ``step`` bytes."""
    end = start + count
    while start < end:
        size = min(step, end - start)
        yield read_exactly(fd, start, size)
        start += size


class Cursor:
    """A position in a file that reads varints and bytes through one window.

    Attributes:
        position: Offset of the next byte.
    """

    __slots__ = ("_base", "_fd", "_size", "_window", "position")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        self._window = b""
        self._base = 0
        self.position = 0

    def _fill(self) -> None:
        """Move the window to the position."""
        count = min(_WINDOW_BYTES, self._size - self.position)
        self._window = read_exactly(self._fd, self.position, count)
        self._base = self.position

    def field(self, end: int) -> tuple[int, int, int]:
        """Read a field's tag, and its number or, for length-delimited ones, its length.

        Returns:
            Tag, number or length (0 for fixed-size fields), and the offset of the value: of the
            number itself or of the first byte after the length.
        """
        index = self.position - self._base
        window = self._window
        if index >= 0 and index + 1 < len(window):
            tag, value = window[index], window[index + 1]
            # Nearly all tags, and most lengths, are one byte long.
            if tag < 0x80 and value < 0x80 and tag & 5 == 0:
                start = self.position + (2 if tag & 7 else 1)
                self.position += 2
                return tag, value, start
        tag = self.varint(end)
        wire = tag & 7
        if wire not in (VARINT, LENGTH):
            return tag, 0, self.position
        start = self.position
        value = self.varint(end)
        return tag, value, self.position if wire == LENGTH else start

    def varint(self, end: int) -> int:
        """Return the unsigned varint at the position; the message ends at ``end``."""
        start = self.position
        index = start - self._base
        if index < 0 or index + _LONGEST_VARINT_BYTES > len(self._window):
            self._fill()
            index = 0
        window = self._window
        value = shift = 0
        limit = min(index + _LONGEST_VARINT_BYTES, end - self._base, len(window))
        while index < limit:
            byte = window[index]
            index += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                self.position = self._base + index
                return value & 0xFFFFFFFFFFFFFFFF
            shift += 7
        raise malformed("a number is cut off or longer than ten bytes", start)

    def skip_run(self, run: re.Pattern[bytes], end: int) -> None:
        """Move over the longest run of whole fields that a pattern matches before ``end``."""
        while self.position < end:
            index = self.position - self._base
            if index < 0 or index + _LONGEST_VARINT_BYTES >= len(self._window):
                self._fill()
                index = 0
            found = run.match(self._window, index, min(len(self._window), end - self._base))
            if found is None:
                return
            self.position = self._base + found.end()

    def take(self, count: int) -> bytes:
        """Return ``count`` bytes at the position (the caller has checked that they exist)."""
        index = self.position - self._base
        if count > _WINDOW_BYTES:
            taken = read_exactly(self._fd, self.position, count)
        else:
            if index < 0 or index + count > len(self._window):
                self._fill()
                index = 0
            taken = self._window[index : index + count]
        self.position += count
        return taken


def signed(value: int) -> int:
    """Return a varint as the int64 that it encodes."""
    return value - (1 << 64) if value >> 63 else value


def encode_varint(value: int) -> bytes:
    """Return a non-negative number below 2**64 as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return encode_varint(number << 3 | LENGTH) + encode_varint(len(content)) + content
