"""Streaming histograms and the ranges derived from them, against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.quant.histogram import BINS, CHUNK, Histogram
from edgedeploy.quant.observer import Observer
from edgedeploy.quant.ranges import derive, divergence, search, squared_error

# What is less than 2**-126 of a bin counts as zero.
FINITE = st.floats(-(2.0**40), 2.0**40, width=32).filter(lambda v: not v or abs(v) > 2.0**-60)
PARTS = st.lists(st.lists(FINITE, min_size=1, max_size=12), min_size=1, max_size=8)


def counted(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part, float(part.min()), float(part.max()))
    return histogram


def content(histogram: Histogram) -> tuple[int, list, list]:
    edges, counts = histogram.filled()
    return histogram.exponent, edges.tolist(), counts.tolist()


@given(PARTS, st.randoms())
@settings(max_examples=200, deadline=None)
def test_counts_are_exact_and_do_not_depend_on_the_order(lists, random):
    parts = [np.array(values, np.float32) for values in lists]
    found = counted(*parts)
    every = np.concatenate(parts).astype(np.float64)
    numbers, counts = np.unique(np.floor(every / found.width), return_counts=True)
    edges, seen = found.filled()
    assert (edges / found.width).tolist() == numbers.tolist()
    assert seen.tolist() == counts.tolist()
    assert numbers[-1] - numbers[0] < BINS
    random.shuffle(parts)
    assert content(counted(*parts)) == content(found)


@given(st.integers(0, 2**32 - 1), st.floats(1e-20, 1e20), st.floats(-3, 3))
@settings(max_examples=50, deadline=None)
def test_at_least_half_of_the_bins_span_the_range(seed, scale, shift):
    values = (np.random.default_rng(seed).normal(shift, 1, 3 * CHUNK) * scale).astype(np.float32)
    found = counted(*np.array_split(values, 5))
    span = float(values.max()) - float(values.min())
    assert span / found.width <= BINS < 2 * span / found.width + 4
    assert found.counts.sum() == values.size


def test_values_of_one_size_and_of_none():
    assert content(counted(np.zeros(7, np.float32)))[1:] == ([0.0], [7])
    three = np.full(5, 3.25, np.float32)
    assert content(counted(three, three))[1:] == ([3.25], [10])


@pytest.mark.parametrize("shape", ["normal", "relu", "heavy", "uniform"])
def test_percentiles_are_within_a_bin_of_the_exact_ones(shape):
    source = np.random.default_rng(3)
    values = {
        "normal": source.normal(0.3, 2, 200_000),
        "relu": np.maximum(source.normal(0, 1, 200_000), 0),
        "heavy": source.standard_t(4, 200_000),
        "uniform": source.uniform(-1, 5, 200_000),
    }[shape].astype(np.float32)
    found = counted(*np.array_split(values, 9))
    width = float(values.max()) - float(values.min())
    for share in (0.0001, 0.001, 0.5, 0.999, 0.9999):
        exact = float(np.quantile(values, share))
        # In the thin tail of a distribution neighbours are further apart than bins are wide.
        gaps = np.diff(np.sort(values))[max(0, int(share * values.size) - 2) :][:4].max()
        assert abs(found.quantile(share) - exact) <= found.width + gaps, share
    assert abs(found.quantile(0.999) - float(np.quantile(values, 0.999))) <= 0.002 * width


def quantized_error(values: np.ndarray, low: float, high: float, symmetric: bool) -> float:
    """The mean squared error, element by element, from the specification's formulas."""
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        scale = max(-low, high) / 127
        least, greatest, zero = -127, 127, 0
    else:
        scale = (high - low) / 255
        least, greatest, zero = 0, 255, round(-low / scale)
    steps = np.clip(np.rint(values / scale) + zero, least, greatest)
    return float(np.mean((values - (steps - zero) * scale) ** 2))


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([0.3, 0.7, 1.0]))
@settings(max_examples=30, deadline=None)
def test_the_squared_error_is_that_of_quantizing_every_element(seed, symmetric, share):
    source = np.random.default_rng(seed)
    values = source.normal(source.normal(), 1, 20_000).astype(np.float32)
    edges, counts = counted(values).filled()
    middles = edges + counted(values).width / 2
    low, high = float(values.min()) * share, float(values.max()) * share
    (found,) = squared_error(middles, counts, symmetric)(np.array([[low, high]]))
    assert found == pytest.approx(quantized_error(values, low, high, symmetric), rel=0.05)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", ["normal", "outlier", "relu"])
