"""Numbers of two versions as streams: what is split comes together again, and is small."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.release.apply_file import LANES, undo
from edgedeploy.release.lanes import best_kind, sample_places, split

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
    kind, base = best_kind(kinds, new.tobytes(), [strange.tobytes(), old.tobytes()])
    assert kind in ("f4", "i4") and base == 1
    halves = [array.astype(np.float16).tobytes() for array in (new, old)]
    assert best_kind(kinds, halves[0], halves[1:]) == ("f2", 0)
    integers = [np.round(array * 30).astype(np.int8).tobytes() for array in (old + 0.03, old)]
    assert best_kind(kinds, integers[0], integers[1:]) == ("i1", 0)
    assert best_kind(kinds, strange.tobytes(), [old.tobytes()]) == ("p4", None)


@given(st.integers(1024, 1 << 22))
def test_samples_lie_within_the_tensor(length: int) -> None:
    """And between numbers, of whatever width."""
    for at, size in sample_places(length):
        assert at % 8 == size % 8 == 0 and size > 0 and at + size <= length
