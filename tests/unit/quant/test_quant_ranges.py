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


def slow_divergence(values, counts, low, high, steps=255):
    """The same divergence, bin by bin."""
    scale = (high - low) / steps
    kept = [(v, float(c)) for v, c in zip(values, counts, strict=True)]
    kept.remove(min(kept, key=lambda item: abs(item[0])))
    inside = [item for item in kept if low <= item[0] <= high]
    if not inside:
        return math.inf
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


SHAPES = st.sampled_from(["normal", "laplace", "heavy", "uniform", "relu", "outlier", "two"])


def drawn(shape: str, seed: int, count: int) -> np.ndarray:
    """Values of a distribution as activations have them, of any scale and place."""
    source = np.random.default_rng(seed)
    values = {
        "normal": lambda: source.normal(0, 1, count),
        "laplace": lambda: source.laplace(0, 1, count),
        "heavy": lambda: source.standard_t(2.5, count),
        "uniform": lambda: source.uniform(-1, 1, count),
        "relu": lambda: np.maximum(source.normal(0, 1, count), 0),
        "outlier": lambda: np.append(source.normal(0, 1, count - 2), [30, -50]),
        "two": lambda: source.normal(0, 0.2, count) + source.choice([-2, 3], count),
    }[shape]()
    return (values * 10 ** source.uniform(-3, 3)).astype(np.float32)


def ranges_of(values: np.ndarray) -> dict[str, tuple[float, float]]:
    both = (float(values.min()), float(values.max()))
    return derive(counted(values), {"minmax": both, "average": both})


@given(SHAPES, st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=60)
def test_a_quantile_has_its_share_of_the_elements_below_it(shape, seed, share):
    values = np.sort(drawn(shape, seed, 500))
    histogram = counted(values)
    found, rank = histogram.quantile(share), share * (values.size - 1)
    assert np.searchsorted(values, found + histogram.width, side="right") >= rank
    assert np.searchsorted(values, found - histogram.width, side="left") <= rank + 1


@given(SHAPES, st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_every_range_lies_in_what_was_seen_and_percentiles_nest(shape, seed):
    values = drawn(shape, seed, 3000)
    found = ranges_of(values)
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    for name, (start, end) in found.items():
        peak = max(-low, high)
        least, most = (-peak, peak) if name.endswith("-symmetric") else (low, high)
        assert least <= start <= end <= most, name
    nested = [found[f"percentile-{it}"] for it in ("99.9", "99.99", "99.999")]
    for inner, outer in zip(nested, [*nested[1:], found["minmax"]], strict=True):
        assert outer[0] <= inner[0] and inner[1] <= outer[1]


@given(SHAPES, st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=20)
def test_the_mse_range_of_any_shape_is_near_the_best_of_a_grid(shape, seed, symmetric):
    values = drawn(shape, seed, 3000)
    chosen = ranges_of(values)["mse-symmetric" if symmetric else "mse"]
    low, high = float(values.min()), float(values.max())
    grid = np.linspace(0.05, 1, 20)
    best = min(quantized_error(values, low * a, high * b, symmetric) for a in grid for b in grid)
    assert quantized_error(values, *chosen, symmetric) <= 1.1 * best


@given(SHAPES, st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_the_entropy_range_has_the_least_divergence_of_all(shape, seed):
    """Brute force: every share of the whole symmetric range, each summed bin by bin."""
    values = drawn(shape, seed, 400)
    histogram = counted(values)
    edges, counts = histogram.filled()
    middles = np.clip(edges + histogram.width / 2, values.min(), values.max())
    peak = float(np.abs(values).max())
    chosen = ranges_of(values)["entropy-symmetric"]
    every = [
        slow_divergence(middles, counts, -peak * share, peak * share, 254)
        for share in 1 - np.arange(60) / 64
    ]
    assert slow_divergence(middles, counts, *chosen, 254) <= min(every) + 1e-9


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
