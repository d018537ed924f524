"""Operations that make tensors in the MIL interpreter, against ONNX Runtime and known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.mil.registry import entries
from tests.unit.mil.reference import by_runtime, floats


def compute(kind, **given):
    return entries()[kind].compute(**given)


def test_shape_and_fill():
    assert compute("shape", x=floats(2, 5)).tolist() == [2, 5]
    assert compute("shape", x=floats(2, 5)).dtype == np.int32
    assert compute("fill", shape=np.array([2, 1]), value=np.int32(4)).tolist() == [[4], [4]]
    assert compute("fill", shape=np.array([2])).tolist() == [0, 0]
    assert compute("fill_like", ref_tensor=floats(1, 2), value=np.True_).tolist() == [[True, True]]


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-4, 4).filter(bool))
def test_range_is_pythons(start, end, step):
    values = np.int32([start, end, step])
    found = compute("range_1d", start=values[0], end=values[1], step=values[2])
    assert found.tolist() == list(range(start, end, step))


def test_range_of_floats_stops_before_the_end():
    given = {"start": np.float32(1), "end": np.float32(2.5), "step": np.float32(0.5)}
    assert compute("range_1d", **given).tolist() == [1, 1.5, 2]
    with pytest.raises(ValueError, match="step of 0"):
        compute("range_1d", **{**given, "step": np.float32(0)})


def test_non_zero_has_one_index_per_row():
    assert compute("non_zero", x=np.array([[0, 3], [4, 0]])).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot_is_the_runtimes(axis):
    indices = np.array([[0, 2], [1, 1]], np.int64)
    inputs = [indices, np.array([3], np.int64), np.array([-1, 5], np.float32)]
    (wanted,) = by_runtime("OneHot", inputs, axis=axis)
    found = compute(
        "one_hot",
        indices=indices.astype(np.int32),
        one_hot_vector_size=np.int32(3),
        axis=np.int32(axis),
        on_value=np.float32(5),
        off_value=np.float32(-1),
    )
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("index", [-1, 3])
def test_one_hot_of_an_index_outside_is_an_error(index):
    with pytest.raises(ValueError, match="for size 3"):
        compute("one_hot", indices=np.array([index]), one_hot_vector_size=np.int32(3))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumsum_is_the_runtimes(axis, exclusive, reverse):
    x = floats(3, 4, 2)
    place = np.array(axis, np.int64)
    (wanted,) = by_runtime("CumSum", [x, place], exclusive=exclusive, reverse=reverse)
    given = {"exclusive": np.bool_(exclusive), "reverse": np.bool_(reverse)}
    found = compute("cumsum", x=x, axis=np.int32(axis), **given)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@given(st.integers(-1, 4), st.integers(-1, 4))
def test_band_part_has_the_band_of_the_documentation(lower, upper):
    x = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)
    found = compute("band_part", x=x, lower=np.int32(lower), upper=np.int32(upper))
    for m in range(3):
        for n in range(4):
            inside = (lower < 0 or m - n <= lower) and (upper < 0 or n - m <= upper)
            assert found[:, m, n].tolist() == (x[:, m, n] * inside).tolist()


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8), st.booleans(), st.integers(1, 8))
def test_topk_is_a_stable_sort_cut_off(values, ascending, count):
    x = np.array(values, np.int32)
    count = min(count, len(values))
    sign = 1 if ascending else -1
    order = sorted(range(len(values)), key=lambda place: (sign * values[place], place))
    given = {"k": np.int32(count), "ascending": np.bool_(ascending)}
    highest, indices = compute("topk", x=x, **given)
    assert indices.tolist() == order[:count]
    assert highest.tolist() == [values[place] for place in order[:count]]
    sorting = compute("argsort", x=x, ascending=np.bool_(ascending))
    assert sorting.tolist() == order


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_topk_is_the_runtimes_along_any_axis(axis):
    x = floats(4, 5, 3)
    wanted = by_runtime("TopK", [x, np.array([2], np.int64)], outputs=2, axis=axis)
    found = compute("topk", x=x, k=np.int32(2), axis=np.int32(axis))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_topk_sorts_unsigned_and_extreme_integers():
    x = np.array([0, 255, 7], np.uint8)
    assert compute("topk", x=x, k=np.int32(-1))[0].tolist() == [255, 7, 0]
    x = np.array([-(2**31), 5, 2**31 - 1], np.int32)
    assert compute("argsort", x=x).tolist() == [2, 1, 0]


def test_topk_may_return_the_values_alone_and_never_more_than_there_are():
    found = compute("topk", x=floats(5), k=np.int32(2), return_indices=np.False_)
    assert found.shape == (2,)
    with pytest.raises(ValueError, match="6 of 5"):
        compute("topk", x=floats(5), k=np.int32(6))


def test_classify_names_the_highest():
    scores = np.array([[0.25, 0.5]], np.float32)
    label, by_label = compute("classify", probabilities=scores, classes=("cat", "dog"))
    assert (label, by_label) == ("dog", {"cat": 0.25, "dog": 0.5})
    with pytest.raises(ValueError, match="zip"):
        compute("classify", probabilities=scores, classes=("cat", "dog", "cow"))
