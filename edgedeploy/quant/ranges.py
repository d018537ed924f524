"""Ranges of activations from their histograms: percentiles, least squared error, least divergence.

Sources: entropy: Migacz, 8-bit Inference with TensorRT (GTC 2017), the threshold whose quantized
distribution has the least Kullback-Leibler divergence; mse: the range whose rounding and clipping
has the least expected squared error, as in Choukroun et al., Low-bit Quantization of Neural
Networks for Efficient Inference (arXiv:1902.06822), searched over both ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgedeploy.quant.histogram import Histogram

PERCENTILES = ("percentile-99.9", "percentile-99.99", "percentile-99.999")
SYMMETRIC = "-symmetric"
"""Suffix of a method's range for a zero point in the middle, where it is another one."""

LEVELS = 255
"""Steps of 8 bits; with a symmetric range 254, 127 on each side."""

# Shares of the whole range that are tried, widest first: equal steps, so that near the whole
# range, where the best usually lies, they are dense enough for 8 bits.
SHARES = 1.0 - np.arange(60) / 64
# Afterwards each end is moved alone by these shares of itself.
MOVES = np.array([-8, -4, -2, -1, 1, 2, 4, 8]) / 64

Range = tuple[float, float]
Loss = Callable[[np.ndarray], np.ndarray]
"""From ranges, float64 ``[ranges, 2]``, to the loss of each, float64 ``[ranges]``."""


def derive(histogram: Histogram, extremes: Mapping[str, Range]) -> dict[str, Range]:
    """Return the range of a tensor by every method.

    Args:
        histogram: Of all its values, at least one.
        extremes: The ranges that need no histogram: ``minmax`` and ``average``.

    Returns:
        By method name; besides the methods of ``extremes`` all of ``PERCENTILES``, ``entropy``,
        ``mse`` and ``choose`` (of all these the one with the least squared error of 8 bits), the
        last three also with the suffix ``SYMMETRIC``.
    """
    low, high = extremes["minmax"]
    found = dict(extremes)
    for name in PERCENTILES:
        share = float(name.partition("-")[2]) / 100.0
        found[name] = (histogram.quantile(1.0 - share), histogram.quantile(share))
    edges, counts = histogram.filled()
    values = np.clip(edges + histogram.width / 2, low, high)
    for suffix, both in (("", False), (SYMMETRIC, True)):
        squared = squared_error(values, counts, both)
        found["mse" + suffix] = search(squared, low, high, both)
        found["entropy" + suffix] = search(divergence(values, counts, both), low, high, both)
        methods = [*extremes, *PERCENTILES, "entropy" + suffix, "mse" + suffix]
        losses = squared(np.array([found[name] for name in methods]))
        found["choose" + suffix] = found[methods[int(np.argmin(losses))]]
    return found


def search(loss: Loss, low: float, high: float, symmetric: bool) -> Range:
    """Return the range inside ``[low, high]`` with the least loss; of equals the widest."""
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        high = max(-low, high)
        low = -high
    if low == high:
        return low, high
    tried = np.array([low, high]) * SHARES[:, None]
    losses = loss(tried)
    place = int(np.argmin(losses))
    best, least = tried[place], losses[place]
    for end in (0, 1) if not symmetric else ():
        moved = np.tile(best, (len(MOVES), 1))
        moved[:, end] = np.clip(best[end] * (1.0 + MOVES), low, high)
        losses = loss(moved)
        place = int(np.argmin(losses))
        if losses[place] < least:
            best, least = moved[place], losses[place]
    return float(best[0]), float(best[1])


