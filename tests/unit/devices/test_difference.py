"""What travels to a device, and that the recipe makes the file of it."""

import hashlib
import random
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.artifact import FileEntry, Segment
from edgedeploy.devices.difference import SHORT_BYTES, Missing, difference


def sha256(content: bytes) -> str:
    """Return the digest by which contents are known."""
    return hashlib.sha256(content).hexdigest()


def entry(path: str, pieces: Sequence[bytes]) -> tuple[FileEntry, bytes]:
    """Return a file made of pieces, each a segment, and its content."""
    pieces = [piece for piece in pieces if piece]
    segments, at = [], 0
    for piece in pieces:
        segments.append(Segment(offset=at, length=len(piece), sha256=sha256(piece)))
        at += len(piece)
    content = b"".join(pieces)
    return (
        FileEntry(
            path=path,
            size=at,
            sha256=sha256(content),
            segments=tuple(segments) if len(segments) > 1 else (),
        ),
        content,
    )


def executed(item: Missing, local: bytes, objects: Mapping[str, bytes]) -> bytes:
    """Do what a device does with a recipe, in memory, from what travels and what it has."""
    stream = b"".join(local[offset : offset + length] for offset, length in item.ranges)
    assert len(stream) == item.stream_bytes
    made = b""
    for part in item.recipe(sha256(stream) if stream else None).parts:
        source = stream if part.source is None else objects[part.source]
        assert part.length > 0 and part.offset + part.length <= len(source)
        made += source[part.offset : part.offset + part.length]
    return made


def tensor(seed: int, size: int) -> bytes:
    """Return bytes that no other tensor has."""
    return random.Random(seed).randbytes(size)


# Few distinct pieces of both sides of SHORT_BYTES, so that files share many of them.
pieces = st.lists(
    st.builds(
        tensor, st.integers(0, 9), st.sampled_from([1, 7, SHORT_BYTES, SHORT_BYTES + 1, 900])
    ),
    max_size=12,
)


@given(wanted=st.lists(pieces, min_size=1, max_size=4), held=st.lists(pieces, max_size=4))
def test_recipe_makes_the_file(wanted: list[list[bytes]], held: list[list[bytes]]) -> None:
    """The law: what the device makes is the file, and no more travels than the file has."""
    files = [entry(f"new/{at}", item) for at, item in enumerate(wanted)]
    bases = [entry(f"old/{at}", item) for at, item in enumerate(held)]
    objects = {file.sha256: content for file, content in bases}
    before = set(objects)
    local = {file.sha256: content for file, content in files}

    plan = difference([file for file, _ in files], before, [file for file, _ in bases])

    for item in plan.missing:
        made = executed(item, local[item.file.sha256], objects)
        assert sha256(made) == item.file.sha256
        assert item.stream_bytes <= item.file.size
        assert list(item.ranges) == sorted(item.ranges)
        objects[item.file.sha256] = made
    assert {item.file.sha256 for item in plan.missing} == set(local) - before
    assert plan.total_bytes == sum(len(content) for content in local.values())


def test_only_the_changed_tensor_travels() -> None:
    """Neighbours that are there become one part each."""
    tensors = [tensor(seed, 1000) for seed in range(10)]
    old, _ = entry("main/model", tensors)
    changed = [*tensors[:4], tensor(77, 1000), *tensors[5:]]
    new, content = entry("main/model", changed)

    (item,) = difference([new], {old.sha256}, [old]).missing

    assert item.ranges == ((4000, 1000),)
    assert [(part.source is None, part.offset, part.length) for part in item.parts] == [
        (False, 0, 4000),
        (True, 0, 1000),
        (False, 5000, 5000),
    ]
    assert content[4000:5000] == changed[4]


def test_what_repeats_in_a_file_travels_once() -> None:
    """Tied weights: two segments of one digest."""
    shared, other = tensor(1, 5000), tensor(2, 300)
    file, content = entry("main/model", [shared, other, shared])

    (item,) = difference([file], (), ()).missing

    assert item.stream_bytes == 5300
    assert executed(item, content, {}) == content


def test_two_new_files_share_a_tensor() -> None:
    """The second is made from the first, which is made before it."""
    shared = tensor(1, 5000)
    one, _ = entry("a/model", [shared, tensor(2, 400)])
    two, _ = entry("b/model", [tensor(3, 400), shared])

    plan = difference([one, two], (), ())

    assert plan.stream_bytes == 5800
    assert plan.missing[1].sources == {one.sha256}


def test_short_ranges_travel_rather_than_being_named() -> None:
    """A scale of 4 bytes between changed weights costs less than its place on the device."""
    scale = tensor(1, 4)
    old, _ = entry("m", [tensor(2, 1000), scale, tensor(3, 1000)])
    new, _ = entry("m", [tensor(4, 1000), scale, tensor(5, 1000)])

    (item,) = difference([new], {old.sha256}, [old]).missing

    assert item.ranges == ((0, 2004),)
    assert len(item.parts) == 1


def test_many_changed_tensors_take_time_in_proportion() -> None:
    """A hundred thousand segments, every other one changed, are planned at once."""
    count = 100_000
    old = many("old", count, lambda at: f"{at:064x}")
    new = many("new", count, lambda at: f"{at + (at % 2) * count:064x}")

    (item,) = difference([new], {old.sha256}, [old]).missing

    assert item.stream_bytes == count // 2 * 1000
    assert len(item.parts) == count


def many(path: str, count: int, name) -> FileEntry:  # type: ignore[no-untyped-def]
    """Return a file of many segments of 1000 bytes with made-up digests."""
    return FileEntry(
        path=path,
        size=count * 1000,
        sha256=sha256(path.encode()),
        segments=tuple(
            Segment(offset=at * 1000, length=1000, sha256=name(at)) for at in range(count)
        ),
    )


def test_base_that_is_gone_is_not_used() -> None:
    """A manifest may list an object that a check of the depot took away."""
    file, _ = entry("m", [tensor(1, 1000), tensor(2, 1000)])
    base, _ = entry("m", [tensor(1, 1000), tensor(3, 1000)])

    plan = difference([file], (), [base])

    assert plan.stream_bytes == 2000


def test_space_that_a_device_needs() -> None:
    """All objects, and the largest stream that is not an object by itself."""
    base, _ = entry("old", [tensor(1, 5000), tensor(2, 5000)])
    one, _ = entry("a", [tensor(1, 5000), tensor(3, 4000)])
    two, _ = entry("b", [tensor(4, 300)])

    assert difference([one, two], (), ()).needed_bytes == 9300
    assert difference([one, two], {base.sha256}, [base]).needed_bytes == 9300 + 4000
