"""The estimators against known truths: scipy's formulas and synthetic latency sources."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgedeploy.bench import statistics as ours
from edgedeploy.bench.compare import noise_floor_ratio, verdict

RUNS = 1000


def test_the_floors_are_those_of_mlperf() -> None:
    assert ours.least_samples(0.90) == 64
    assert ours.least_samples(0.99) == 662


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95, 0.99])
def test_a_floor_is_the_least_count_by_the_binomial_bound(quantile: float) -> None:
    count = ours.least_samples(quantile)
    assert stats.binom.cdf(1, count, 1 - quantile) <= 0.01
    assert stats.binom.cdf(1, count - 1, 1 - quantile) > 0.01


@settings(deadline=None)
@given(st.integers(2, 300_000), st.sampled_from([0.5, 0.9, 0.99]))
def test_order_bounds_are_the_tightest_ranks_that_hold(count: int, quantile: float) -> None:
    bounds = ours.order_bounds(count, quantile, 0.95)
    below = stats.binom(count, quantile)
    if bounds is None:  # not even the extremes enclose the quantile
        assert below.cdf(0) > 0.025 or below.sf(count - 1) > 0.025
        return
    low, high = bounds
    assert below.cdf(low) <= 0.025 * (1 + 1e-6) < below.cdf(low + 1) * (1 + 1e-5)
    assert below.sf(high) <= 0.025 * (1 + 1e-6) < below.sf(high - 1) * (1 + 1e-5)


@pytest.mark.parametrize("freedom", [8, 9, 17, 39, 1000])
def test_student_quantile(freedom: int) -> None:
    assert ours.student_quantile(0.99, freedom) == pytest.approx(
        stats.t.ppf(0.99, freedom), abs=3e-3
    )


def test_percentiles_need_enough_samples() -> None:
    values = np.arange(661.0)
    assert ours.percentile(values[:63], 0.90) is None
    assert ours.percentile(values[:64], 0.90) is not None
    assert ours.percentile(values, 0.99) is None


def test_percentile_of_a_known_sequence() -> None:
    found = ours.percentile(np.arange(1.0, 1001.0)[::-1], 0.90)
    low, high = stats.binom.ppf([0.01, 0.99], 1000, 0.90)
    assert found == ours.Estimate(value=900.0, low=low, high=high + 1)


def coverage(estimates: list[ours.Estimate | None], truth: float) -> float:
    """Return the part of the intervals that hold the truth."""
    return float(np.mean([e is not None and e.low <= truth <= e.high for e in estimates]))


def quantile_of_mixture(scales: np.ndarray, quantile: float) -> float:
    """Return a quantile of exponential latencies with these scales, by bisection."""
    low, high = 0.0, 100.0 * float(scales.max())
    for _ in range(100):
        middle = (low + high) / 2
        if float(np.mean(-np.expm1(-middle / scales))) < quantile:
            low = middle
        else:
            high = middle
    return low


@pytest.mark.parametrize("shape", ["steady", "drift", "step"])
@pytest.mark.parametrize("quantile", [0.90, 0.99])
def test_percentile_bounds_cover_the_truth(shape: str, quantile: float) -> None:
    count = 1500
    ramp = np.linspace(0, 1, count)
    scales = {"steady": np.ones(count), "drift": 1 + 0.5 * ramp, "step": 1.0 + (ramp > 0.7)}[shape]
    truth = quantile_of_mixture(scales, quantile)
    source = np.random.default_rng(1)
    runs = source.exponential(size=(RUNS, count)) * scales
    assert coverage([ours.percentile(run, quantile) for run in runs], truth) >= 0.95


@pytest.mark.parametrize(("blocks", "size"), [(9, 30), (40, 30)])
def test_median_interval_covers_under_correlation_within_blocks(blocks: int, size: int) -> None:
    source = np.random.default_rng(2)
    windows = source.normal(0, 0.05, (RUNS, blocks, 1))
    logs = windows + source.normal(0, 0.1, (RUNS, blocks, size))
    found = [ours.median(list(run)) for run in np.exp(logs)]
    assert coverage(found, 1.0) >= 0.95
    # Honest, and still useful: not much wider than the normal-theory interval over windows.
    ideal = 2 * 1.96 * math.sqrt(0.05**2 + 1.57 * 0.1**2 / size) / math.sqrt(blocks)
    widths = [e.high - e.low for e in found if e is not None]
    assert float(np.median(widths)) < 2 * ideal


def test_median_interval_covers_under_correlation_across_blocks() -> None:
    source, rho, length = np.random.default_rng(3), 0.9, 18 * 50
    noise = source.normal(0, 1, (RUNS, length))
    state = noise[:, 0] / math.sqrt(1 - rho**2)
    walk = np.empty_like(noise)
    for step in range(length):
        walk[:, step] = state = rho * state + noise[:, step] if step else state
    found = [ours.median(list(np.exp(0.02 * run).reshape(18, 50))) for run in walk]
    assert coverage(found, 1.0) >= 0.95


def test_median_of_few_blocks_is_not_reported() -> None:
    assert ours.median([np.ones(100)] * 8) is None
    assert ours.median([np.ones(1)] * 9) is None
    assert ours.median([]) is None
    assert ours.median([np.ones(2)] * 9) == ours.Estimate(value=1, low=1, high=1)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=12, max_size=60), st.integers(0, 5))
def test_the_median_lies_in_its_interval(values: list[int], seed: int) -> None:
    blocks = [np.array([value, value + 1]) for value in values]
    found = ours.median(blocks, seed)
    assert found is not None
    assert min(values) <= found.low <= found.value <= found.high <= max(values) + 1


def simulated_ratio(source: np.random.Generator, effect: float) -> ours.Estimate:
    """Return the ratio found in nine ABBA repetitions with drift, noise and rare disturbances."""
    drift = np.linspace(0, 0.1, 9)
    disturbed = 0.3 * (source.random((2, 9)) < 0.05)
    logs = drift + source.normal(0, 0.02, (2, 9)) + disturbed
    logs[0] += math.log(effect)
    found = ours.ratio_of_blocks(*np.exp(logs).tolist())
    assert found is not None
    return found


def test_a_a_runs_rarely_claim_a_difference() -> None:
    source = np.random.default_rng(4)
    claims = [verdict(simulated_ratio(source, 1.0)) != "no difference shown" for _ in range(RUNS)]
    assert np.mean(claims) <= 0.05


def test_ratio_interval_covers_and_finds_a_real_difference() -> None:
    source = np.random.default_rng(5)
    found = [simulated_ratio(source, 0.8) for _ in range(RUNS)]
    assert coverage(list(found), 0.8) >= 0.95
    assert np.mean([verdict(item) == "faster" for item in found]) > 0.9


def test_ratio_of_nine_is_the_sign_interval() -> None:
    ratios = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]
    assert ours.ratio_of_blocks(ratios, [1.0] * 9) == ours.Estimate(value=1.4, low=1.1, high=1.7)
    assert ours.ratio_of_blocks(ratios[:8], [1.0] * 8) is None


@pytest.mark.parametrize(
    ("value", "low", "high", "floor", "said"),
    [
        (0.5, 0.4, 0.6, 0.0, "faster"),
        (2.0, 1.9, 2.1, 0.0, "slower"),
        (0.9, 0.8, 1.01, 0.0, "no difference shown"),
        (0.985, 0.98, 0.99, 0.0, "no difference shown"),
        (1.015, 1.01, 1.02, 0.0, "no difference shown"),
        (0.95, 0.94, 0.96, 0.08, "no difference shown"),
    ],
)
def test_verdict(value: float, low: float, high: float, floor: float, said: str) -> None:
    assert verdict(ours.Estimate(value=value, low=low, high=high), floor) == said


def test_noise_floor_is_what_an_a_a_run_leaves_open() -> None:
    same = ours.Estimate(value=1.01, low=0.97, high=1.04)
    assert noise_floor_ratio(same) == pytest.approx(0.04)
