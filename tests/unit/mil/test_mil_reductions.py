"""Reductions of the MIL interpreter against ONNX Runtime and formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.mil.registry import entries
from tests.unit.mil.reference import by_runtime, floats

OPERATORS = {
    "reduce_l1_norm": "ReduceL1",
    "reduce_l2_norm": "ReduceL2",
    "reduce_log_sum": "ReduceLogSum",
    "reduce_log_sum_exp": "ReduceLogSumExp",
    "reduce_max": "ReduceMax",
    "reduce_mean": "ReduceMean",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_sum": "ReduceSum",
    "reduce_sum_square": "ReduceSumSquare",
}


def compute(kind, x, **given):
    return entries()[kind].compute(x=x, **given)


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("axes", [[1], [0, 2], [-1], [0, 1, 2], None])
@pytest.mark.parametrize("keep", [True, False])
def test_a_reduction_is_the_runtimes(kind, axes, keep):
    x = np.abs(floats(3, 4, 5)) + 0.1
    given = {} if axes is None else {"axes": np.array(axes, np.int32)}
    inputs = [x] if axes is None else [x, np.array(axes, np.int64)]
    (wanted,) = by_runtime(OPERATORS[kind], inputs, keepdims=int(keep))
    found = compute(kind, x, keep_dims=np.array(keep), **given)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_the_axes_go_away_unless_told_otherwise():
    assert compute("reduce_sum", np.ones((2, 3), np.float32), axes=np.array([1])).shape == (2,)


def test_log_sum_exp_neither_overflows_nor_loses_infinity():
    x = np.array([[1000, 1000], [-np.inf, -np.inf], [np.inf, 0]], np.float32)
    with np.errstate(all="ignore"):
        found = compute("reduce_log_sum_exp", x, axes=np.array([1]))
    np.testing.assert_allclose(found, [1000 + np.log(2), -np.inf, np.inf])


def test_sums_of_many_floats_keep_their_small_parts():
    x = np.full(1 << 20, 0.1, np.float32)
    x = np.stack([x, x])
    found = compute("reduce_sum", x, axes=np.array([1]))
    np.testing.assert_allclose(found, float(np.float32(0.1)) * (1 << 20), rtol=1e-9)


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=3),
    st.sampled_from([0, 1, -1, -2]),
    st.booleans(),
)
def test_the_place_of_an_extreme_is_the_first(rows, axis, keep):
    x = np.array(rows, np.int32)
    lines = np.moveaxis(x, axis, -1)
    for kind, extreme in {"reduce_argmax": max, "reduce_argmin": min}.items():
        found = compute(kind, x, axis=np.int32(axis), keep_dims=np.array(keep))
        wanted = [list(line).index(extreme(line)) for line in lines]
        assert found.ravel().tolist() == wanted
        assert found.ndim == (2 if keep else 1)


def test_the_last_axis_is_the_default_of_argmax():
    assert compute("reduce_argmax", np.array([[1, 5, 2], [9, 0, 0]])).tolist() == [1, 0]
