"""Rounding to float16 against NumPy's conversion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedeploy.mil.rounding import to_half


def by_conversion(x):
    with np.errstate(all="ignore"):
        return x.astype(np.float16).astype(np.float32)


def same(x):
    """Compare bit by bit, but for the many forms of NaN."""
    with np.errstate(all="ignore"):
        found = to_half(x)
    wanted = by_conversion(x)
    assert found.dtype == np.float32
    assert found.shape == x.shape
    number = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.isnan(found), ~number)
    np.testing.assert_array_equal(found[number].view(np.uint32), wanted[number].view(np.uint32))


@given(
    arrays(np.uint32, st.integers(1, 50), elements=st.integers(0, 2**32 - 1)),
    st.sampled_from([1, 3000]),
)
def test_any_bits_are_rounded_as_numpy_rounds_them(bits, times):
    """Repeated, for few elements are left to NumPy."""
    same(np.repeat(bits, times).view(np.float32))


def test_every_float16_and_what_lies_around_its_borders():
    """Each number of float16, its middle to the next one, and their neighbours in float32."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = halves[np.isfinite(halves)]
    ordered = np.unique(finite)
    middles = (ordered[1:] + ordered[:-1]) / 2
    borders = np.concatenate([finite, middles, np.float32([65519.99, 65520, -65520, 1e30])])
    for towards in (-np.inf, np.inf):
        same(np.nextafter(borders, np.float32(towards)))
    same(borders)
    same(halves)


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (70000,)])
def test_shapes_stay(shape):
    same(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def test_views_are_not_changed():
    x = np.random.default_rng(0).normal(size=(600, 40)).astype(np.float32)
    before = x.copy()
    same(x.T[::2])
    np.testing.assert_array_equal(x, before)
