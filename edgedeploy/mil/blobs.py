"""Reading ``weight.bin``: constants that a program keeps outside its own file.

Layout (MILBlob storage format version 2; https://github.com/apple/coremltools, mlmodel/src/MILBlob,
StorageFormat.hpp): a header of 64 bytes, then per blob a record of 64
bytes and its data, aligned to 64.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedeploy.errors import IntegrityError

if TYPE_CHECKING:
    import numpy as np

SENTINEL = 0xDEADBEEF
RECORD = struct.Struct("<IIQQQ")
"""Sentinel, type, bytes, offset of the data, padding in bits."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Where a constant's bytes lie in the file.

    Attributes:
        offset: Of its data.
        length: In bytes.
        padding_bits: Unused bits at the end of packed data below a byte.
    """

    offset: int
    length: int
    padding_bits: int


def find(path: Path, record: int) -> Blob:
    """Return the blob whose record lies at ``record``.

    Raises:
        IntegrityError: There is no record (E360).
    """
    with path.open("rb") as file:
        file.seek(record)
        head = file.read(RECORD.size)
    if len(head) == RECORD.size:
        sentinel, _, length, offset, padding = RECORD.unpack(head)
        if sentinel == SENTINEL and offset + length <= path.stat().st_size:
            return Blob(offset=offset, length=length, padding_bits=padding)
    raise IntegrityError(
        f"there is no constant at offset {record} of {path.name}",
        code="E360",
        subject=path.name,
        hint="build the package again",
    )


def load(path: Path, record: int) -> bytes:
    """Return the bytes of a blob.

    Raises:
        IntegrityError: There is no record (E360).
    """
    blob = find(path, record)
    with path.open("rb") as file:
        file.seek(blob.offset)
        return file.read(blob.length)


def unpack(data: bytes, bits: int, count: int, *, signed: bool) -> np.ndarray:
    """Return packed integers of ``bits`` (1 to 7) bits as int8 or uint8, lowest bits first."""
    import numpy as np

    stream = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: count * bits]
    weights = 1 << np.arange(bits)
    values = stream.reshape(count, bits) @ weights
    if signed:
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    return values.astype(np.int8 if signed else np.uint8)
