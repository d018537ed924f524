"""A bundle's bytes in pieces that two bundles may share: tensors, and what lies between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from edgedeploy.release.archive import Member, damaged, read_member, read_members
from edgedeploy.release.bundle import (
    ENVELOPE,
    MANIFEST,
    MOST_MANIFEST_BYTES,
    OWN,
    SUMS,
    Release,
    ReleaseFile,
    parse_release,
)
from edgedeploy.release.opening import check_files

SMALL_BYTES = 1024
"""A piece shorter than this is no tensor that is worth a place of its own."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a bundle's file.

    Attributes:
        at: Offset in the bundle.
        length: Bytes.
        path: Of the file that it is part of; empty between files.
        sha256: Of its bytes; None where nobody says.
    """

    at: int
    length: int
    path: str
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Where a bundle's parts lie in its file.

    Attributes:
        release: What it holds.
        manifest: Its canonical bytes.
        envelope: The signed envelope.
        own: Where the archive holds manifest, envelope and sums.
        members: Where it holds the files.
        pieces: The bytes in order, but for the three own members.
    """

    release: Release
    manifest: bytes
    envelope: bytes
    own: Mapping[str, Member]
    members: Mapping[str, Member]
    pieces: tuple[Piece, ...]


def dissect(file: BinaryIO) -> Anatomy:
    """Return where a bundle's parts lie; all of it is checked but who signed it.

    Raises:
        IntegrityError: It is no bundle (E731, E735), or its manifest cannot be used (E734).
        OSError: It cannot be read.
    """
    members = read_members(file)
    for path in (MANIFEST, ENVELOPE, SUMS):
        if path not in members:
            raise damaged(path, "it is missing")
    manifest = read_member(file, members[MANIFEST], MOST_MANIFEST_BYTES)
    release = parse_release(manifest)
    check_files(file, members, release)
    files = {item.path: item for item in release.files}
    end = file.seek(0, 2)
    return Anatomy(
        release=release,
        manifest=manifest,
        envelope=read_member(file, members[ENVELOPE], 2 * MOST_MANIFEST_BYTES),
        own={path: member for path, member in members.items() if path in OWN},
        members={path: member for path, member in members.items() if path not in OWN},
        pieces=tuple(_pieces(members.values(), files, end)),
    )


def _pieces(
    members: Iterable[Member], files: Mapping[str, ReleaseFile], end: int
) -> Iterator[Piece]:
    at = 0
    for member in members:
        yield Piece(at, member.offset - at, "", None)
        at = member.offset + member.size
        if member.path in files:
            yield from _of_file(member, files[member.path])
    yield Piece(at, end - at, "", None)


def _of_file(member: Member, file: ReleaseFile) -> Iterator[Piece]:
    if member.size and not file.segments:
        yield Piece(member.offset, member.size, member.path, file.sha256)
    for offset, length, sha256 in file.segments:
        yield Piece(member.offset + offset, length, member.path, sha256)


class Bases:
    """Where a bundle holds what another one may be made from."""

    def __init__(self, old: Anatomy) -> None:
        self._known: dict[str, Piece] = {}
        self._tensors: dict[tuple[str, int], list[int]] = defaultdict(list)
        for piece in old.pieces:
            if piece.sha256 is not None:
                self._known.setdefault(piece.sha256, piece)
            if piece.length >= SMALL_BYTES:
                self._tensors[piece.path, piece.length].append(piece.at)
        self._whole = {
            file.sha256: old.members[file.path]
            for file in old.release.files
            if file.path in old.members
        }

    def equal(self, piece: Piece) -> int | None:
        """Return where the same bytes lie, if the old bundle says that it has them."""
        if piece.sha256 is None:
            return None
        if piece.sha256 in self._known:
            return self._known[piece.sha256].at
        whole = self._whole.get(piece.sha256)
        return None if whole is None else whole.offset

    def alike(self, pieces: Sequence[Piece]) -> dict[Piece, tuple[int, ...]]:
        """Return by piece where tensors of the same length lie that may be its older form.

        They are the tensors of the file of the same path that stand as far from the front among
        those of their length, and as far from the back: where nothing was added or taken away
        these are the same one; where something was, one of the two is right before it and the
        other behind it.
        """
        groups: dict[tuple[str, int], list[Piece]] = defaultdict(list)
        for piece in pieces:
            if piece.path and piece.length >= SMALL_BYTES:
                groups[piece.path, piece.length].append(piece)
        found = {}
        for key, group in groups.items():
            old = self._tensors.get(key, [])
            for number, piece in enumerate(group):
                front, back = number, number - len(group) + len(old)
                places = {at for at in (front, back) if 0 <= at < len(old)}
                found[piece] = tuple(old[at] for at in sorted(places))
        return found
