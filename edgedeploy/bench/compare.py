"""Which of two artifacts is faster, said only where the measurement shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from edgedeploy.bench.statistics import Estimate, ratio_of_blocks

Verdict = Literal["faster", "slower", "no difference shown"]

LEAST_DIFFERENCE_RATIO = 0.02
"""Differences below 2 % are never claimed: layout and alignment alone move latency that much."""


def block_ratio(windows: Sequence[Mapping[str, Any]], one: str, other: str) -> Estimate | None:
    """Return the latency ratio ``one / other`` over the repetitions of an interleaved run.

    Args:
        windows: The windows of ``loop.py``'s result.
        one: Artifact id in the numerator.
        other: Artifact id in the denominator.

    Returns:
        None with fewer than nine repetitions that hold both.
    """
    first, second = _repetition_medians(windows, one), _repetition_medians(windows, other)
    shared = sorted(first.keys() & second.keys())
    return ratio_of_blocks([first[key] for key in shared], [second[key] for key in shared])


def _repetition_medians(windows: Sequence[Mapping[str, Any]], artifact: str) -> dict[int, float]:
    import numpy as np

    found: dict[int, list[Any]] = {}
    for window in windows:
        if window["artifact"] == artifact:
            found.setdefault(window["repetition"], []).append(window["samples_ns"])
    # The mean of the two windows' medians cancels linear drift within the repetition (ABBA).
    return {
        repetition: float(np.mean([np.median(samples) for samples in parts]))
        for repetition, parts in found.items()
    }


def noise_floor_ratio(same: Estimate) -> float:
    """Return the largest difference that an A/A run (one artifact against itself) leaves open."""
    return max(abs(same.low - 1), abs(same.high - 1))


def verdict(ratio: Estimate, noise_floor: float = 0.0) -> Verdict:
    """Return what a latency ratio ``this / that`` shows about *this*.

    Args:
        ratio: With its confidence interval.
        noise_floor: Of the same machine, from :func:`noise_floor_ratio`.
    """
    least = max(LEAST_DIFFERENCE_RATIO, noise_floor)
    if ratio.low <= 1 <= ratio.high or abs(ratio.value - 1) < least:
        return "no difference shown"
    return "faster" if ratio.value < 1 else "slower"
