"""What of a bundle travels in a delta, and how: copies, changes of numbers, and all else.

A tensor that the old bundle holds anywhere is copied; one that changed travels as what is to be
added to its numbers, where that is smallest; what lies between the tensors travels with the old
bundle's as dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from edgedeploy.release.apply_file import BASE_BYTES, BLOCK_BYTES, LANES
from edgedeploy.release.bundle import MANIFEST
from edgedeploy.release.lanes import best_kind, sample_places, split
from edgedeploy.release.packing import LEVEL, Codecs, pack, pack_long, pack_patch, read_range
from edgedeploy.release.pieces import SMALL_BYTES, Anatomy, Bases, Piece

Range = tuple[int, int]

_NEAR_BYTES = BLOCK_BYTES
"""How far from the same place of the old file something is looked for in a file without tensors."""

_QUICK_NEAR_BYTES = 128 << 10
_QUICK_LEVEL = 9
"""For estimates of that."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two bundles of a delta, open."""

    old_file: BinaryIO
    new_file: BinaryIO
    old: Anatomy
    new: Anatomy


@dataclass(slots=True)
class _Pool:
    """Pieces of one kind that will share streams."""

    new: list[Range] = field(default_factory=list)
    base: list[Range] = field(default_factory=list)
    size: int = 0

    def add(self, new: Range, base: Range | None) -> None:
        self.new.append(new)
        if base is not None:
            self.base.append(base)
        self.size += new[1]


