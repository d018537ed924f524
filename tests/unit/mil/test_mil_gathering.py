"""Gathering and scattering of the MIL interpreter against ONNX Runtime and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.mil.ops.gathering import (
    gather,
    gather_along_axis,
    gather_nd,
    scatter,
    scatter_along_axis,
    scatter_nd,
)
from tests.unit.mil.reference import by_runtime, floats

REDUCTIONS = {"update": "none", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def integers(high, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, high, shape)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_gather_is_the_runtimes(axis, shape):
    x, indices = floats(4, 5, 6), integers(4, *shape)
    (wanted,) = by_runtime("Gather", [x, np.asarray(indices)], axis=axis)
    found = gather(x, np.asarray(indices, np.int32), np.int32(axis))
    np.testing.assert_array_equal(found, wanted)


@st.composite
def batched(draw):
    batches = draw(st.integers(1, 2))
    sizes = [draw(st.integers(1, 3)) for _ in range(4)]
    axis = draw(st.integers(batches, 3))
    more = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 2)))]
    return batches, sizes, axis, more


@given(batched())
@settings(max_examples=40, deadline=None)
def test_gather_with_batch_axes_gathers_item_by_item(case):
    batches, sizes, axis, more = case
    x = floats(*sizes)
    indices = integers(sizes[axis], *sizes[:batches], *more)
    found = gather(x, indices, axis, batches)
    assert found.shape == (*sizes[:axis], *more, *sizes[axis + 1 :])
    for item in np.ndindex(*sizes[:batches]):
        wanted = np.take(x[item], indices[item], axis - batches)
        np.testing.assert_array_equal(found[item], wanted)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_along_axis_is_the_runtimes(axis):
    shape = [3, 4, 5]
    x = floats(*shape)
    shape[axis] = 7
    indices = integers(3, *shape)
    (wanted,) = by_runtime("GatherElements", [x, indices], axis=axis)
    np.testing.assert_array_equal(gather_along_axis(x, indices.astype(np.uint8), axis), wanted)


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_gather_nd_is_the_runtimes(batches):
    x = floats(2, 3, 4, 5)
    indices = integers(2, 2, 3, 6, 2)
    (wanted,) = by_runtime("GatherND", [x, indices], batch_dims=batches)
    np.testing.assert_array_equal(gather_nd(x, indices, batches), wanted)


@pytest.mark.parametrize("mode", REDUCTIONS)
def test_scatter_nd_is_the_runtimes(mode):
    data, indices = floats(4, 5, 6), np.array([[0, 1], [3, 4], [0, 1], [2, 2]])
    if mode == "update":
        # The order of repeated places is not defined.
        indices = indices[1:]
    updates = floats(len(indices), 6, seed=1)
    (wanted,) = by_runtime("ScatterND", [data, indices, updates], reduction=REDUCTIONS[mode])
    np.testing.assert_allclose(scatter_nd(data, indices, updates, mode), wanted, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("mode", REDUCTIONS)
def test_scatter_along_axis_is_the_runtimes(mode, axis):
    data = floats(4, 4, 4)
    indices = np.stack([np.random.default_rng(9).permutation(4) for _ in range(16)])
    indices = np.moveaxis(indices.reshape(4, 4, 4), -1, axis)
    if mode != "update":
        indices = indices // 2
    updates = floats(4, 4, 4, seed=1)
    (wanted,) = by_runtime(
        "ScatterElements", [data, indices, updates], axis=axis, reduction=REDUCTIONS[mode]
    )
    found = scatter_along_axis(data, indices, updates, axis, mode)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert not np.shares_memory(found, data)


def test_scatter_changes_slices():
    # The example of MIL's documentation.
    data, updates = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[5, 6, 7], [8, 9, 10]])
    found = scatter(data, np.array([1, 0]), updates, 0, "add")
    np.testing.assert_array_equal(found, [[9, 11, 13], [9, 11, 13]])


@pytest.mark.parametrize(
    ("mode", "wanted"), [("sub", [-4, 2]), ("div", [1 / 6, 2]), ("add", [6, 2])]
)
def test_scatter_counts_a_repeated_place_each_time(mode, wanted):
    data = np.array([[1.0, 2.0]])
    found = scatter(data, np.array([0, 0]), np.array([[2.0, 3.0]]), -1, mode)
    np.testing.assert_allclose(found, [wanted])


def test_integers_are_not_divided():
    ones = np.ones(2, np.int32)
    with pytest.raises(ValueError, match="integers"):
        scatter(ones, ones, ones, 0, "div")


def test_an_index_below_zero_counts_from_the_end_only_before_ios_17():
    x, last = np.arange(3.0), np.array([-1])
    assert gather(x, last) == 2
    with pytest.raises(IndexError, match="between 0 and 2"):
        gather(x, last, validate_indices=np.bool_(False))


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_bounds_raises(index):
    x, place = np.arange(3.0), np.array([index])
    for call in (
        lambda: gather(x, place),
        lambda: gather_along_axis(x, place),
        lambda: gather_nd(x, place[None]),
        lambda: scatter(x, place, x[:1]),
        lambda: scatter_along_axis(x, place, x[:1]),
        lambda: scatter_nd(x, place[None], x[:1]),
    ):
        with pytest.raises(IndexError):
            call()
