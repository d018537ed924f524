"""Latency statistics that claim no more than the samples show.

Samples are durations of single inferences in ns. They are neither independent nor normal, so
nothing here assumes normality, and nothing drops an "outlier": a slow inference was slow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
"""Of every interval that is reported; simulated coverage: tests/unit/bench."""

FLOOR_CONFIDENCE = 0.99
"""Of the least sample counts below which a percentile is not reported."""

LEAST_BLOCKS = 9
"""Blocks (windows, repetitions) below which no interval over blocks is reported."""


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

    Successive inferences resemble each other (clock, caches, neighbours), so ``n`` samples say
    less than ``n`` independent ones would. The ranks of the bounds are those of the number of
    independent samples that would say as much: ``n`` over the correlation time of the indicator
    "not above the percentile" (Heidelberger and Lewis, Quantile Estimation in Dependent Sequences,
    Operations Research 32(1), 1984).

    Args:
        samples: Durations in the order in which they were measured, shape ``[n]``.
        quantile: Between 0 and 1, such as 0.99.

    Returns:
        None when they say less than :func:`least_samples` independent ones would.
    """
    import numpy as np

    count, least = len(samples), least_samples(quantile)
    if count < least:
        return None
    ordered = np.sort(samples)
    value = float(ordered[math.ceil(quantile * count) - 1])
    effective = int(count / correlation_time(samples <= value))
    bounds = order_bounds(effective, quantile, CONFIDENCE) if effective >= least else None
    if bounds is None:
        return None
    low = math.floor(bounds[0] / effective * count)
    high = math.ceil((bounds[1] + 1) / effective * count) - 1
    return Estimate(value=value, low=float(ordered[low]), high=float(ordered[min(high, count - 1)]))


def correlation_time(series: np.ndarray) -> float:
    """Return how many successive values of a series say as much as one independent value, >= 1.

    It is the integrated autocorrelation time ``1 + 2 sum(rho_k)``, the sum cut by Geyer's initial
    monotone sequence (Practical Markov Chain Monte Carlo, Statistical Science 7(4), 1992, section
    3.3), plus twice its standard error (Sokal, Monte Carlo Methods in Statistical Mechanics,
    1996, eq. 3.19): of a short series rather too long a time is taken than too short a one.

    Args:
        series: Numbers or truth values, in order, shape ``[n]``.
    """
    import numpy as np

    count = len(series)
    centred = series - np.mean(series)
    power = float(centred @ centred)
    if power == 0:
        return 1.0
    size = 1 << (2 * count - 1).bit_length()  # zeros enough that the ends do not meet
    spectrum = np.fft.rfft(centred, size)
    correlations = np.fft.irfft(spectrum * spectrum.conj(), size)[:count] / power
    pairs = correlations[0 : count - 1 : 2] + correlations[1:count:2]
    ends = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: ends[0] if len(ends) else None])
    time = max(1.0, 2 * float(pairs.sum()) - 1)
    return min(time * (1 + 2 * math.sqrt(2 * (4 * len(pairs) + 1) / count)), float(count))


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
