"""How figures read in every report: with unit, interval, n and evidence, or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from edgedeploy.errors import Diagnostic
from edgedeploy.gpu import GpuPlatform
from edgedeploy.report.document import (
    ArithmeticReport,
    BenchSummary,
    EngineReport,
    GateReport,
    Interval,
    LossReport,
    MetricReport,
    SensitiveLayer,
    TargetReport,
    UnitsReport,
)

NONE = "-"
_METRIC_NAMES = {"cer": "CER", "wer": "WER", "mse": "MSE", "map": "mAP", "f1": "F1"}


def metric_name(name: str) -> str:
    """Return a metric's name as people write it."""
    return _METRIC_NAMES.get(name, name)


def number(value: float, digits: int | None = None) -> str:
    """Return a number with three significant digits, or with ``digits`` decimals."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.2e}"
    return f"{value:.{decimals(value) if digits is None else digits}f}"


def decimals(value: float) -> int:
    """Return how many decimals show three significant digits of ``value``."""
    return max(0, 2 - int(f"{value:.2e}".split("e")[1]))


def size(value: int | None) -> str:
    """Return a size in decimal units."""
    if value is None:
        return NONE
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{number(value / factor)} {unit}"
    return f"{value} B"


def change(value: float, of: float) -> str:
    """Return a relative change such as ``-70 %``."""
    return f"{(value / of - 1) * 100:+.0f} %"


def interval_parts(
    value: Interval, unit: str = "", factor: float = 1.0, sign: str = ""
) -> tuple[str, str]:
    """Return the value with its unit, and ``[low, high]`` or nothing; ``sign="+"`` shows signs.

    All three have the same decimals, as many as the value needs.
    """
    shown = [v * factor for v in (value.value, value.low, value.high) if v is not None]
    digits = decimals(shown[0] or max(map(abs, shown)))
    texts = [f"{sign if v > 0 else ''}{number(v, digits)}" for v in shown]
    bounds = f"[{texts[1]}, {texts[2]}]" if len(texts) == 3 else ""
    return f"{texts[0]} {unit}".strip(), bounds


def interval(value: Interval, unit: str = "", factor: float = 1.0, sign: str = "") -> str:
    """Return ``value [low, high]`` in a unit."""
    return " ".join(part for part in interval_parts(value, unit, factor, sign) if part)


def scale(report: MetricReport) -> tuple[str, float]:
    """Return the unit and factor with which a metric is shown."""
    return ("%", 100.0) if report.fraction else ("", 1.0)


def latency(bench: BenchSummary, statistic: str) -> str:
    """Return a latency percentile with its interval, or ``n/a (n=..)`` with too few samples."""
    found: Interval | None = getattr(bench, statistic)
    return f"n/a (n={bench.n})" if found is None else f"{interval(found, 'ms')}, n={bench.n}"


def evidence(bench: BenchSummary) -> str:
    """Return where a latency comes from and under which conditions."""
    return f"{origin(bench)}, {threads(bench)}"


def origin(bench: BenchSummary) -> str:
    """Return the evidence of a latency and how it was measured, and whether it was imported."""
    return f"{bench.evidence}, {bench.mode}{', imported' if bench.imported else ''}"


def energy(bench: BenchSummary) -> str:
    """Return the energy of one inference with its interval, empty without one."""
    if bench.energy_j is None:
        return ""
    for unit, factor in (("J", 1.0), ("mJ", 1e3)):
        if bench.energy_j.value * factor >= 1:
            return interval(bench.energy_j, unit, factor)
    return interval(bench.energy_j, "uJ", 1e6)


def measured_on(bench: BenchSummary, created: str) -> str:
    """Return which device measured, when, and how long before the build at ``created``.

    Times are ISO 8601 with their zone.
    """
    age = datetime.fromisoformat(created) - datetime.fromisoformat(bench.created)
    old = f", {age.days} days before" if age.days > 1 else ""
    where = f"{bench.device} ({bench.cpu or 'unknown CPU'}, {bench.runtime})"
    return f"latency measured on {where} at {bench.created}{old}"


def threads(bench: BenchSummary) -> str:
    """Return the number of threads in words."""
    return "1 thread" if bench.threads == 1 else f"{bench.threads} threads"


def added_memory(bench: BenchSummary) -> int | None:
    """Return the peak resident memory above that of the runtime alone, in bytes, where known."""
    if bench.peak_bytes is None or bench.baseline_bytes is None:
        return None
    return max(0, bench.peak_bytes - bench.baseline_bytes)


def memory(bench: BenchSummary) -> str:
    """Return the peak memory and what of it the artifact added."""
    added = added_memory(bench)
    if bench.peak_bytes is None or added is None:
        return NONE
    gpu = "" if bench.device_bytes is None else f"; {size(bench.device_bytes)} of the GPU's"
    return f"{size(bench.peak_bytes)} at its peak, {size(added)} of it above the runtime alone{gpu}"


def on_gpu(bench: BenchSummary) -> str:
    """Return the GPU's own times of the parts of an inference, empty where there are none."""
    parts = (
        ("copy in", bench.upload_ms),
        ("compute", bench.compute_ms),
        ("copy out", bench.download_ms),
    )
    return ", ".join(f"{name} {number(ms)} ms" for name, ms in parts if ms is not None)


def milliseconds(value_ms: float | None) -> str:
    """Return a time, or that it is not known."""
    return NONE if value_ms is None else f"{number(value_ms)} ms"