def test_the_mse_range_is_as_good_as_a_brute_force_search(kind, symmetric):
    source = np.random.default_rng(5)
    values = source.normal(0.5, 1, 30_000).astype(np.float32)
    if kind == "outlier":
        values[:3] = [40, -60, 50]
    if kind == "relu":
        values = np.maximum(values, 0)
    low, high = float(values.min()), float(values.max())
    found = derive(counted(values), {"minmax": (low, high), "average": (low, high)})
    chosen = found["mse-symmetric" if symmetric else "mse"]
    grid = np.linspace(0.04, 1, 49)
    best = min(
        quantized_error(values, low * a, high * b, symmetric) for a in grid for b in grid[::2]
    )
    assert quantized_error(values, *chosen, symmetric) <= 1.1 * best
    assert quantized_error(values, *found["choose"], False) <= 1.1 * min(
        quantized_error(values, *found[name], False)
        for name in ("minmax", "entropy", "mse", "percentile-99.9", "percentile-99.99")
    )


def slow_divergence(values, counts, low, high):
    """The same divergence, bin by bin."""
    scale = (high - low) / 255
    kept = [(v, float(c)) for v, c in zip(values, counts, strict=True)]
    kept.remove(min(kept, key=lambda item: abs(item[0])))
    inside = [item for item in kept if low <= item[0] <= high]
    truth = [count for _, count in inside]
    truth[0] += sum(count for v, count in kept if v < low)
    truth[-1] += sum(count for v, count in kept if v > high)
    groups: dict[int, list[float]] = {}
    for value, count in inside:
        groups.setdefault(round(value / scale), []).append(count)
    spread = [math.fsum(g) / len(g) for g in (groups[round(v / scale)] for v, _ in inside)]
    total, whole = math.fsum(truth), math.fsum(spread)
    return math.fsum(
        p / total * math.log((p / total) / (q / whole)) for p, q in zip(truth, spread, strict=True)
    )


@given(st.integers(0, 10_000), st.floats(0.2, 1.0))
@settings(max_examples=30, deadline=None)
def test_the_divergence_equals_the_slow_sum(seed, share):
    values = np.random.default_rng(seed).normal(0.2, 1, 5_000).astype(np.float32)
    histogram = counted(values)
    edges, counts = histogram.filled()
    middles = edges + histogram.width / 2
    low, high = float(values.min()) * share, float(values.max()) * share
    (found,) = divergence(middles, counts, symmetric=False)(np.array([[low, high]]))
    assert found == pytest.approx(slow_divergence(middles, counts, low, high), abs=1e-9)
    assert found >= -1e-12


def test_the_search_keeps_the_whole_range_where_nothing_is_gained():
    def equal(ranges):
        return np.zeros(len(ranges))

    def widest(ranges):
        return ranges[:, 0] - ranges[:, 1]

    assert search(widest, -1.0, 3.0, symmetric=False) == (-1.0, 3.0)
    assert search(equal, -1.0, 3.0, symmetric=True) == (-3.0, 3.0)
    assert search(equal, 0.0, 0.0, symmetric=False) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 3, 4, 5), 1), ((1, 3, 8, 8), 1), ((6, 3), -1), ((2, 5, 3), -1)]
)
def test_channels_are_told_apart(shape, axis):
    source = np.random.default_rng(8)
    arrays = [source.normal(size=shape).astype(np.float32) * 3 for _ in range(3)]
    observer = Observer(axis, histogram=True)
    assert all(observer.update(array) for array in arrays)
    observer.end_group()
    found = observer.channels()
    moved = np.concatenate([np.moveaxis(array, axis, 0).reshape(3, -1) for array in arrays], 1)
    np.testing.assert_allclose(found.mean, moved.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.peak, np.abs(moved).max(1))
    seen = observer.range()
    assert (seen.low, seen.high) == (moved.min(), moved.max())
    assert {"mse", "entropy", "choose", "percentile-99.99", "mse-symmetric"} <= set(seen.ranges)
