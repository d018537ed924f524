"""Numbers of two versions as streams: what is split comes together again, and is small."""

import bz2
import io
import lzma
import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.release.apply_file import _UNUSABLE, CRUMBS, LANES, LZMA, _plane, undo
from edgedeploy.release.lanes import best_kind, sample_places, split
from edgedeploy.release.packing import Codecs, crumbs, pack

DIFFERENCES = [kind for kind in LANES if not kind.startswith("p")]


@given(st.sampled_from(sorted(LANES)), st.data())
def test_undo_is_the_inverse_of_split(kind: str, data: st.DataObject) -> None:
    """Whatever the bytes are: numbers, NaNs or no numbers at all."""
    size = LANES[kind] * data.draw(st.integers(1, 40))
    new = data.draw(st.binary(min_size=size, max_size=size))
    base = b""
    if kind in DIFFERENCES:
        base = data.draw(st.binary(min_size=size, max_size=size))
    planes = split(kind, new, base)
    assert [len(plane) for plane in planes] == [size // LANES[kind]] * LANES[kind]
    assert undo(kind, planes, base) == new


@pytest.mark.parametrize(("kind", "dtype"), [("f2", np.float16), ("f4", np.float32)])
def test_the_next_float_is_one_away(kind: str, dtype: type) -> None:
    """NumPy's nextafter: floats in the order of the reals, also over zero and between powers."""
    values = np.array([1.0, -1.0, 2.0, -2.0, 0.5, 6e-8, -6e-8, 1e-3, -65000.0], dtype)
    above = np.nextafter(values, dtype(np.inf))
    for new, old, code in ((above, values, 2), (values, above, 1)):  # zigzag: +1 is 2, -1 is 1
        planes = split(kind, new.tobytes(), old.tobytes())
        assert planes == [bytes([code] * len(values)), *[bytes(len(values))] * (len(planes) - 1)]


@pytest.mark.parametrize(("kind", "code"), [("i1", "b"), ("i4", "i")])
def test_integers_differ_by_their_difference(kind: str, code: str) -> None:
    """The zigzag of Protocol Buffers (encoding.md, "Signed Integers"), by its formula."""
    new, old = [5, -3, 0, 7, -128], [4, -1, 0, -100, 127]
    bits = 8 * LANES[kind]
    wanted = []
    for after, before in zip(new, old, strict=True):
        change = (after - before + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
        wanted.append(2 * change if change >= 0 else -2 * change - 1)
    planes = split(kind, struct.pack(f"<5{code}", *new), struct.pack(f"<5{code}", *old))
    found = [int.from_bytes(bytes(item), "little") for item in zip(*planes, strict=True)]
    assert found == wanted


def test_the_kind_is_that_of_the_numbers() -> None:
    """Numbers that were tuned are told from their bytes; strange ones get no base."""
    random = np.random.default_rng(1)
    old = random.standard_normal(4000).astype(np.float32)
    noise, strange = random.standard_normal((2, 4000)).astype(np.float32)
    kinds = list(LANES)
    new = (old + 0.001 * noise).astype(np.float32)
    kind, base, _ = best_kind(kinds, new.tobytes(), [strange.tobytes(), old.tobytes()])
    assert kind in ("f4", "i4") and base == 1
    halves = [array.astype(np.float16).tobytes() for array in (new, old)]
    assert best_kind(kinds, halves[0], halves[1:])[:2] == ("f2", 0)
    integers = [np.round(array * 30).astype(np.int8).tobytes() for array in (old + 0.03, old)]
    assert best_kind(kinds, integers[0], integers[1:])[:2] == ("i1", 0)
    assert best_kind(kinds, strange.tobytes(), [old.tobytes()])[0] == "p4"


@given(st.integers(1024, 1 << 22))
def test_samples_lie_within_the_tensor(length: int) -> None:
    """And between numbers, of whatever width."""
    for at, size in sample_places(length):
        assert at % 8 == size % 8 == 0 and size > 0 and at + size <= length


def in_crumbs(small: bytes, large: bytes) -> list[int]:
    """Read crumbs as their description says, one after the other."""
    rest = iter(large)
    values = [small[at // 4] >> 2 * (at % 4) & 3 for at in range(4 * len(small))]
    return [next(rest, 0) if value == 3 else value for value in values]


@given(st.lists(st.one_of(st.integers(0, 3), st.integers(0, 255)), max_size=70).map(bytes))
def test_crumbs_are_two_bits_for_each_small_number(plane: bytes) -> None:
    small, large = crumbs(plane)
    assert len(small) == -(-len(plane) // 4)
    assert list(large) == [value for value in plane if value > 2]
    values = in_crumbs(small, large)
    assert values[: len(plane)] == list(plane) and not any(values[len(plane) :])


@pytest.mark.parametrize(("codecs", "most"), [("zstd", 1.04), ("lzma", 1.12)])
def test_rare_small_changes_cost_what_they_say(codecs: Codecs, most: float) -> None:
    """Of a plane in which one number in six is 1 or 2: little more than the numbers' entropy."""
    numbers = np.random.default_rng(4)
    plane = numbers.choice(10, 100_000, p=[0.829, 0.085, 0.085, *[0] * 6, 0.001]).astype(np.uint8)
    shares = np.bincount(plane)[[0, 1, 2, 9]] / len(plane)
    least = -(shares * np.log2(shares)).sum() * len(plane) / 8
    codec, packed = pack(plane.tobytes(), codecs)
    assert codec.startswith("crumbs-") and len(packed) < most * least
    assert read_plane(codec, packed, len(plane)) == plane.tobytes()


def read_plane(codec: str, packed: bytes, size: int) -> bytes:
    """Return a plane as the reader of deltas reads it; all of the stream must be used."""
    stream = io.BytesIO(packed)
    plane = _plane(codec, stream, len(packed), size)
    assert not stream.read()
    return plane


@pytest.mark.parametrize("codec", sorted(CRUMBS))
@pytest.mark.parametrize("plane", [b"", b"\0", b"\3", b"\1\2\0\0\0", b"\3\xff\3\1" * 9 + b"\2"])
def test_crumbs_are_read_whatever_packs_them(codec: str, plane: bytes) -> None:
    assert read_plane(codec, crumbled(codec, *crumbs(plane)), len(plane)) == plane


def crumbled(codec: str, small: bytes, large: bytes) -> bytes:
    """Return a stream in crumbs."""
    packers = {
        "zstd": zstandard.ZstdCompressor().compress,
        "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_RAW, filters=LZMA),
        "bz2": bz2.compress,
    }
    first, second = (packers[CRUMBS[codec]](part) for part in (small, large))
    return struct.pack("<L", len(first)) + first + second


@pytest.mark.parametrize("codec", sorted(CRUMBS))
def test_crumbs_that_lie_are_refused(codec: str) -> None:
    """Too few or too many of either part, or lengths that lead out of the stream."""
    small, large = crumbs(b"\3\7\1\2" * 5)
    right = crumbled(codec, small, large)
    size = 20
    assert len(read_plane(codec, right, size)) == size
    lies = [
        crumbled(codec, small[1:], large),
        crumbled(codec, small + b"\0", large),
        crumbled(codec, small, large[1:]),
        crumbled(codec, small, large + b"\4"),
        struct.pack("<L", len(right) - 3) + right[4:],
        struct.pack("<L", 0) + right[4:],
        b"\xff" * 4 + right[4:],
        right[:3],
        b"",
    ]
    for lie in lies:
        with pytest.raises(_UNUSABLE):
            _plane(codec, io.BytesIO(lie), len(lie), size)
