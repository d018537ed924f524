"""Confidence intervals (95 %) of metrics and of paired differences.

* One proportion: Wilson's score interval (Wilson, JASA 22, 1927).
* Paired difference of proportions: the adjusted Wald interval of Bonett & Price (Journal of
  Educational and Behavioral Statistics 37, 2012), which does not shrink to nothing at zero flips.
* All else: percentile bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap, 1993,
  chapter 13) with a fixed seed; whole sequences are drawn, as their samples are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgedeploy.parity.evaluation import Interval

Z_95 = 1.959963984540054
SEED = 20_260_101
MIN_BLOCKS = 10
_CHUNK_NUMBERS = 1_000_000


def wilson(hits: int, n: int) -> Interval:
    """Return the interval of a proportion of ``hits`` in ``n`` independent trials."""
    share, zz = hits / n, Z_95 * Z_95
    centre = (share + zz / (2 * n)) / (1 + zz / n)
    half = Z_95 / (1 + zz / n) * math.sqrt(share * (1 - share) / n + zz / (4 * n * n))
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half), method="wilson")


def paired_proportions(gained: int, lost: int, n: int) -> Interval:
    """Return the interval of ``(gained - lost) / n`` for ``n`` samples judged twice."""
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z_95 * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return Interval(
        low=max(-1.0, up - down - half), high=min(1.0, up - down + half), method="bonett-price"
    )


def blocks(sequences: Sequence[str | None]) -> np.ndarray:
    """Return the block number of each sample, int64 ``[n]``: one per sequence or lone sample."""
    numbers: dict[str, int] = {}
    found = np.empty(len(sequences), np.int64)
    count = 0
    for position, name in enumerate(sequences):
        if name is not None and name in numbers:
            found[position] = numbers[name]
            continue
        if name is not None:
            numbers[name] = count
        found[position] = count
        count += 1
    return found


def bootstrap(
    values: Callable[[np.ndarray], np.ndarray], block_of: np.ndarray, resamples: int
) -> Interval | None:
    """Return the percentile interval of a statistic.

    Args:
        values: Weights ``[b, n]`` -> statistic ``[b]``; NaN where it is not defined.
        block_of: Block number of each sample ``[n]``.
        resamples: How many.

    Returns:
        None when there are too few blocks (under 10) to say anything.
    """
    count = int(block_of.max(initial=-1)) + 1
    if count < MIN_BLOCKS:
        return None
    drawn = np.concatenate([values(weights) for weights in _weights(block_of, count, resamples)])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < resamples / 2:
        return None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(low=float(low), high=float(high), method="bootstrap")


def _weights(block_of: np.ndarray, count: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield how often each sample is drawn, ``[chunk, n]``, in chunks of bounded size."""
    random = np.random.default_rng(SEED)
    chunk = max(1, _CHUNK_NUMBERS // len(block_of))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        picks = random.integers(0, count, (rows, count))
        flat = picks + count * np.arange(rows)[:, None]
        times = np.bincount(flat.reshape(-1), minlength=rows * count).reshape(rows, count)
        yield times[:, block_of].astype(np.float64)