class _Steps:
    """How the steps of 8 bits over several ranges cut a tensor's bins into runs.

    Args:
        values: float64 ``[n]``, ascending, what the bins stand for.
        ranges: float64 ``[ranges, 2]``.
        symmetric: Whether zero is the middle of each, with 127 steps on each side.

    Attributes:
        low, high: The ranges with zero inside, float64 ``[ranges]``.
        grid: What the steps stand for, float64 ``[ranges, steps]``; all 0 for an empty range.
        bounds: Run ``i`` is ``values[bounds[i]:bounds[i + 1]]``, int64 ``[ranges, steps + 1]``;
            what lies beyond a range is in its first and last run.
    """

    def __init__(self, values: np.ndarray, ranges: np.ndarray, symmetric: bool) -> None:
        self.low, self.high = np.minimum(ranges[:, 0], 0.0), np.maximum(ranges[:, 1], 0.0)
        if symmetric:
            self.high = np.maximum(-self.low, self.high)
            self.low = -self.high
        levels = 254 if symmetric else LEVELS
        scale = (self.high - self.low) / levels
        shift = np.rint(np.divide(self.low, scale, out=np.zeros_like(scale), where=scale > 0.0))
        self.grid = (shift[:, None] + np.arange(levels + 1)) * scale[:, None]
        inner = np.searchsorted(values, self.grid[:, :-1] + scale[:, None] / 2)
        ends = np.zeros((len(ranges), 1), inner.dtype)
        self.bounds = np.concatenate((ends, inner, ends + len(values)), axis=1)


def squared_error(values: np.ndarray, counts: np.ndarray, symmetric: bool) -> Loss:
    """Return the function that gives the mean squared error of ranges.

    Args:
        values: float64 ``[n]``, what the bins stand for, ascending.
        counts: int64 ``[n]``.
        symmetric: As in :func:`search`.
    """
    weights = counts / counts.sum()
    sums = [_before(weights * values**power) for power in range(3)]

    def loss(ranges: np.ndarray) -> np.ndarray:
        steps = _Steps(values, ranges, symmetric)
        mass, weighted = (np.diff(part[steps.bounds]) for part in sums[:2])
        found: np.ndarray = sums[2][-1] + (steps.grid * (steps.grid * mass - 2.0 * weighted)).sum(1)
        return found

    return loss


def divergence(values: np.ndarray, counts: np.ndarray, symmetric: bool) -> Loss:
    """Return the function that gives the Kullback-Leibler divergence of ranges.

    What is clipped counts with the outermost bins; each step's elements are spread over its filled
    bins. Zeros take no part: a Relu makes any number of them, and every range holds zero exactly.
    """
    kept = values != 0.0
    kept[int(np.argmin(np.abs(values)))] = False
    values, counts = values[kept], counts[kept].astype(np.float64)
    masses, products = _before(counts), _before(_log_product(counts))
    total = masses[-1]

    def loss(ranges: np.ndarray) -> np.ndarray:
        steps = _Steps(values, ranges, symmetric)
        start = np.searchsorted(values, steps.low)
        end = np.searchsorted(values, steps.high, side="right")
        found = np.full(len(ranges), math.inf)
        usable = np.flatnonzero((steps.high > steps.low) & (start < end))
        if not usable.size:
            return found
        start, end = start[usable], end[usable]
        bounds = np.clip(steps.bounds[usable], start[:, None], end[:, None])
        bins = np.diff(bounds)
        mass = np.diff(masses[bounds])
        # The sum of t log(t / s) over the bins, t true and s spread counts: t is what was counted
        # save for what is clipped to both ends; s is the same in all bins of a step.
        spread = np.log(np.divide(mass, bins, out=np.ones_like(mass), where=bins > 0))
        rows, last = np.arange(len(usable)), bins.shape[1] - 1
        below, above = masses[start], total - masses[end]
        spent = (mass * spread).sum(axis=1)
        spent += below * spread[rows, np.argmax(bins > 0, axis=1)]
        spent += above * spread[rows, last - np.argmax(bins[:, ::-1] > 0, axis=1)]
        one = end - start == 1
        first, final = counts[start], counts[end - 1]
        truth = products[end] - products[start]
        truth += _log_product(first + below + np.where(one, above, 0.0)) - _log_product(first)
        truth += np.where(one, 0.0, _log_product(final + above) - _log_product(final))
        found[usable] = (truth - spent) / total + np.log((masses[end] - masses[start]) / total)
        return found

    return loss


def _before(amounts: np.ndarray) -> np.ndarray:
    """Return the sums of ``amounts[:i]`` for every ``i``, float64 ``[n + 1]``."""
    return np.concatenate(([0.0], np.cumsum(amounts)))


def _log_product(counts: np.ndarray) -> np.ndarray:
    """Return ``c log(c)`` of counts above 0."""
    found: np.ndarray = counts * np.log(counts)
    return found
