"""Reading a flatbuffer into a tree by a schema, and writing a tree in one fixed layout.

The layout written is a function of the content alone: the header, tables and vectors in
depth-first order (a vtable stands before the first table that uses it), all strings (sorted, each
once), then the tensors' bytes, large ones at multiples of 64 bytes so that a memory-mapped file can
be used in place. A flatbuffer asks only that references point forward and that scalars are aligned
(FlatBuffers internals); the usual builders write back to front in the order they are called.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from edgedeploy.backends import ORT_FILE_BYTES
from edgedeploy.backends.ortmobile.schema import (
    FILE_IDENTIFIER,
    ROOT,
    TABLES,
    TYPE_INFO_UNION,
    Field,
)
from edgedeploy.errors import BuildError

TENSOR_ALIGNMENT_BYTES = 64
SMALL_TENSOR_ALIGNMENT_BYTES = 16
SMALL_TENSOR_BYTES = 1024
CHUNK_BYTES = 1 << 22

_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_U16 = struct.Struct("<H")


@dataclass(slots=True)
class Table:
    """One table: its type and one value per slot (None where the slot is absent).

    A value is ``bytes`` (scalar, string, raw vector), a :class:`Table`, a list of either, or a
    :class:`Blob`.
    """

    type: str
    values: list[Any]


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes of a tensor as a slice of the source buffer."""

    start: int
    nbytes: int


def read_tree(buffer: memoryview) -> Table:
    """Return the tree of an ORT format model; tensors stay slices of ``buffer``.

    Raises:
        BuildError: The buffer holds no ORT model, or slots that the schema does not know (E316).
    """
    if len(buffer) < 8 or bytes(buffer[4:8]) != FILE_IDENTIFIER:
        raise BuildError("the runtime wrote a file that is no ORT format model", code="E316")
    return _read_table(buffer, _U32.unpack_from(buffer, 0)[0], ROOT)


def _read_table(buffer: memoryview, position: int, type_name: str) -> Table:
    fields = TABLES[type_name]
    vtable = position - _I32.unpack_from(buffer, position)[0]
    slots = (_U16.unpack_from(buffer, vtable)[0] - 4) // 2
    values: list[Any] = [None] * len(fields)
    for slot in range(slots):
        offset = _U16.unpack_from(buffer, vtable + 4 + 2 * slot)[0]
        if not offset:
            continue
        spec = fields[slot] if slot < len(fields) else None
        if spec is None:
            raise BuildError(
                f"the ORT model has a field {type_name}[{slot}] that is not known here",
                code="E316",
                hint="use a version of onnxruntime that edgedeploy supports",
            )
        if spec.kind == "union":
            spec = Field("table", of=TYPE_INFO_UNION[values[slot - 1][0]])
        values[slot] = _read_value(buffer, position + offset, spec)
    return Table(type_name, values)


def _read_value(buffer: memoryview, position: int, spec: Field) -> Any:
    if spec.kind == "scalar":
        return bytes(buffer[position : position + spec.size])
    position += _U32.unpack_from(buffer, position)[0]
    if spec.kind == "table":
        return _read_table(buffer, position, spec.of)
    count = _U32.unpack_from(buffer, position)[0]
    start = position + 4
    if spec.kind == "blob":
        return Blob(start, count)
    if spec.kind == "string":
        return bytes(buffer[start : start + count])
    if spec.kind == "raw":
        return bytes(buffer[start : start + count * spec.size])
    slots = range(start, start + 4 * count, 4)
    if spec.kind == "strings":
        return [_read_value(buffer, slot, Field("string")) for slot in slots]
    found = [_read_value(buffer, slot, Field("table", of=spec.of)) for slot in slots]
    key = spec.key
    return found if key is None else sorted(found, key=lambda table: table.values[key] or b"")


