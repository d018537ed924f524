"""Whether a measurement may be believed: a verdict apart from the figures, with its reasons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    from edgedeploy.bench.job import BenchPlan

LEAST_CLOCK_RATIO = 0.95
"""Of the highest frequency; a busy CPU below it is throttled."""

SLOW_WINDOWS_RATIO = 0.1
"""Windows that may lie below it (a reading may fall into a gap between two inferences)."""

CHANGE_RATIO = 0.05
"""Largest change of the latency between an earlier and a later part of the run ..."""

CHANGE_ERRORS = 4
"""... unless it is within so many standard errors of the windows' noise."""

LEAST_SIDE_RATIO = 0.1
"""Of the windows: what is shorter than this is a disturbance and not another level."""

LEAST_SIDE_WINDOWS = 3

OTHER_LOAD_RATIO = 0.1
"""CPU time that others may use, of all CPUs; at least a quarter of one CPU is allowed."""

STEAL_RATIO = 0.02
"""CPU time that the hypervisor may withhold, of all CPUs."""

# Cooling devices that act without slowing anything down.
# (A Jetson's hot surface alert tells of 70 degrees and does no more.)
_HARMLESS_COOLING = ("fan", "lcd", "backlight", "charger", "battery", "hot-surface")


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """The verdict; each reason starts with a fixed word and a colon (``throttled: ...``)."""

    reasons: tuple[str, ...]

    @property
    def verdict(self) -> Literal["valid", "unreliable"]:
        """``valid`` when nothing speaks against the measurement."""
        return "unreliable" if self.reasons else "valid"

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON data."""
        return {"verdict": self.verdict, "reasons": list(self.reasons)}


def judge(result: Mapping[str, Any], artifact: str, plan: BenchPlan, threads: int) -> Validity:
    """Return the verdict on one artifact of a finished run.

    Args:
        result: What ``loop.py`` printed.
        artifact: Id of the artifact within it.
        plan: What was asked for.
        threads: Threads of the artifact.
    """
    import numpy as np

    windows = [item for item in result["windows"] if item["artifact"] == artifact]
    samples = np.concatenate([np.zeros(0), *(item["samples_ns"] for item in windows)])
    evidence = [item["environment"] for item in windows]
    facts, before = result["environment"], result["before"]
    about = next(item for item in result["artifacts"] if item["id"] == artifact)
    warm = about["warmup"]
    # A CPU that waits for a GPU may slow down: it is not what computes.
    waits = about["warm"]["device_bytes"] is not None
    found = [
        _not_enough(samples, plan),
        None if warm["stable"] else "warm-up: the latency had not settled when it ended",
        _change(windows),
        _cooling(evidence, facts),
        None if waits else _clock(evidence, facts, threads),
        _gpu(evidence, facts),
        _counters(evidence, before),
        _other_load(result, threads),
    ]
    return Validity(reasons=tuple(reason for reason in found if reason))


def _not_enough(samples: np.ndarray, plan: BenchPlan) -> str | None:
    measured_s = float(samples.sum()) / 1e9
    if len(samples) >= plan.min_count and measured_s >= plan.min_s:
        return None
    return (
        f"too short: {len(samples)} inferences in {measured_s:.1f} s"
        f" of at least {plan.min_count} and {plan.min_s:g} s"
    )


def _change(windows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what is wrong when the latency drifted, or stepped to another level for good.

    The windows' medians are split at every place with enough of them on both sides; a change is
    told when two sides differ by ``CHANGE_RATIO`` and by more than their noise. The noise is
    taken from successive differences, which a drift or one step hardly touches (von Neumann 1941).
    """
    import numpy as np

    medians = np.array([np.median(item["samples_ns"]) for item in windows])
    count = len(medians)
    least = max(LEAST_SIDE_WINDOWS, math.ceil(LEAST_SIDE_RATIO * count))
    if count < 2 * least:
        return None
    noise = float(np.median(np.abs(np.diff(medians)))) / (NormalDist().inv_cdf(0.75) * math.sqrt(2))
    strongest, said = 0.0, None
    for cut in range(least, count - least + 1):
        before, after = float(np.median(medians[:cut])), float(np.median(medians[cut:]))
        error = noise * math.sqrt(1 / cut + 1 / (count - cut))
        if abs(after - before) <= max(CHANGE_RATIO * min(before, after), CHANGE_ERRORS * error):
            continue
        # Where the change took place: the cut at which the means are the least alike by chance.
        apart = abs(float(medians[:cut].mean() - medians[cut:].mean()))
        strength = apart * math.sqrt(cut * (count - cut))
        if strength > strongest:
            strongest, where = strength, f"after {cut / count:.0%} of the run"
            said = (
                f"throttled: slower by {after / before - 1:.0%} {where}"
                if after > before
                else f"warm-up: faster by {before / after - 1:.0%} {where}"
            )
    return said


