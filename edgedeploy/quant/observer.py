"""What calibration keeps of one tensor: extremes, per-channel statistics and a histogram."""

from __future__ import annotations

import math

import numpy as np

from edgedeploy.quant.histogram import Histogram
from edgedeploy.quant.ranges import derive
from edgedeploy.quant.table import ChannelStatistics, TensorRange

SHORT = 1 << 14
"""Elements that may be added up in float32 one after the other, in some lanes: 1e-6 of the sum."""


class Observer:
    """Takes in a tensor sample by sample, in constant memory.

    A group is a sample, or a whole sequence: the frames of a recording differ far more than
    recordings do, and the loud ones must not be averaged away.

    Args:
        channel_axis: Axis whose channels are told apart, -1 for the last; None for none.
        histogram: Whether values are counted; without, there are only extremes and averages.
    """

    def __init__(self, channel_axis: int | None, histogram: bool) -> None:
        self._axis = channel_axis
        self._histogram = Histogram() if histogram else None
        self._low, self._high = math.inf, -math.inf
        self._group_low, self._group_high = math.inf, -math.inf
        self._low_sum = self._high_sum = 0.0
        self._groups = self._samples = self._elements = 0
        self._channel_sum: np.ndarray | None = None
        self._channel_peak: np.ndarray | None = None
        self._per_channel = 0

    def update(self, array: np.ndarray) -> bool:
        """Take in one sample; False says that it has an element that is not finite.

        Args:
            array: float32 of any shape; an empty one changes nothing.
        """
        if not array.size:
            return True
        grouped = self._grouped(array)
        if grouped is None:
            low, high = float(array.min()), float(array.max())
        else:
            lows, highs = _extremes(grouped)
            low, high = float(lows.min()), float(highs.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            return False
        if grouped is not None:
            self._add_channels(grouped, np.maximum(-lows, highs))
        if self._histogram is not None:
            self._histogram.add(array, low, high)
        self._group_low = min(self._group_low, low)
        self._group_high = max(self._group_high, high)
        self._samples += 1
        self._elements += array.size
        return True

    def _grouped(self, array: np.ndarray) -> np.ndarray | None:
        """Return the array as ``[outer, channels, inner]``; None without channels."""
        if self._axis is None or array.ndim < 2:
            return None
        axis = self._axis % array.ndim
        outer = math.prod(array.shape[:axis])
        return array.reshape(outer, array.shape[axis], -1)

    def _add_channels(self, grouped: np.ndarray, peaks: np.ndarray) -> None:
        # einsum is the faster one, and adds up less exactly: not for long rows.
        short = grouped.shape[2] <= SHORT
        inner = np.einsum("oci->oc", grouped) if short else grouped.sum(axis=2)
        sums = inner.sum(axis=0, dtype=np.float64)
        if self._channel_sum is None or self._channel_peak is None:
            self._channel_sum, self._channel_peak = sums, peaks
        elif len(sums) == len(self._channel_sum):
            self._channel_sum = self._channel_sum + sums
            self._channel_peak = np.maximum(self._channel_peak, peaks)
        self._per_channel += grouped.shape[0] * grouped.shape[2]

    def end_group(self) -> None:
        """Note that the samples since the last call belong together: one sample or sequence."""
        if self._group_low <= self._group_high:
            self._low = min(self._low, self._group_low)
            self._high = max(self._high, self._group_high)
            self._low_sum += self._group_low
            self._high_sum += self._group_high
            self._groups += 1
            self._group_low, self._group_high = math.inf, -math.inf

    def range(self) -> TensorRange:
        """Return what was seen; all groups must be ended.

        The averages are held inside the extremes, whatever rounding did to them.
        """
        if not self._samples:
            return TensorRange(low=0.0, high=0.0, mean_low=0.0, mean_high=0.0, count=0)
        mean_low = min(max(self._low_sum / self._groups, self._low), self._high)
        mean_high = min(max(self._high_sum / self._groups, mean_low), self._high)
        derived = {}
        if self._histogram is not None:
            extremes = {"minmax": (self._low, self._high), "average": (mean_low, mean_high)}
            derived = derive(self._histogram, extremes)
            for name in extremes:
                del derived[name]
        return TensorRange(
            low=self._low,
            high=self._high,
            mean_low=mean_low,
            mean_high=mean_high,
            count=self._samples,
            elements=self._elements // self._groups,
            ranges=derived,
        )

    def channels(self) -> ChannelStatistics | None:
        """Return the statistics of its channels; None without channels or samples."""
        if self._channel_sum is None or self._channel_peak is None:
            return None
        return ChannelStatistics(
            mean=tuple((self._channel_sum / self._per_channel).tolist()),
            peak=tuple(self._channel_peak.tolist()),
        )


def _extremes(grouped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and greatest element of each channel of ``[outer, channels, inner]``."""
    outer, channels, inner = grouped.shape
    if inner == 1:
        return grouped[:, :, 0].min(axis=0), grouped[:, :, 0].max(axis=0)
    flat, rows = grouped.reshape(-1), np.arange(0, grouped.size, inner)
    lows, highs = (np.minimum.reduceat(flat, rows), np.maximum.reduceat(flat, rows))
    return lows.reshape(outer, channels).min(axis=0), highs.reshape(outer, channels).max(axis=0)