class Streams:
    """The streams of a delta in a file, and what the plan says of them.

    Args:
        pair: The bundles.
        codecs: What readers have.
        place: File to write.

    Attributes:
        place: Where the streams are.
        size: Bytes of the streams, when they are written.
    """

    def __init__(self, pair: Pair, codecs: Codecs, place: Path) -> None:
        self._pair, self._codecs = pair, codecs
        self._blocks: list[dict[str, Any]] = []
        self._copies: list[list[int]] = []
        self._pools: dict[str, _Pool] = {}
        self.place = place
        self.size = 0

    def plan(self) -> dict[str, Any]:
        """Return the plan's part about the streams."""
        return {"copies": self._copies, "blocks": self._blocks}

    @property
    def copied_bytes(self) -> int:
        """Bytes of the new bundle that the old one holds."""
        return sum(length for _, _, length in self._copies)

    def write(self) -> Streams:
        """Write what differs.

        Raises:
            OSError: A bundle cannot be read or the disk refuses.
        """
        with open(self.place, "wb") as goal:
            self._manifest(goal)
            loose = self._tensors(goal)
            for kind, pool in self._pools.items():
                self._lanes(goal, kind, pool)
            self._loose(goal, loose)
            self.size = goal.tell()
        return self

    def write_whole(self) -> Streams:
        """Write the new bundle as one compressed stream, than which no delta may be larger.

        Raises:
            OSError: The bundle cannot be read or the disk refuses.
        """
        with open(self.place, "wb") as goal:
            self._manifest(goal)
            self._plain(goal, self._pair.new.pieces)
            self.size = goal.tell()
        return self

    def _manifest(self, goal: BinaryIO) -> None:
        """Write the manifest first: a reader checks the signature before it writes anything."""
        new, old = self._pair.new.own[MANIFEST], self._pair.old.own[MANIFEST]
        if self._codecs == "zstd" and new.size <= BLOCK_BYTES and old.size <= BASE_BYTES:
            self._patch(goal, [(new.offset, new.size)], [(old.offset, old.size)])
        else:
            self._plain(goal, [Piece(new.offset, new.size, MANIFEST, None)])

    def _tensors(self, goal: BinaryIO) -> list[Piece]:
        """Copy what is the same, collect what changed by kind; return all else."""
        bases = Bases(self._pair.old)
        alike = bases.alike(self._pair.new.pieces)
        loose = []
        for piece in self._pair.new.pieces:
            same = bases.equal(piece)
            if same is not None:
                self._copy(piece, same)
                continue
            kind, base = self._kind(piece, alike.get(piece, ()))
            if kind == "p1":
                loose.append(piece)
            else:
                self._collect(goal, kind, piece, base)
        return loose

    def _copy(self, piece: Piece, start: int) -> None:
        last = self._copies[-1] if self._copies else None
        if last and last[0] + last[2] == piece.at and last[1] + last[2] == start:
            last[2] += piece.length
        else:
            self._copies.append([piece.at, start, piece.length])

    def _kind(self, piece: Piece, bases: Sequence[int]) -> tuple[str, int | None]:
        """Return how a piece that changed should travel, and where its older form lies."""
        if piece.length < SMALL_BYTES:
            return "p1", None
        places = sample_places(piece.length)
        kind, number, size = best_kind(
            [kind for kind, width in LANES.items() if piece.length % width == 0],
            self._sample(self._pair.new_file, piece.at, places),
            [self._sample(self._pair.old_file, base, places) for base in bases],
        )
        if not kind.startswith("p"):
            return kind, bases[number]
        near = self._codecs == "zstd" and piece.path in self._pair.old.members
        if near and self._near_bytes(piece, places) < size:
            kind = "p1"
        return kind, None

    def _near_bytes(self, piece: Piece, places: Sequence[Range]) -> int:
        """Return about how many bytes samples of a piece are by :meth:`_near`."""
        size = 0
        for at, length in places:
            new = (piece.at + at, length)
            old = self._around(piece, *new, _QUICK_NEAR_BYTES)
            size += len(self._packed([new], old, _QUICK_LEVEL))
        return size

    def _sample(self, file: BinaryIO, start: int, places: Sequence[Range]) -> bytes:
        return _bytes(file, [(start + at, length) for at, length in places])

    def _collect(self, goal: BinaryIO, kind: str, piece: Piece, base: int | None) -> None:
        """Put a tensor into the pool of its kind; write the pool whenever it is full."""
        done = 0
        while done < piece.length:
            pool = self._pools.setdefault(kind, _Pool())
            length = min(piece.length - done, BLOCK_BYTES - pool.size)
            pool.add((piece.at + done, length), None if base is None else (base + done, length))
            done += length
            if pool.size == BLOCK_BYTES:
                self._lanes(goal, kind, self._pools.pop(kind))

    def _lanes(self, goal: BinaryIO, kind: str, pool: _Pool) -> None:
        new = _bytes(self._pair.new_file, pool.new)
        streams = []
        for plane in split(kind, new, _bytes(self._pair.old_file, pool.base)):
            codec, packed = pack(plane, self._codecs)
            goal.write(packed)
            streams.append((codec, len(packed)))
        self._add(kind, pool.new, pool.base, streams)

    def _loose(self, goal: BinaryIO, pieces: Sequence[Piece]) -> None:
        """Write what is no tensor that changed: small pieces joined, a large one by itself."""
        if self._codecs == "lzma":
            self._plain(goal, pieces)
            return
        small = [piece for piece in pieces if 0 < piece.length < SMALL_BYTES]
        around = [piece for piece in self._pair.old.pieces if 0 < piece.length < SMALL_BYTES]
        base = next(_parts(around, BASE_BYTES), [])
        for part in _parts(small, BLOCK_BYTES):
            self._patch(goal, part, base)
        large = [piece for piece in pieces if piece.length >= SMALL_BYTES]
        self._plain(goal, [piece for piece in large if piece.path not in self._pair.old.members])
        for piece in large:
            if piece.path in self._pair.old.members:
                self._near(goal, piece)

    def _near(self, goal: BinaryIO, piece: Piece) -> None:
        """Write a piece with what lies around its place in the old file as dictionary."""
        for at in range(piece.at, piece.at + piece.length, BLOCK_BYTES):
            length = min(BLOCK_BYTES, piece.at + piece.length - at)
            self._patch(goal, [(at, length)], self._around(piece, at, length, _NEAR_BYTES))

    def _around(self, piece: Piece, at: int, length: int, reach: int) -> list[Range]:
        """Return what lies in the old file where a part of a piece lies in the new one."""
        new, old = self._pair.new.members[piece.path], self._pair.old.members[piece.path]
        start = max(0, at - new.offset - reach)
        end = min(old.size, at - new.offset + length + reach)
        return [(old.offset + start, end - start)] if start < end else []

    def _patch(self, goal: BinaryIO, new: list[Range], base: list[Range]) -> None:
        packed = self._packed(new, base, LEVEL)
        goal.write(packed)
        self._add("patch", new, base, [("zstd", len(packed))])

    def _packed(self, new: list[Range], base: list[Range], level: int) -> bytes:
        new_bytes, old_bytes = _bytes(self._pair.new_file, new), _bytes(self._pair.old_file, base)
        return pack_patch(new_bytes, old_bytes, level)

    def _plain(self, goal: BinaryIO, pieces: Sequence[Piece]) -> None:
        new = [(piece.at, piece.length) for piece in pieces if piece.length]
        if not new:
            return
        size = sum(length for _, length in new)
        parts = (data for at, length in new for data in read_range(self._pair.new_file, at, length))
        packed = pack_long(parts, size, goal, self._codecs)
        self._add("plain", new, [], [(self._codecs, packed)])

    def _add(
        self, kind: str, new: list[Range], base: list[Range], streams: list[tuple[str, int]]
    ) -> None:
        self._blocks.append({"kind": kind, "new": new, "base": base, "streams": streams})


def _bytes(file: BinaryIO, ranges: Sequence[Range]) -> bytes:
    return b"".join(data for at, length in ranges for data in read_range(file, at, length))


def _parts(pieces: Sequence[Piece], most: int) -> Iterator[list[Range]]:
    """Yield the ranges of pieces, of which none is larger than ``most``, in groups of so much."""
    group: list[Range] = []
    size = 0
    for piece in pieces:
        if size + piece.length > most:
            yield group
            group, size = [], 0
        group.append((piece.at, piece.length))
        size += piece.length
    if group:
        yield group