def _cooling(evidence: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str | None:
    for position, kind in enumerate(facts["cooling"]):
        if any(word in (kind or "").lower() for word in _HARMLESS_COOLING):
            continue
        state = max((item["cooling"][position] or 0 for item in evidence), default=0)
        if state > 0:
            return f"throttled: cooling device {kind or position} was at state {state}"
    return None


def _clock(
    evidence: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], threads: int
) -> str | None:
    slow, least = 0, 1.0
    for item in evidence:
        ratios = sorted(
            (
                now / most
                for now, most in zip(item["khz"], facts["max_khz"], strict=True)
                if now and most
            ),
            reverse=True,
        )
        if not ratios:
            return None
        # As many CPUs as there are threads must be fast; the others may idle.
        ratio = ratios[min(threads, len(ratios)) - 1]
        slow += ratio < LEAST_CLOCK_RATIO
        least = min(least, ratio)
    if slow <= SLOW_WINDOWS_RATIO * len(evidence):
        return None
    return f"throttled: the clock fell to {least:.0%} of its maximum under load"


def _gpu(evidence: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str | None:
    """Return what held a GPU back.

    A Jetson's clock is held against the highest that its power mode allows; its governor may also
    have lowered it for want of work, and then the times are not the mode's either. A card seldom
    reaches its highest clock, and says itself what slows it down.
    """
    for item in evidence:
        if item["gpu_reasons"]:
            return f"throttled: the GPU's driver says {', '.join(item['gpu_reasons'])}"
    for place, gpu in enumerate(facts["gpus"]):
        if gpu["min_khz"] is None or not gpu["max_khz"]:
            continue
        clocks = [item["gpu_khz"][place] for item in evidence]
        ratios = [khz / gpu["max_khz"] for khz in clocks if khz]
        slow = sum(ratio < LEAST_CLOCK_RATIO for ratio in ratios)
        if slow > SLOW_WINDOWS_RATIO * len(evidence):
            return (
                f"throttled: the GPU's clock was at {min(ratios):.0%} of its highest; "
                "`jetson_clocks` holds it there"
            )
    return None


def _counters(evidence: Sequence[Mapping[str, Any]], before: Mapping[str, Any]) -> str | None:
    for item in evidence:
        counts = zip(item["throttle_counts"], before["throttle_counts"], strict=True)
        if any((now or 0) > (then or 0) for now, then in counts):
            return "throttled: the throttle counters rose"
        # Bits 0-3 say "now": under-voltage, frequency capped, throttled, soft temperature limit
        # (Raspberry Pi documentation, vcgencmd get_throttled).
        if any(flags & 0xF for flags in item["firmware_throttled"]):
            return "throttled: the board's firmware reports it"
    return None


def _other_load(result: Mapping[str, Any], threads: int) -> str | None:
    before, after = result["before"], result["windows"][-1]["environment"]
    cpus = result["environment"]["cpus"] or 1
    allowed = max(OTHER_LOAD_RATIO * cpus, 0.25)
    elapsed_s = (after["t_ns"] - before["t_ns"]) / 1e9
    if before["ticks"] is None or after["ticks"] is None or elapsed_s <= 0:
        load = after["load1"]
        if load is None or load <= threads + allowed:
            return None
        return f"other load: the load average was {load:.2f} with {threads} thread(s) of ours"
    spent = [now - then for now, then in zip(after["ticks"], before["ticks"], strict=True)]
    rate = result["environment"]["ticks_hz"]
    user, nice, system, _idle, _wait, irq, soft, steal = (item / rate for item in spent)
    own_s = after["own_cpu_s"] - before["own_cpu_s"]
    others = (user + nice + system + irq + soft - own_s) / elapsed_s
    if others > allowed:
        return f"other load: other processes used {others:.2f} CPUs meanwhile"
    if steal / elapsed_s > STEAL_RATIO * cpus:
        return f"other load: the hypervisor withheld {steal / elapsed_s:.2f} CPUs"
    return None
