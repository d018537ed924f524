"""What of a version a device lacks, and how it puts the rest together from what it has.

Pure planning: nothing here reads a file or talks to a device. The unit is the *segment* of a
file, cut at tensors when the artifact was built; a segment whose digest stands in a file that the
device holds, of whatever version, does not travel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from edgedeploy.artifact import FileEntry, Segment
from edgedeploy.devices.depot import Part, Recipe

SHORT_BYTES = 256
"""A range as short as this travels even when the device has it: naming it costs as much."""

_PLACES = 8  # of one segment that are remembered; more would serve only a manifest made to hurt


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """One object that the device lacks.

    Attributes:
        file: One of the version's files that have this content.
        parts: How the object is put together; a part without a source is of the stream.
        ranges: Offset and length of what travels, in the local file and in the stream's order.
    """

    file: FileEntry
    parts: tuple[Part, ...]
    ranges: tuple[tuple[int, int], ...]

    @property
    def stream_bytes(self) -> int:
        """Bytes that travel."""
        return sum(length for _, length in self.ranges)

    @property
    def sources(self) -> frozenset[str]:
        """Objects that it is put together from."""
        return frozenset(part.source for part in self.parts if part.source is not None)

    def recipe(self, stream: str | None) -> Recipe:
        """Return the recipe for the device.

        Args:
            stream: SHA-256 of the bytes of ``ranges``, None when there are none.
        """
        return Recipe(sha256=self.file.sha256, size=self.file.size, stream=stream, parts=self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a push has to do.

    Attributes:
        missing: Objects in the order in which they must be made: a later one may take segments
            from an earlier one.
        total_bytes: Of the version, each content counted once.
    """

    missing: tuple[Missing, ...]
    total_bytes: int

    @property
    def stream_bytes(self) -> int:
        """Bytes that travel."""
        return sum(item.stream_bytes for item in self.missing)

    @property
    def needed_bytes(self) -> int:
        """Free space that the device needs: all new objects, and the largest stream beside them.

        A stream goes when its object is made, so that two never lie there at a time; one that is
        the whole object becomes it where it lies.
        """
        beside = [item.stream_bytes for item in self.missing if item.stream_bytes < item.file.size]
        return sum(item.file.size for item in self.missing) + max(beside, default=0)


def difference(
    wanted: Iterable[FileEntry],
    present: Collection[str],
    bases: Iterable[FileEntry],
    whole: Collection[str] = (),
) -> Difference:
    """Plan how a device gets the objects that it lacks.

    Args:
        wanted: Files of the version.
        present: Digests of objects on the device.
        bases: Files of versions on the device; those whose object is not ``present`` are ignored.
            What they say of their segments need not be true: the device hashes what it makes.
        whole: Digests of contents that travel whole, whatever the device has.
    """
    index = _Index()
    held = set(present)
    for base in bases:
        if base.sha256 in held:
            index.add(base)
    contents = {file.sha256: file for file in wanted}
    for sha256 in held & contents.keys():
        index.add(contents[sha256])
    missing = []
    for sha256, file in contents.items():
        if sha256 not in held:
            missing.append(_missing(file, _Index() if sha256 in whole else index))
            index.add(file)
    return Difference(
        missing=tuple(missing), total_bytes=sum(file.size for file in contents.values())
    )


class _Index:
    """Where segments lie in objects on the device."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], list[tuple[str, int]]] = {}
        self._objects: set[str] = set()

    def add(self, file: FileEntry) -> None:
        """Note where the segments of an object lie."""
        if file.sha256 in self._objects:
            return
        self._objects.add(file.sha256)
        for part in _segments(file):
            places = self._places.setdefault((part.sha256, part.length), [])
            if len(places) < _PLACES:
                places.append((file.sha256, part.offset))

    def find(self, part: Segment, after: Part | None) -> Part | None:
        """Return where a segment lies, right after another part if it can be; None if nowhere."""
        places = self._places.get((part.sha256, part.length))
        if not places:
            return None
        source, offset = places[0]
        if after is not None and (after.source, after.offset + after.length) in places:
            source, offset = str(after.source), after.offset + after.length
        return Part(source=source, offset=offset, length=part.length)


def _segments(file: FileEntry) -> tuple[Segment, ...]:
    if file.segments or not file.size:
        return file.segments
    return (Segment(offset=0, length=file.size, sha256=file.sha256),)


@dataclass(slots=True)
class _Run:
    """Neighbouring segments of a file that the device has in one piece, or that it lacks."""

    part: Part | None
    segments: list[Segment]
    length: int

    @property
    def whole(self) -> Part | None:
        """Where all of it lies on the device."""
        if self.part is None:
            return None
        return Part(source=self.part.source, offset=self.part.offset, length=self.length)


def _missing(file: FileEntry, index: _Index) -> Missing:
    """Plan one object: what it takes from the device, and what travels."""
    travelling: dict[tuple[str, int], int] = {}
    ranges: list[tuple[int, int]] = []
    parts: list[Part] = []
    at = 0
    for run in _runs(file, index):
        if run.whole is not None and run.length > SHORT_BYTES:
            parts.append(run.whole)
            continue
        for segment in run.segments:
            key = (segment.sha256, segment.length)
            if key not in travelling:
                travelling[key] = at
                at += segment.length
                if ranges and sum(ranges[-1]) == segment.offset:
                    ranges[-1] = (ranges[-1][0], ranges[-1][1] + segment.length)
                else:
                    ranges.append((segment.offset, segment.length))
            _append(parts, Part(source=None, offset=travelling[key], length=segment.length))
    return Missing(file=file, parts=tuple(parts), ranges=tuple(ranges))


def _runs(file: FileEntry, index: _Index) -> Iterator[_Run]:
    """Yield the file's segments, joined where they also lie side by side on the device."""
    run: _Run | None = None
    for segment in _segments(file):
        before = run.whole if run else None
        found = index.find(segment, before)
        if run is not None and _continues(before, found):
            run.segments.append(segment)
            run.length += segment.length
            continue
        if run is not None:
            yield run
        run = _Run(part=found, segments=[segment], length=segment.length)
    if run is not None:
        yield run


def _continues(before: Part | None, found: Part | None) -> bool:
    if before is None or found is None:
        return before is found
    return found.source == before.source and found.offset == before.offset + before.length


def _append(parts: list[Part], part: Part) -> None:
    """Append a part, joined with the one before if it goes on where that ends."""
    last = parts[-1] if parts else None
    if last is not None and _continues(last, part):
        parts[-1] = Part(source=last.source, offset=last.offset, length=last.length + part.length)
    else:
        parts.append(part)
