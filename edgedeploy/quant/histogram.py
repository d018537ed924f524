"""A streaming histogram whose bins depend on the values alone, not on their order.

All bins have one width, a power of two, and their edges are multiples of it. Where a new value
does not fit, the width doubles and neighbours are added up; bins of a coarser grid are unions of
finer ones, so the counts are exact at any time, whatever came first (but for values of less than
2**-126 bins, which count as zero).
"""

from __future__ import annotations

import math

import numpy as np

BINS = 4096
"""Bins at most; at least half of them span the range: a bin is 0.05 % of the width or less."""

CHUNK = 1 << 16
"""Elements that are counted at a time, so that temporaries stay in the processor's cache."""

LEAST_EXPONENT = -126
# A bin index must be exact in float32.
_EXACT_BITS = 23


class Histogram:
    """Counts of float32 values.

    Attributes:
        exponent: Bins are ``2 ** exponent`` wide.
        first: Number of the first bin; bin ``i`` of ``counts`` holds values ``v`` with
            ``floor(v / width) == first + i``.
        counts: int64 ``[BINS]``.
    """

    def __init__(self) -> None:
        self.exponent = LEAST_EXPONENT
        self.first = 0
        self.counts = np.zeros(BINS, np.int64)
        self._low, self._high = math.inf, -math.inf

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self.exponent)

    def add(self, values: np.ndarray, low: float, high: float) -> None:
        """Count values.

        Args:
            values: float32, any shape, at least one element, all finite.
            low: The least of them, which the caller knows.
            high: The greatest.
        """
        if not (self._low <= low and high <= self._high):
            self._hold(min(low, self._low), max(high, self._high))
        flat = values.reshape(-1)
        scale = np.float32(math.ldexp(1.0, -self.exponent))
        first = np.float32(self.first)
        scratch = np.empty(min(CHUNK, flat.size), np.float32)
        for start in range(0, flat.size, CHUNK):
            part = flat[start : start + CHUNK]
            index = scratch[: part.size]
            np.multiply(part, scale, out=index)
            if self.first:  # from 0 on, the conversion below is all that is needed
                np.floor(index, out=index)
                index -= first
            self.counts += np.bincount(index.astype(np.uint16), minlength=BINS)

    def _hold(self, low: float, high: float) -> None:
        """Widen the bins and move the window so that ``[low, high]`` lies in it."""
        exponent = max(self.exponent, _exponent(low, high))
        first = _bin(low, exponent)
        if math.isfinite(self._low):
            seen = np.flatnonzero(self.counts)
            numbers = (seen + self.first) >> (exponent - self.exponent)
            counts = np.zeros(BINS, np.int64)
            np.add.at(counts, numbers - first, self.counts[seen])
            self.counts = counts
        self.exponent, self.first, self._low, self._high = exponent, first, low, high

    def filled(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the bins that hold something.

        Returns:
            Lower edges, float64 ``[n]``, ascending; counts, int64 ``[n]``.
        """
        seen = np.flatnonzero(self.counts)
        return (seen + self.first) * self.width, self.counts[seen]

    def quantile(self, share: float) -> float:
        """Return the value below which ``share`` of the elements lie, spread evenly in its bin.

        Converges to ``numpy.quantile(values, share)``; differs by a bin's width at most wherever
        neighbouring elements are closer than that.
        """
        edges, counts = self.filled()
        ends = np.cumsum(counts)
        rank = share * float(ends[-1] - 1)
        place = int(np.searchsorted(ends, rank, side="right"))
        before = float(ends[place - 1]) if place else 0.0
        within = (rank - before + 0.5) / float(counts[place])
        value = float(edges[place]) + min(max(within, 0.0), 1.0) * self.width
        return min(max(value, self._low), self._high)


def _exponent(low: float, high: float) -> int:
    """Return the least exponent with which ``[low, high]`` fits into the bins."""
    greatest = max(abs(low), abs(high))
    exponent = LEAST_EXPONENT
    if greatest:
        exponent = max(exponent, math.frexp(greatest)[1] - _EXACT_BITS)
    if high > low:
        exponent = max(exponent, math.frexp((high - low) / BINS)[1] - 1)
    while _bin(high, exponent) - _bin(low, exponent) >= BINS:
        exponent += 1
    return exponent


def _bin(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))
