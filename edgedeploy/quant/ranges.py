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
SHARES = tuple(1.0 - step / 64 for step in range(60))
# Afterwards each end is moved alone by these shares of itself.
MOVES = (-1 / 8, -1 / 16, -1 / 32, -1 / 64, 1 / 64, 1 / 32, 1 / 16, 1 / 8)

Range = tuple[float, float]
Loss = Callable[[float, float], float]


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
        losses = [squared(*found[name]) for name in methods]
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
    candidates = [(low * share, high * share) for share in SHARES]
    best = min(candidates, key=lambda item: loss(*item))
    least = loss(*best)
    for end in (0, 1) if not symmetric else ():
        for move in MOVES:
            moved = [*best]
            moved[end] = min(max(best[end] * (1.0 + move), low), high)
            found = loss(*moved)
            if found < least:
                best, least = (moved[0], moved[1]), found
    return best


def _levels(low: float, high: float, symmetric: bool) -> tuple[float, float, float]:
    """Return (scale, low, high) of 8 bits over a range, with zero on a step."""
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        high = max(-low, high)
        return high / 127.0, -high, high
    scale = (high - low) / LEVELS
    return scale, low, high


def squared_error(values: np.ndarray, counts: np.ndarray, symmetric: bool) -> Loss:
    """Return the function that gives a range's mean squared error.

    Args:
        values: float64 ``[n]``, what the bins stand for.
        counts: int64 ``[n]``.
        symmetric: As in :func:`search`.
    """
    weights = counts / counts.sum()

    def loss(low: float, high: float) -> float:
        scale, low, high = _levels(low, high, symmetric)
        if scale == 0.0:
            return float(weights @ (values * values))
        steps = np.rint(values / scale)
        shift = np.rint(low / scale)
        np.clip(steps, shift, shift + (254 if symmetric else LEVELS), out=steps)
        error = values - steps * scale
        return float(weights @ (error * error))

    return loss


def divergence(values: np.ndarray, counts: np.ndarray, symmetric: bool) -> Loss:
    """Return the function that gives a range's Kullback-Leibler divergence.

    What is clipped counts with the outermost bins; each step's elements are spread over its filled
    bins. Zeros take no part: a Relu makes any number of them, and every range holds zero exactly.
    """
    kept = values != 0.0
    nearest = int(np.argmin(np.abs(values)))
    kept[nearest] = False
    values, counts = values[kept], counts[kept].astype(np.float64)

    def loss(low: float, high: float) -> float:
        scale, low, high = _levels(low, high, symmetric)
        inside = np.flatnonzero((values >= low) & (values <= high))
        if scale == 0.0 or not inside.size:
            return math.inf
        start, end = int(inside[0]), int(inside[-1]) + 1
        held = counts[start:end]
        truth = held.copy()
        truth[0] += counts[:start].sum()
        truth[-1] += counts[end:].sum()
        steps = np.rint(values[start:end] / scale).astype(np.int64)
        steps -= steps[0]
        mass = np.bincount(steps, held)
        spread = mass[steps] / np.bincount(steps)[steps]
        truth /= truth.sum()
        spread /= spread.sum()
        return float(truth @ np.log(truth / spread))

    return loss
