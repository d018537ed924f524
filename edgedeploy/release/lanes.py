"""Numbers of two versions of a tensor as streams that compress well: for whoever makes a delta.

:func:`edgedeploy.release.apply_file.undo` is the inverse and says what the kinds mean.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from edgedeploy.release.apply_file import LANES, lanes, ordered

_SAMPLE_BYTES = 32 << 10  # as far as zlib looks back


def split(kind: str, new: bytes, base: bytes) -> list[bytes]:
    """Return the planes of a block: the first, second ... byte of every number.

    Args:
        kind: Of :data:`edgedeploy.release.apply_file.LANES`.
        new: Numbers, little endian; as many bytes as the kind's width divides.
        base: As many numbers; empty where the kind has no base.
    """
    width = LANES[kind]
    if not kind.startswith("p"):
        new = _changes(kind, new, base)
    return [new[place::width] for place in range(width)]


def _changes(kind: str, new: bytes, base: bytes) -> bytes:
    """Return what is to be added to each number, zigzag coded: small changes are small numbers."""
    width = LANES[kind]
    ones, tops = lanes(width, len(new) // width)
    after, before = int.from_bytes(new, "little"), int.from_bytes(base, "little")
    if kind.startswith("f"):
        after, before = ordered(after, width, ones), ordered(before, width, ones)
    # Subtract without borrowing from the next lane: its top bit is set before, and put right after.
    change = ((after | tops) - (before & ~tops)) ^ ((after ^ ~before) & tops)
    negative = (change >> (8 * width - 1)) & ones
    coded = ((change & ~tops) << 1) ^ (negative * ((1 << 8 * width) - 1))
    return coded.to_bytes(len(new), "little")


def best_kind(kinds: Sequence[str], new: bytes, bases: Sequence[bytes]) -> tuple[str, int, int]:
    """Return the kind of block that should suit a tensor best.

    Judged on a sample by a quick compressor.

    Args:
        kinds: That come into question.
        new: Sample of the tensor; every kind's width divides its length.
        bases: Samples of tensors that may be its base, from the same places.

    Returns:
        The kind, the number of its base (0 where the kind has none), and the sample's packed bytes.
    """
    found = [
        (_cost(kind, new, base), kind, number)
        for kind in kinds
        for number, base in enumerate([b""] if kind.startswith("p") else bases)
    ]
    cost, kind, number = min(found, key=lambda item: item[0])
    return kind, number, cost


def _cost(kind: str, new: bytes, base: bytes) -> int:
    return sum(len(zlib.compress(plane, 6)) for plane in split(kind, new, base))


def sample_places(length: int) -> list[tuple[int, int]]:
    """Return offset and length of the samples of a tensor: all of it, or two parts.

    Offsets and lengths are multiples of 8, so that they fall between numbers.
    """
    if length <= 4 * _SAMPLE_BYTES:
        return [(0, length // 8 * 8)]
    return [(at // 8 * 8, _SAMPLE_BYTES) for at in (length // 4, length * 3 // 4)]
