"""Counting NaN and infinity in stored weights, chunk by chunk, without NumPy.

Works on the stored bytes with strided slices, ``bytes.translate`` and big integers, all of which
run at C speed, also where every element is NaN. Layouts: IEEE 754 binary16/32/64, bfloat16, and
the float8 formats of the ONNX float8 specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from edgedeploy.model.wire import malformed


class NonFinite(NamedTuple):
    """How many elements are NaN and how many are infinite."""

    nan: int = 0
    inf: int = 0

    def __add__(self, other: object) -> NonFinite:
        if not isinstance(other, NonFinite):
            return NotImplemented
        return NonFinite(self.nan + other.nan, self.inf + other.inf)


def _table(*ranges: tuple[int, int]) -> bytes:
    """Return a translation table that marks the bytes in the given ranges with 1."""
    return bytes(any(low <= byte <= high for low, high in ranges) for byte in range(256))


_ZERO = _table((0, 0))
_SIGNED_7F = _table((0x7F, 0x7F), (0xFF, 0xFF))
_HALF_TOP = _table((0x7C, 0x7F), (0xFC, 0xFF))
_UPPER = _table((0x80, 0xFF))
_ONE_80 = _table((0x80, 0x80))
_HALF_INF = _table((0x7C, 0x7C), (0xFC, 0xFC))


class _Layout(NamedTuple):
    """How the bytes of a little-endian element, lowest first, say that it is not finite.

    Attributes:
        special: For each byte the table of what it is where the exponent is all ones; None
            where any value will do.
        infinite: For each byte the table of what it is in an infinity.
    """

    special: tuple[bytes | None, ...]
    infinite: tuple[bytes, ...]


_LAYOUTS = {
    "float16": _Layout((None, _HALF_TOP), (_ZERO, _HALF_INF)),
    "bfloat16": _Layout((_UPPER, _SIGNED_7F), (_ONE_80, _SIGNED_7F)),
    "float32": _Layout((None, None, _UPPER, _SIGNED_7F), (_ZERO, _ZERO, _ONE_80, _SIGNED_7F)),
    "float64": _Layout(
        (None,) * 6 + (_table((0xF0, 0xFF)), _SIGNED_7F),
        (_ZERO,) * 6 + (_table((0xF0, 0xF0)), _SIGNED_7F),
    ),
    "float8e5m2": _Layout((_HALF_TOP,), (_HALF_INF,)),
}
_COMPLEX = {"complex64": "float32", "complex128": "float64"}
# float8 types without infinity: the bytes that mean NaN.
_NAN_BYTES = {
    "float8e4m3fn": b"\x7f\xff",
    "float8e4m3fnuz": b"\x80",
    "float8e5m2fnuz": b"\x80",
    "float8e8m0": b"\xff",
}
FLOAT_TYPES = frozenset((*_LAYOUTS, *_COMPLEX, *_NAN_BYTES))
"""Element types that can hold NaN."""


def count_nonfinite(element: str, data: Iterable[bytes]) -> NonFinite:
    """Return the NaN and infinities of little-endian elements.

    Args:
        element: One of :data:`FLOAT_TYPES`.
        data: Pieces of the tensor, each a whole number of elements long.
    """
    element = _COMPLEX.get(element, element)
    if element in _NAN_BYTES:
        special = _NAN_BYTES[element]
        return NonFinite(nan=sum(len(part) - len(part.translate(None, special)) for part in data))
    layout = _LAYOUTS[element]
    found = NonFinite()
    for part in data:
        found += _count_chunk(layout, part)
    return found


def _count_chunk(layout: _Layout, part: bytes) -> NonFinite:
    top = layout.special[-1]
    size = len(layout.special)
    # Most chunks have no element whose top byte could be that of a non-finite one.
    if top is None or 1 not in part[size - 1 :: size].translate(top):
        return NonFinite()
    special = _matching(part, layout.special)
    infinite = _matching(part, layout.infinite)
    return NonFinite(nan=special - infinite, inf=infinite)


def _matching(part: bytes, tables: tuple[bytes | None, ...]) -> int:
    """Return how many elements have every byte in its table."""
    size = len(tables)
    marks = -1
    for index, table in enumerate(tables):
        if table is not None:
            marks &= int.from_bytes(part[index::size].translate(table), "little")
    return marks.bit_count()


_START = rb"(?<![\x80-\xff])"
# The varints, in int32_data, of elements whose exponent is all ones, and of infinities.
_VARINTS: dict[str, tuple[re.Pattern[bytes], re.Pattern[bytes] | None]] = {
    "float16": (
        re.compile(_START + rb"[\x80-\xff][\xf8-\xff][\x01\x03]"),
        re.compile(_START + rb"\x80\xf8[\x01\x03]"),
    ),
    "bfloat16": (
        re.compile(_START + rb"[\x80-\xff]\xff[\x01\x03]"),
        re.compile(_START + rb"\x80\xff[\x01\x03]"),
    ),
    "float8e5m2": (
        re.compile(_START + rb"(?:[\x7c-\x7f]|[\xfc-\xff]\x01)"),
        re.compile(_START + rb"(?:\x7c|\xfc\x01)"),
    ),
    "float8e4m3fn": (re.compile(_START + rb"(?:\x7f|\xff\x01)"), None),
    "float8e4m3fnuz": (re.compile(_START + rb"\x80\x01"), None),
    "float8e5m2fnuz": (re.compile(_START + rb"\x80\x01"), None),
    "float8e8m0": (re.compile(_START + rb"\xff\x01"), None),
}
_BEYOND_16_BITS = re.compile(rb"[\x80-\xff]{3}|[\x80-\xff]{2}[\x04-\x7f]|[\x80-\xff]\x00")
_CONTINUED = bytes(range(0x80, 0x100))


def count_nonfinite_varints(element: str, data: Iterable[bytes]) -> NonFinite:
    """Return the NaN and infinities of elements that ``int32_data`` holds as packed varints.

    Args:
        element: A float type of at most 16 bits.
        data: The packed field in pieces, cut anywhere.

    Raises:
        ModelError: An entry is longer than 16 bits or not minimally encoded (E201), so that
            readers would disagree on its value.
    """
    special, infinite = _VARINTS[element]
    nan = inf = 0
    rest = b""
    for part in data:
        part = rest + part
        if _BEYOND_16_BITS.search(part):
            raise malformed("a packed number does not fit its element type", 0)
        # A piece may end inside a number: keep that tail for the next one.
        end = len(part.rstrip(_CONTINUED))
        rest = part[end:]
        infinities = len(infinite.findall(part, 0, end)) if infinite else 0
        inf += infinities
        nan += len(special.findall(part, 0, end)) - infinities
    return NonFinite(nan, inf)
