"""Dims as text."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgedeploy.profile.dims import DimError, format_dim, parse_dim
from edgedeploy.profile.types import DimSpec

SIZES = st.integers(1, 2**31 - 1)


@pytest.mark.parametrize(
    ("value", "dim"),
    [
        (8, DimSpec(fixed=8)),
        ("1..64", DimSpec(low=1, high=64)),
        (" 320 .. 960 / 32 ", DimSpec(low=320, high=960, step=32)),
        ([160, 320, 640], DimSpec(buckets=(160, 320, 640))),
    ],
)
def test_forms(value, dim):
    assert parse_dim(value) == dim


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        2**31,
        True,
        1.5,
        None,
        "8",
        "any",
        "1..",
        "..8",
        "1...8",
        "8..8",
        "8..1",
        "0..8",
        "1..8/0",
        "1..8/2",
        "1" * 20 + "..9",
        [],
        [8],
        [8, 8],
        [9, 8],
        [8, "16"],
        [8, True],
        {},
    ],
)
def test_refusals(value):
    with pytest.raises(DimError) as caught:
        parse_dim(value)
    assert caught.value.hint


@given(SIZES, st.integers(1, 1000), st.integers(1, 1000))
def test_ranges_read_back(low, steps, step):
    high = low + steps * step
    assume(high < 2**31)
    dim = DimSpec(low=low, high=high, step=step)
    assert parse_dim(format_dim(dim)) == dim


@given(st.sets(SIZES, min_size=2, max_size=6))
def test_buckets_read_back(sizes):
    dim = DimSpec(buckets=tuple(sorted(sizes)))
    assert parse_dim(format_dim(dim)) == dim


@given(SIZES)
def test_sizes_read_back(size):
    assert format_dim(parse_dim(size)) == size
