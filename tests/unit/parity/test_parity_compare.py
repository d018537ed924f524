"""Streaming statistics equal those of whole arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.parity.compare import Comparer


def compare(pairs):
    comparer = Comparer()
    for number, (found, reference) in enumerate(pairs):
        comparer.add(str(number), {"y": np.asarray(found)}, {"y": np.asarray(reference)})
    return comparer


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 1000))
def test_streaming_equals_whole_arrays(count, size, seed):
    random = np.random.default_rng(seed)
    a = random.standard_normal((count, 1, size)).astype(np.float32)
    b = (a + random.normal(0, 0.01, a.shape)).astype(np.float32)
    (found,) = compare(zip(a, b, strict=True)).results()
    a, b = a.astype(float), b.astype(float)
    error = np.abs(a - b)
    cosines = [
        x.ravel() @ y.ravel() / np.linalg.norm(x) / np.linalg.norm(y)
        for x, y in zip(a, b, strict=True)
    ]
    assert found.samples == count
    assert found.elements == a.size
    assert found.max_abs == pytest.approx(error.max())
    assert found.mean_abs == pytest.approx(error.mean())
    assert found.rmse == pytest.approx(np.sqrt((error**2).mean()))
    assert found.cosine_min == pytest.approx(min(cosines))
    assert found.cosine_mean == pytest.approx(np.mean(cosines))
    assert found.cosine == pytest.approx(
        a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b)
    )
    assert found.sqnr_db == pytest.approx(10 * np.log10((b**2).sum() / (error**2).sum()))
    assert found.top1_agreement == np.mean(a.argmax(-1) == b.argmax(-1))
    assert found.outside_tolerance == pytest.approx(np.mean(error > 1e-3 + 1e-3 * np.abs(b)))
    assert (found.reference_low, found.reference_high) == (b.min(), b.max())


def test_equal_outputs():
    (found,) = compare([([[1.0, 2.0]], [[1.0, 2.0]])] * 2).results()
    assert (found.max_abs, found.cosine, found.sqnr_db, found.worst_sample) == (0, 1, None, None)


def test_non_finite_values_are_a_finding_and_left_out():
    comparer = compare([([1.0, np.nan, np.inf, 4.0], [1.0, 2.0, np.inf, 4.0])])
    (found,) = comparer.results()
    assert (found.nonfinite, found.nonfinite_reference, found.elements) == (1, 1, 2)
    assert found.max_abs == 0
    (finding,) = comparer.findings()
    assert (finding.code, finding.subject) == ("E292", "y")


def test_shape_mismatch_and_missing_output_are_findings():
    comparer = compare([([1.0], [1.0]), ([1.0, 2.0], [1.0])])
    comparer.add("2", {}, {"y": np.zeros(1)})
    (found,) = comparer.results()
    assert (found.samples, found.shape_mismatches, found.elements) == (2, 1, 1)
    assert [finding.code for finding in comparer.findings()] == ["E293", "E291"]
    assert "sample 1" in comparer.findings()[1].message


def test_scalars_have_no_cosine_of_their_own_but_one_together():
    (found,) = compare([([[0.5]], [[1.0]]), ([[1.0]], [[0.5]])]).results()
    assert (found.cosine_mean, found.top1_agreement) == (None, None)
    assert found.cosine == pytest.approx(0.8)
    assert found.worst_sample == "0"


def test_texts_and_whole_numbers():
    (found,) = compare([(np.array(["a", "b"], object), np.array(["a", "c"], object))]).results()
    assert (found.outside_tolerance, found.max_abs) == (0.5, None)
    (found,) = compare([([3, 4], [3, 5])]).results()
    assert (found.max_abs, found.top1_agreement) == (1, None)


def test_an_empty_output_is_no_division_by_zero():
    (found,) = compare([(np.zeros((1, 0, 6)), np.zeros((1, 0, 6)))]).results()
    assert (found.elements, found.rmse, found.outside_tolerance) == (0, None, None)
