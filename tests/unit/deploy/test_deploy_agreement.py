"""Answers of a device: what another processor explains passes, what is wrong does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.deploy.agreement import LEAST_COSINE, disagreements, largest_error


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def faults(found, golden, least=None) -> list[str]:
    return [item.message for item in disagreements("m", found, golden, least)[1]]


@given(
    size=st.integers(2, 50),
    error=st.floats(0.0, 0.5),
    seed=st.integers(0, 2**32 - 1),
    least=st.sampled_from([None, 0.9, 0.99, 0.9999]),
)
def test_what_passes_has_the_cosine_that_is_asked_for(size, error, seed, least):
    generator = np.random.default_rng(seed)
    wanted = generator.normal(size=size) * 10
    noise = generator.normal(size=size)
    found = wanted + noise / np.linalg.norm(noise) * np.linalg.norm(wanted) * error
    asked = LEAST_COSINE if least is None else least
    wrong = faults([{"y": found}], [{"y": wanted}], least)
    assert bool(wrong) == (error > math.sqrt(2 * (1 - asked)) + 1e-12) or math.isclose(
        error, math.sqrt(2 * (1 - asked)), rel_tol=1e-6
    )
    if not wrong and np.abs(found - wanted).max() > 1e-3:
        # An error e of the norm leaves a cosine of sqrt(1 - e^2) at least, about 1 - e^2 / 2.
        assert cosine(found, wanted) >= math.sqrt(1 - largest_error(asked) ** 2) - 1e-9


Y = np.array([1.0, -2.0, 3.0], np.float32)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Y, None),
        (Y * np.float32(1 + 1e-5), None),
        (Y * np.float32(1.05), None),
        (Y * 2, "its error is 1, over 0.14"),  # the same direction: a cosine would not see it
        (-Y, "its error is 2"),
        (np.array([1.0, np.nan, 3.0], np.float32), "1 of 3 values are NaN or infinite"),
        (np.array([1.0, np.inf, -np.inf], np.float32), "2 of 3 values are NaN or infinite"),
        (Y[:2], r"it is float32[2], not float32[3]"),
        (Y.astype(np.float64), r"it is float64[3], not float32[3]"),
        (None, "it is missing"),
    ],
)
def test_a_float_output(found, words):
    given_ = {} if found is None else {"y": found}
    wrong = faults([given_], [{"y": Y}])
    assert len(wrong) == (words is not None)
    assert words is None or words in wrong[0]


def test_an_output_too_many_is_a_fault():
    assert "there should be none" in faults([{"y": Y, "z": Y}], [{"y": Y}])[0]


def test_fewer_answers_than_samples_are_a_fault():
    assert "1 answers to 2 samples" in faults([{"y": Y}], [{"y": Y}, {"y": Y}])[0]


def test_values_that_were_not_finite_at_home_need_not_be():
    golden = np.array([1.0, np.nan, np.inf])
    assert not faults([{"y": np.array([1.0, 5.0, np.inf])}], [{"y": golden}])


def test_what_is_next_to_nothing_may_differ_by_next_to_nothing():
    assert not faults([{"y": np.array([5e-4])}], [{"y": np.array([0.0])}])
    assert faults([{"y": np.array([5e-2])}], [{"y": np.array([0.0])}])


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, object])
def test_other_values_are_counted(dtype):
    golden = np.array([0, 1] * 100).astype(dtype)
    if dtype is object:
        golden = golden.astype(str).astype(object)
    found = golden.copy()
    found[0] = golden[1]
    assert not faults([{"y": found}], [{"y": golden}], 0.99)
    assert "1 of 200 values differ" in faults([{"y": found}], [{"y": golden}], 0.999)[0]
    assert faults([{"y": found[:1]}], [{"y": golden[:1]}])


def test_errors_of_all_samples_count_together():
    """An answer that is far off where the others are large is no wrong version yet."""
    golden = [{"y": np.array([100.0])}, {"y": np.array([0.1])}]
    found = [{"y": np.array([100.0])}, {"y": np.array([0.2])}]
    assert not faults(found, golden)
    assert faults(found[1:], golden[1:])


def test_an_engine_is_held_against_its_graph():
    """No other runtime made the golden answers; what helps is another graph, or another limit."""
    right, wrong = [{"y": np.ones(4, np.float32)}], [{"y": -np.ones(4, np.float32)}]
    (fault,) = disagreements("m", wrong, right, engine=True)[1]
    assert "the graph" in fault.message and "`keep_float`" in fault.hint
    (fault,) = disagreements("m", wrong, right)[1]
    assert "same artifact" in fault.message and "provision" in fault.hint
