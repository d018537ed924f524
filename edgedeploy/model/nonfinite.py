"""Counting NaN and infinity in stored weights, chunk by chunk, without NumPy.

Works on the stored bytes: strided slices and ``bytes.translate`` run at C speed and find the few
elements whose exponent may be all ones; only those are looked at one by one. Layouts: IEEE 754
binary16/32/64, bfloat16, and the float8 formats of the ONNX float8 specification.
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


class _Layout(NamedTuple):
    """Where sign, exponent and mantissa of a little-endian IEEE-like type lie."""

    size_bytes: int
    exponent_mask: int
    mantissa_mask: int
    top_bytes: re.Pattern[bytes]


_LAYOUTS = {
    "float16": _Layout(2, 0x7C00, 0x03FF, re.compile(rb"[\x7c-\x7f\xfc-\xff]")),
    "bfloat16": _Layout(2, 0x7F80, 0x007F, re.compile(rb"[\x7f\xff]")),
    "float32": _Layout(4, 0x7F800000, 0x007FFFFF, re.compile(rb"[\x7f\xff]")),
    "float64": _Layout(8, 0x7FF << 52, (1 << 52) - 1, re.compile(rb"[\x7f\xff]")),
    "float8e5m2": _Layout(1, 0x7C, 0x03, re.compile(rb"[\x7c-\x7f\xfc-\xff]")),
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
    size = layout.size_bytes
    nan = inf = 0
    for match in layout.top_bytes.finditer(part[size - 1 :: size]):
        start = match.start() * size
        bits = int.from_bytes(part[start : start + size], "little")
        if bits & layout.exponent_mask == layout.exponent_mask:
            if bits & layout.mantissa_mask:
                nan += 1
            else:
                inf += 1
    return NonFinite(nan, inf)


_START = rb"(?<![\x80-\xff])"
# The varints, in int32_data, of the values whose exponent is all ones.
_VARINTS = {
    "float16": (re.compile(_START + rb"[\x80-\xff][\xf8-\xff][\x01\x03]"), b"\x80\xf8"),
    "bfloat16": (re.compile(_START + rb"[\x80-\xff]\xff[\x01\x03]"), b"\x80\xff"),
    "float8e5m2": (re.compile(_START + rb"(?:[\x7c-\x7f]|[\xfc-\xff]\x01)"), b""),
    "float8e4m3fn": (re.compile(_START + rb"(?:\x7f|\xff\x01)"), None),
    "float8e4m3fnuz": (re.compile(_START + rb"\x80\x01"), None),
    "float8e5m2fnuz": (re.compile(_START + rb"\x80\x01"), None),
    "float8e8m0": (re.compile(_START + rb"\xff\x01"), None),
}
_BEYOND_16_BITS = re.compile(rb"[\x80-\xff]{3}|[\x80-\xff]{2}[\x04-\x7f]|[\x80-\xff]\x00")


def count_nonfinite_varints(element: str, data: Iterable[bytes]) -> NonFinite:
    """Return the NaN and infinities of elements that ``int32_data`` holds as packed varints.

    Args:
        element: A float type of at most 16 bits.
        data: The packed field in pieces, cut anywhere.

    Raises:
        ModelError: An entry is longer than 16 bits or not minimally encoded (E201), so that
            readers would disagree on its value.
    """
    pattern, infinity = _VARINTS[element]
    nan = inf = 0
    rest = b""
    for part in data:
        part = rest + part
        if _BEYOND_16_BITS.search(part):
            raise malformed("a packed number does not fit its element type", 0)
        # A piece may end inside a number: keep that tail for the next one.
        end = len(part.rstrip(_CONTINUED))
        rest = part[end:]
        for match in pattern.finditer(part, 0, end):
            if infinity is not None and _is_infinity(match[0], infinity):
                inf += 1
            else:
                nan += 1
    return NonFinite(nan, inf)


_CONTINUED = bytes(range(0x80, 0x100))


def _is_infinity(varint: bytes, infinity: bytes) -> bool:
    """Tell whether an all-ones exponent comes with a zero mantissa."""
    if infinity:
        return varint[:2] == infinity
    return varint[0] & 0x03 == 0
