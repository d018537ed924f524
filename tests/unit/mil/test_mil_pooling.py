"""Pooling of the MIL interpreter against ONNX Runtime."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.mil.ops.pooling import avg_pool, l2_pool, max_pool
from tests.unit.mil.reference import by_runtime, floats

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@st.composite
def windows(draw):
    rank = draw(st.integers(1, 3))
    sizes = [draw(st.integers(4, 9)) for _ in range(rank)]
    kernel = [draw(st.integers(2, 4)) for _ in range(rank)]
    strides = [draw(st.integers(1, size)) for size in kernel]
    pads = [draw(st.integers(0, size - 1)) for size in kernel]
    ceil_mode = draw(st.booleans()) and rank < 3
    return sizes, kernel, strides, pads, ceil_mode


@given(windows())
@settings(max_examples=60, deadline=None)
def test_max_pool_is_the_runtimes(window):
    sizes, kernel, strides, pads, ceil_mode = window
    x = floats(2, 3, *sizes) - 5
    (wanted,) = by_runtime(
        "MaxPool",
        [x],
        kernel_shape=kernel,
        strides=strides,
        pads=pads + pads,
        ceil_mode=int(ceil_mode),
    )
    found = max_pool(x, kernel, "custom", strides, np.repeat(pads, 2), ceil_mode)
    np.testing.assert_array_equal(found, wanted)


@given(windows(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_avg_pool_is_the_runtimes(window, counted):
    sizes, kernel, strides, pads, ceil_mode = window
    x = floats(2, 3, *sizes)
    (wanted,) = by_runtime(
        "AveragePool",
        [x],
        kernel_shape=kernel,
        strides=strides,
        pads=pads + pads,
        ceil_mode=int(ceil_mode),
        count_include_pad=int(counted),
    )
    pad = np.repeat(pads, 2)
    found = avg_pool(x, kernel, "custom", strides, pad, not counted, ceil_mode)
    np.testing.assert_allclose(found, wanted, **CLOSE)


@given(windows())
@settings(max_examples=30, deadline=None)
def test_l2_pool_is_the_runtimes(window):
    sizes, kernel, strides, pads, _ = window
    x = floats(2, 3, *sizes)
    (wanted,) = by_runtime("LpPool", [x], kernel_shape=kernel, strides=strides, pads=pads + pads)
    found = l2_pool(x, kernel, "custom", strides, np.repeat(pads, 2))
    np.testing.assert_allclose(found, wanted, **CLOSE)


@pytest.mark.parametrize("kind", ["same", "same_lower"])
def test_same_padding_puts_the_odd_element_where_it_says(kind):
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
    found = max_pool(x, [2], kind)
    wanted = {"same": [1, 2, 3, 4, 4], "same_lower": [0, 1, 2, 3, 4]}[kind]
    np.testing.assert_array_equal(found, [[wanted]])


def test_no_window_of_a_ceiling_begins_in_the_padding():
    x = np.ones((1, 1, 3), np.float32)
    # (3 + 2 - 2) / 3 is 1: a third window, rounded up, would begin at 6 - 1 >= 3.
    assert max_pool(x, [2], "custom", [3], np.array([1, 1]), True).shape == (1, 1, 2)


@pytest.mark.parametrize("pool", [max_pool, avg_pool, l2_pool])
def test_a_window_without_an_element_of_the_input_raises(pool):
    x = np.ones((1, 1, 6), np.float32)
    # MIL declares three windows; the third begins at 6.
    with pytest.raises(ValueError, match="no element"):
        pool(x, [2], "valid", [3], ceil_mode=True)
    with pytest.raises(ValueError, match="no element"):
        pool(x, [2], "custom", [1], pad=np.array([2, 0]))
