"""Reading ``weight.bin``: constants that a program keeps outside its own file.

Layout (MILBlob storage format version 2; https://github.com/apple/coremltools, mlmodel/src/MILBlob,
StorageFormat.hpp): a header of 64 bytes, then per blob a record of 64
bytes and its data, aligned to 64.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedeploy.errors import IntegrityError

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
    """Return packed integers as int8 or uint8.

    Args:
        data: A stream of bits, the lowest of each byte first.
        bits: Per integer, 1 to 7.
        count: How many integers.
        signed: Whether the highest bit of each is its sign.

    Raises:
        ValueError: There are fewer.
    """
    stream = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if len(stream) < count * bits:
        raise ValueError(f"{len(data)} bytes for {count} values of {bits} bits")
    planes = stream[: count * bits].reshape(count, bits)
    values = np.zeros(count, np.uint8)
    for bit in range(bits):
        values |= planes[:, bit] << np.uint8(bit)
    if not signed:
        return values
    spare = 8 - bits
    return (values << np.uint8(spare)).view(np.int8) >> np.int8(spare)
