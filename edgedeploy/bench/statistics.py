"""Latency statistics that claim no more than the samples show.

Samples are durations of single inferences in ns. They are neither independent nor normal, so
nothing here assumes normality, and nothing drops an "outlier": a slow inference was slow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
"""Of every interval that is reported."""

FLOOR_CONFIDENCE = 0.99
"""Of the least sample counts below which a percentile is not reported."""

LEAST_BLOCKS = 9
"""Blocks (windows, repetitions) below which no interval over blocks is reported."""

NOMINAL_CONFIDENCE = 0.98
"""Level at which intervals within one run are computed: neighbouring samples and windows are not
independent, and with this level the simulated coverage stays above 95 % (tests/unit/bench)."""

BOOTSTRAP_RESAMPLES = 1000
_BOOTSTRAP_GRID = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % confidence interval, in the unit of the samples."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate in a unit that is ``1 / factor`` of this one."""
        return Estimate(value=self.value * factor, low=self.low * factor, high=self.high * factor)

    def to_json(self) -> dict[str, float]:
        """Return the estimate as JSON data."""
        return {"value": self.value, "low": self.low, "high": self.high}


def least_samples(quantile: float) -> int:
    """Return how many samples a percentile needs before it is worth reporting.

    It is the least ``n`` at which the second largest sample lies above the true quantile with
    99 % confidence, that is ``P(Binomial(n, 1 - quantile) <= 1) <= 0.01``: 64 for p90, 662 for
    p99. Source: the early-stopping rule of MLPerf Inference (mlcommons/inference,
    loadgen/early_stopping.cc; Reddi et al., MLPerf Inference Benchmark, ISCA 2020).
    """
    count = 2
    while quantile**count + count * quantile ** (count - 1) * (1 - quantile) > 1 - FLOOR_CONFIDENCE:
        count += 1
    return count


def order_bounds(count: int, quantile: float, confidence: float) -> tuple[int, int] | None:
    """Return the 0-based ranks of the samples that enclose the true quantile.

    The number of samples below the true quantile is binomial whatever the distribution, which
    gives the ranks (David and Nagaraja, Order Statistics, 3rd ed., section 7.1). For independent
    samples from distributions that change over time it is less spread than that (Hoeffding 1956),
    so that drift keeps the bounds valid for the quantile of the mixture. None: too few samples.
    """
    tail = (1 - confidence) / 2
    low = _binomial_quantile(tail, count, quantile) - 1
    high = _binomial_quantile(1 - tail, count, quantile)
    return (low, high) if low >= 0 and high < count else None


def _binomial_quantile(probability: float, count: int, success: float) -> int:
    """Return the least ``k`` with ``P(Binomial(count, success) <= k) >= probability``."""
    spread = 12 * math.sqrt(count * success * (1 - success)) + 12
    first = max(0, math.floor(count * success - spread))
    term = math.exp(
        math.lgamma(count + 1)
        - math.lgamma(first + 1)
        - math.lgamma(count - first + 1)
        + first * math.log(success)
        + (count - first) * math.log1p(-success)
    )
    total, position = term, first
    while total < probability and position < count:
        term *= (count - position) / (position + 1) * success / (1 - success)
        position += 1
        total += term
    return position


def percentile(samples: np.ndarray, quantile: float) -> Estimate | None:
    """Return a percentile with bounds by order statistics, or None with too few samples.

    Args:
        samples: Durations, any order, shape ``[n]``.
        quantile: Between 0 and 1, such as 0.99.
    """
    import numpy as np

    count = len(samples)
    bounds = order_bounds(count, quantile, NOMINAL_CONFIDENCE)
    if count < least_samples(quantile) or bounds is None:
        return None
    ranks = (bounds[0], math.ceil(quantile * count) - 1, bounds[1])
    parts = np.partition(samples, ranks)
    low, value, high = (float(parts[rank]) for rank in ranks)
    return Estimate(value=value, low=low, high=high)