def units(report: UnitsReport) -> str:
    """Return ``plan of 51 operations (ALL): 47 Neural Engine (98 % of the cost), 4 CPU (2 %)``.

    The cost is the runtime's estimate and is left out where it gives none.
    """
    if report.why_not is not None:
        return f"no plan of units: {report.why_not}"
    counts = Counter(item.preferred or "not told" for item in report.operations)
    costs: dict[str, float] = {}
    for item in report.operations:
        if item.cost is not None:
            unit = item.preferred or "not told"
            costs[unit] = costs.get(unit, 0.0) + item.cost
    parts = [
        f"{count} {unit}" + (f" ({costs[unit]:.0%} of the estimated cost)" if unit in costs else "")
        for unit, count in counts.most_common()
    ]
    return f"plan of {len(report.operations)} operations ({report.units}): {', '.join(parts)}"


def arithmetic(report: ArithmeticReport, *, simulated: bool = False) -> str:
    """Return ``52 of 53 layers, 99 % of multiply-adds on integers``; shares are rounded down.

    Args:
        report: The counts.
        simulated: Whether something stood in for the device that tells of it.
    """
    share = ""
    if report.macs:
        percent = 100 * report.integer_macs // report.macs
        shown = "< 1" if report.integer_macs and not percent else str(percent)
        share = f", {shown} % of multiply-adds"
    uncounted = f" ({report.uncounted_layers} not counted)" if report.uncounted_layers else ""
    stated = ", as the artifact states" if report.stated else ", SIMULATED" if simulated else ""
    return (
        f"{report.integer_layers} of {report.layers} layers{share} on integers{uncounted}{stated}"
    )


def printable(text: str) -> str:
    """Return text whose control characters cannot steer the terminal: names come from models."""
    return "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def host(facts: Mapping[str, Any]) -> str:
    """Return the machine in one line."""
    cores, ram = facts.get("cores"), facts.get("memory_bytes")
    parts = [
        facts.get("cpu"),
        f"{cores} cores" if cores else None,
        size(ram) if ram else None,
        facts.get("system"),
        f"virtual ({facts['virtual']})" if facts.get("virtual") else None,
    ]
    return ", ".join(part for part in parts if part)


def gate(item: GateReport) -> str:
    """Return a gate in one line: its state, figure, limit and reason."""
    shown = [f"gate {item.gate} {item.state}"]
    if item.value is not None and item.limit is not None:
        shown.append(f"{item.value}, limit {item.limit}")
    return ": ".join([*shown, item.reason] if item.reason else shown)


def diagnostic(item: Diagnostic) -> str:
    """Return a finding in one line: code, subject and message."""
    subject = f"{item.subject}: " if item.subject else ""
    return f"{item.code} {subject}{item.message}"


SENSITIVITY = ("SQNR", "KL", "SQNR inside", "Metric", "Multiply-adds", "Weights")
"""Titles of what :func:`sensitive` returns."""


def sensitive(layer: SensitiveLayer) -> tuple[str, ...]:
    """Return the figures of one layer's sensitivity as text."""
    inside = NONE if layer.inside_db is None else f"{layer.inside_db:.1f} dB"
    return (
        "no noise" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f} dB",
        f"{layer.kl:.2g}",
        inside,
        NONE if layer.metric is None else number(layer.metric),
        f"{layer.multiply_adds:.1%}",
        f"{layer.weights:.1%}",
    )


def engine(report: EngineReport) -> str:
    """Return what an engine is for and how it was made."""
    platform = GpuPlatform.from_json(report.platform)
    made = [size(report.size_bytes)]
    if report.way is not None:
        made.append(f"by {report.way}")
    if report.build_s is not None:
        made.append(f"in {report.build_s:.0f} s")
    if report.power_mode is not None:
        made.append(f"at {report.power_mode}")
    if report.clocks is not None:
        made.append(f"clocks {report.clocks}")
    text = f"engine of {platform.in_words()}: {', '.join(made)}"
    return f"SIMULATED, no GPU made it: {text}" if platform.simulated else text


def loss(report: LossReport, *, fraction: bool) -> str:
    """Return what one model of a refused combination loses alone, in words."""
    what = f"{report.model} alone, the other models in float"
    if report.delta is None:
        return f"{what}: not defined"
    unit, factor = ("pt", 100.0) if fraction else ("", 1.0)
    return f"{what}: {interval(report.delta, unit, factor, '+')}"


def notes(target: TargetReport, created: str) -> list[str]:
    """Return what must be said about a target beyond its figures, most important first.

    Args:
        target: What was built for it.
        created: When the build was made.
    """
    found = [diagnostic(item) for item in target.diagnostics]
    if target.arithmetic is not None:
        found.append(arithmetic(target.arithmetic, simulated=target.simulated))
    if target.units is not None:
        found.append(units(target.units))
    for item in target.gates:
        if item.state != "passed":
            found.append(gate(item))
    for candidate in target.candidates:
        chosen = candidate.state == "chosen"
        reason = candidate.about if chosen else candidate.reason
        if not chosen or (reason and len(target.candidates) > 1):
            found.append(f"{candidate.name} {candidate.state}" + (f": {reason}" if reason else ""))
    found += [*map(engine, target.engines), *target.wider, *target.notes]
    if target.bench is not None:
        if target.bench.device is not None:
            found.append(measured_on(target.bench, created))
        found += [f"latency unreliable: {reason}" for reason in target.bench.reasons]
    evaluated = target.evaluation
    if evaluated is not None and evaluated.flipped_count:
        shown_ids = ", ".join(evaluated.flipped_ids[:3])
        more = ", ..." if evaluated.flipped_count > 3 else ""
        listed = f" ({shown_ids}{more})" if shown_ids else ""
        found.append(
            f"{evaluated.flipped_count} of {evaluated.n} samples answer differently{listed}"
        )
    return found
