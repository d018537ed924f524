"""The estimators against known truths: scipy's formulas and synthetic latency sources."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from edgedeploy.bench import statistics as ours
from edgedeploy.bench.compare import block_ratio, noise_floor_ratio, verdict

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


def mixed(values: np.ndarray) -> np.ndarray:
    """Return values in an order in which neighbours do not resemble each other."""
    return np.random.default_rng(0).permutation(values)


def test_percentiles_need_enough_samples() -> None:
    values = np.arange(2000.0)
    assert ours.percentile(values[:63], 0.90) is None
    assert ours.percentile(mixed(values[:200]), 0.90) is not None
    assert ours.percentile(mixed(values[:661]), 0.99) is None
    assert ours.percentile(mixed(values), 0.99) is not None
    assert ours.percentile(values, 0.99) is None  # as good as one step


def test_percentile_of_a_known_sequence() -> None:
    values = mixed(np.arange(1.0, 100_001.0))
    found = ours.percentile(values, 0.90)
    low, high = stats.binom.ppf([0.025, 0.975], 100_000, 0.90)
    assert found is not None and found.value == 90_000
    assert found.low == pytest.approx(low, rel=1e-3) and found.low <= low
    assert found.high == pytest.approx(high, rel=1e-3) and found.high >= high


def coverage(estimates: Sequence[ours.Estimate | None], truth: float) -> float:
    """Return the part of the reported intervals that hold the truth."""
    reported = [item for item in estimates if item is not None]
    return float(np.mean([item.low <= truth <= item.high for item in reported]))


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


def correlated(source: np.random.Generator, runs: int, length: int, rho: float) -> np.ndarray:
    """Return standard normal AR(1) sequences, shape ``[runs, length]``."""
    noise = source.normal(0, 1, (runs, length))
    walk = lfilter([math.sqrt(1 - rho**2)], [1, -rho], noise[:, 1:], zi=rho * noise[:, :1])[0]
    return np.concatenate([noise[:, :1], walk], axis=1)


def test_the_simulated_sequences_are_what_they_should_be() -> None:
    walk = correlated(np.random.default_rng(0), 200, 500, 0.8)
    assert walk.std() == pytest.approx(1, abs=0.03)
    assert np.mean(walk[:, 1:] * walk[:, :-1]) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.97])
def test_intervals_of_percentiles_cover(rho: float, quantile: float) -> None:
    """The interval holds the truth in 93 to 99.5 % of 1000 runs, whatever the correlation."""
    runs = np.exp(0.05 * correlated(np.random.default_rng(1), RUNS, 12_000, rho))
    truth = math.exp(0.05 * stats.norm.ppf(quantile))
    found = [ours.percentile(run, quantile) for run in runs]
    assert 0.93 <= coverage(found, truth) <= 0.995
    reported = np.mean([item is not None for item in found])
    assert reported > 0.99 or (quantile == 0.99 and rho == 0.97)


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_short_runs_claim_little_rather_than_wrong_things(rho: float) -> None:
    runs = np.exp(0.05 * correlated(np.random.default_rng(2), RUNS, 1000, rho))
    for quantile in (0.5, 0.9, 0.99):
        truth = math.exp(0.05 * stats.norm.ppf(quantile))
        found = [ours.percentile(run, quantile) for run in runs]
        wrong = np.mean([not e.low <= truth <= e.high for e in found if e] or [0])
        assert wrong * np.mean([e is not None for e in found]) <= 0.05


@pytest.mark.parametrize("shape", ["drift", "step"])
@pytest.mark.parametrize("quantile", [0.90, 0.99])
def test_bounds_of_a_mixture_cover_its_percentile(shape: str, quantile: float) -> None:
    count = 3000
    ramp = np.linspace(0, 1, count)
    scales = {"drift": 1 + 0.5 * ramp, "step": 1.0 + (ramp > 0.7)}[shape]
    runs = np.random.default_rng(1).exponential(size=(RUNS, count)) * scales
    truth = quantile_of_mixture(scales, quantile)
    assert coverage([ours.percentile(run, quantile) for run in runs], truth) >= 0.95


@pytest.mark.parametrize(("blocks", "size"), [(18, 60), (40, 30)])
def test_median_interval_covers_when_windows_differ(blocks: int, size: int) -> None:
    source = np.random.default_rng(2)
    windows = source.normal(0, 0.05, (RUNS, blocks, 1))
    logs = windows + source.normal(0, 0.1, (RUNS, blocks, size))
    found = [ours.percentile(run.reshape(-1), 0.5) for run in np.exp(logs)]
    assert coverage(found, 1.0) >= 0.93
    # Honest, and still useful: not much wider than the normal-theory interval over windows.
    ideal = 2 * 1.96 * math.sqrt(0.05**2 + 1.57 * 0.1**2 / size) / math.sqrt(blocks)
    widths = [e.high - e.low for e in found if e is not None]
    assert len(widths) > 0.95 * RUNS and float(np.median(widths)) < 2 * ideal


def test_correlation_time_of_known_sequences() -> None:
    source = np.random.default_rng(3)
    assert ours.correlation_time(np.ones(50)) == 1.0
    found = [ours.correlation_time(run) for run in correlated(source, 50, 20_000, 0.9)]
    truth = (1 + 0.9) / (1 - 0.9)
    assert truth < np.mean(found) < 1.3 * truth
    found = [ours.correlation_time(source.normal(size=2000)) for _ in range(50)]
    assert 1 <= np.mean(found) < 1.3


def test_of_equal_samples_the_interval_is_a_point() -> None:
    assert ours.percentile(np.ones(11), 0.5) == ours.Estimate(value=1, low=1, high=1)
    assert ours.percentile(np.ones(10), 0.5) is None
    assert ours.percentile(np.ones(0), 0.5) is None


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=80))
def test_the_median_lies_in_its_interval(values: list[int]) -> None:
    found = ours.percentile(np.array(values, dtype=np.float64), 0.5)
    if found is not None:
        assert min(values) <= found.low <= found.value <= found.high <= max(values)


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


def test_a_a_runs_of_correlated_inferences_rarely_claim_a_difference() -> None:
    """Windows of 20 inferences in ABBA order, taken from one correlated sequence."""
    source, claims = np.random.default_rng(6), 0
    for run in np.exp(0.05 * correlated(source, RUNS, 9 * 80, 0.9)):
        windows = run.reshape(9, 4, 20)
        order = [[0, 1, 1, 0] if first else [1, 0, 0, 1] for first in source.random(9) < 0.5]
        ratio = block_ratio(
            [
                {"artifact": "ab"[which], "repetition": number, "samples_ns": samples}
                for number, (names, parts) in enumerate(zip(order, windows, strict=True))
                for which, samples in zip(names, parts, strict=True)
            ],
            "a",
            "b",
        )
        assert ratio is not None
        claims += verdict(ratio) != "no difference shown"
    assert claims / RUNS <= 0.075


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