def median(blocks: Sequence[np.ndarray], seed: int = 0) -> Estimate | None:
    """Return the (lower) median of all samples with a bootstrap interval over whole blocks.

    Inferences within a window resemble each other (clock, caches, neighbours), so windows are
    resampled, not samples. The percentile interval is widened for the small number of blocks as
    in Hesterberg, What Teachers Should Know About the Bootstrap (2015), section 5.3.

    Args:
        blocks: One array of durations per window.
        seed: Of the resampling.

    Returns:
        None with fewer than nine blocks or fewer samples than :func:`least_samples` asks for.
    """
    import numpy as np

    pooled = np.sort(np.concatenate(blocks)) if blocks else np.zeros(0)
    count = len(pooled)
    if len(blocks) < LEAST_BLOCKS or count < least_samples(0.5):
        return None
    # The median of any resample lies between the least and the largest median of a block.
    medians = [float(np.median(block)) for block in blocks]
    ends = np.searchsorted(pooled, [min(medians), max(medians)])
    first, last = max(0, int(ends[0]) - 1), min(count - 1, int(ends[1]) + 1)
    steps = min(_BOOTSTRAP_GRID, last - first + 1)
    grid = pooled[np.linspace(first, last, steps).round().astype(np.int64)]
    below = np.stack([np.searchsorted(np.sort(block), grid, "right") for block in blocks])
    sizes = np.array([len(block) for block in blocks])
    source = np.random.default_rng(seed)
    shares = np.full(len(blocks), 1 / len(blocks))
    weights = source.multinomial(len(blocks), shares, size=BOOTSTRAP_RESAMPLES)
    needed = (weights @ sizes + 1) // 2
    # In float64: exact (counts stay below 2**53), and only float products are fast.
    counts = weights.astype(np.float64) @ below.astype(np.float64)
    found = (counts < needed[:, None]).sum(axis=1)
    resampled = np.sort(grid[np.minimum(found, steps - 1)])
    value = float(pooled[(count - 1) // 2])
    low = math.floor(_expanded_tail(len(blocks)) * BOOTSTRAP_RESAMPLES)
    return Estimate(
        value=value,
        low=min(value, float(resampled[low])),
        high=max(value, float(resampled[BOOTSTRAP_RESAMPLES - 1 - low])),
    )


def _expanded_tail(blocks: int) -> float:
    """Return the tail probability at which to read the bootstrap distribution of few blocks."""
    quantile = student_quantile((1 + NOMINAL_CONFIDENCE) / 2, blocks - 1)
    return NormalDist().cdf(-quantile * math.sqrt(blocks / (blocks - 1)))


def student_quantile(probability: float, freedom: int) -> float:
    """Return Student's t quantile (Abramowitz and Stegun 26.7.5; good to 1e-3 from 8 degrees)."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / float(freedom) ** (power + 1) for power, term in enumerate(terms))


def ratio_of_blocks(one: Sequence[float], other: Sequence[float]) -> Estimate | None:
    """Return the median ratio ``one / other`` of paired block medians with its 95 % interval.

    The pairs are the repetitions of an interleaved run, so what drifts over the run cancels. The
    interval consists of order statistics of the ratios (the sign test): with the order of the two
    in each repetition drawn at random it holds for any distribution.

    Args:
        one: Median duration per repetition.
        other: The same of what it is compared with, in the same order.

    Returns:
        None with fewer than nine repetitions.
    """
    ratios = sorted(a / b for a, b in zip(one, other, strict=True))
    count = len(ratios)
    bounds = order_bounds(count, 0.5, CONFIDENCE)
    if count < LEAST_BLOCKS or bounds is None:
        return None
    middle = (ratios[(count - 1) // 2] + ratios[count // 2]) / 2
    return Estimate(value=middle, low=ratios[bounds[0]], high=ratios[bounds[1]])