class Layout:
    """A tree laid out: everything but the tensors' bytes, which :meth:`write` adds.

    Args:
        root: A tree from :func:`read_tree`.
    """

    def __init__(self, root: Table) -> None:
        self._data = bytearray(8)
        self._vtables: dict[bytes, int] = {}
        self._strings: dict[bytes, list[int]] = {}
        self._blobs: list[tuple[int, Blob]] = []
        self._table(root, 0)
        self._data[4:8] = FILE_IDENTIFIER
        for text in sorted(self._strings):
            position = self._pad(4)
            self._data += _U32.pack(len(text)) + text + b"\0"
            for reference in self._strings[text]:
                self._refer(reference, position)

    def write(
        self, source: memoryview, out: IO[bytes], *, with_tensors: bool = True
    ) -> tuple[tuple[int, int], ...]:
        """Write the model.

        Args:
            source: The buffer that the tree's blobs are slices of.
            out: A binary file, written from its start.
            with_tensors: False writes empty tensors: enough for tools that look at the graph only.

        Returns:
            Offset and length in bytes of every tensor written, ascending.

        Raises:
            BuildError: The file would exceed the 2 GiB that the format's offsets reach (E314).
        """
        placed = self._place_tensors(with_tensors=with_tensors)
        end = placed[-1][0] + placed[-1][1].nbytes if placed else len(self._data)
        if end > ORT_FILE_BYTES:
            raise BuildError(
                f"the .ort file would have {end} bytes; the format ends at {ORT_FILE_BYTES}",
                code="E314",
                hint="quantize the weights, or choose a runtime that reads external data",
            )
        out.write(self._data)
        at = len(self._data)
        for position, blob in placed:
            out.write(bytes(position - 4 - at) + _U32.pack(blob.nbytes))
            at = position + blob.nbytes
            for start in range(blob.start, blob.start + blob.nbytes, CHUNK_BYTES):
                out.write(source[start : min(start + CHUNK_BYTES, blob.start + blob.nbytes)])
        out.write(bytes(-at % 8))
        return tuple((position, blob.nbytes) for position, blob in placed)

    def _place_tensors(self, *, with_tensors: bool) -> list[tuple[int, Blob]]:
        """Return where each tensor's bytes go, and close the references to them."""
        placed: list[tuple[int, Blob]] = []
        at = len(self._data)
        for reference, blob in self._blobs:
            kept = blob if with_tensors else Blob(blob.start, 0)
            small = kept.nbytes < SMALL_TENSOR_BYTES
            align = SMALL_TENSOR_ALIGNMENT_BYTES if small else TENSOR_ALIGNMENT_BYTES
            position = at + 4 + -(at + 4) % align
            self._refer(reference, position - 4)
            placed.append((position, kept))
            at = position + kept.nbytes
        return placed

    def _pad(self, align: int, ahead: int = 0) -> int:
        """Pad so that ``ahead`` bytes further the position is aligned; return the position."""
        self._data += bytes(-(len(self._data) + ahead) % align)
        return len(self._data)

    def _refer(self, reference: int, position: int) -> None:
        _U32.pack_into(self._data, reference, (position - reference) & 0xFFFFFFFF)

    def _table(self, table: Table, reference: int) -> None:
        """Append a table with all that it refers to, and point ``reference`` at it."""
        fields = TABLES[table.type]
        present = [slot for slot, value in enumerate(table.values) if value is not None]
        sizes = {slot: _inline_bytes(fields[slot]) for slot in present}
        # Widest first: no padding between the fields, whatever their number.
        order = sorted(present, key=lambda slot: (-sizes[slot], slot))
        offsets = [0] * (present[-1] + 1 if present else 0)
        size = 4
        for slot in order:
            offsets[slot] = size
            size += sizes[slot]
        vtable = self._vtable(offsets, size)
        # The fields start four bytes into the table, behind the reference to the vtable.
        position = self._pad(8, 4) if 8 in sizes.values() else self._pad(4)
        self._refer(reference, position)
        self._data += _I32.pack(position - vtable)
        for slot in order:
            self._data += table.values[slot] if _is_scalar(fields[slot]) else bytes(4)
        for slot in present:
            if not _is_scalar(fields[slot]):
                self._value(table.values[slot], fields[slot], position + offsets[slot])

    def _vtable(self, offsets: Sequence[int], size: int) -> int:
        vtable = struct.pack(f"<{2 + len(offsets)}H", 4 + 2 * len(offsets), size, *offsets)
        if vtable not in self._vtables:
            self._vtables[vtable] = self._pad(2)
            self._data += vtable
        return self._vtables[vtable]

    def _value(self, value: Any, spec: Field | None, reference: int) -> None:
        if isinstance(value, Table):
            self._table(value, reference)
        elif isinstance(value, Blob):
            self._blobs.append((reference, value))
        elif isinstance(value, list):
            position = self._pad(4)
            self._refer(reference, position)
            self._data += _U32.pack(len(value)) + bytes(4 * len(value))
            for index, item in enumerate(value):
                self._value(item, None, position + 4 + 4 * index)
        elif spec is not None and spec.kind == "raw":
            position = self._pad(max(spec.align, 4), 4)
            self._refer(reference, position)
            self._data += _U32.pack(len(value) // spec.size) + value
        else:
            self._strings.setdefault(value, []).append(reference)


def _is_scalar(spec: Field | None) -> bool:
    return spec is not None and spec.kind == "scalar"


def _inline_bytes(spec: Field | None) -> int:
    return spec.size if spec is not None and spec.kind == "scalar" else 4
