"""The table that every report shows: one row per target, the float model first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgedeploy.report import figures
from edgedeploy.report.document import (
    BenchSummary,
    EvaluationReport,
    FloatReport,
    Interval,
    MetricReport,
    ModelReport,
    TargetReport,
)

Standing = Literal["float", "accepted", "refused", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; a cell is lines of text, the first the most important."""

    standing: Standing
    cells: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Column titles and rows."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def model_table(model: ModelReport) -> Table:
    """Return the table of one model."""
    columns = ("Target", _metric_title(model), "Change", "Size", "Latency (p50)", "Verdict")
    rows = [_float_row(model.float), *(_target_row(item, model.float) for item in model.targets)]
    return Table(columns=columns, rows=tuple(rows))


def _metric_title(model: ModelReport) -> str:
    reports = [model.float.metric, *(t.evaluation and t.evaluation.metric for t in model.targets)]
    return next((figures.metric_name(item.name) for item in reports if item), "Metric")


def _float_row(reference: FloatReport) -> Row:
    cells = (
        ("float model",),
        metric_lines(reference.metric),
        (figures.NONE,),
        (figures.size(reference.size_bytes),),
        latency_lines(reference.bench),
        ("reference",),
    )
    return Row(standing="float", cells=cells)


def _target_row(target: TargetReport, reference: FloatReport) -> Row:
    evaluated = target.evaluation
    cells = (
        _lines(target.target, target.chosen),
        metric_lines(evaluated.metric if evaluated else None),
        (*delta_lines(evaluated), *evidence_lines(evaluated)),
        size_lines(target, reference),
        latency_lines(target.bench),
        verdict_lines(target),
    )
    return Row(standing=target.verdict, cells=cells)


def metric_lines(report: MetricReport | None) -> tuple[str, ...]:
    """Return a metric's value, interval and n."""
    if report is None:
        return (figures.NONE,)
    if report.value is None:
        return ("not finite", f"n={report.n}")
    shown = Interval(value=report.value, low=report.low, high=report.high)
    return _lines(*figures.interval_parts(shown, *figures.scale(report)), f"n={report.n}")


def delta_lines(evaluated: EvaluationReport | None) -> tuple[str, ...]:
    """Return the change of the metric against the float model; without one, of the outputs."""
    if evaluated is None:
        return (figures.NONE,)
    if evaluated.metric is None:
        return parity_lines(evaluated)
    if evaluated.delta is None:
        return (figures.NONE,)
    unit, factor = ("pt", 100.0) if evaluated.metric.fraction else ("", 1.0)
    parts = figures.interval_parts(evaluated.delta, unit, factor, "+")
    flipped = None
    if evaluated.flipped_count is not None:
        flipped = f"{evaluated.flipped_count} of {evaluated.n} flipped"
    return _lines(*parts, flipped)


def evidence_lines(evaluated: EvaluationReport | None) -> tuple[str, ...]:
    """Return where the outputs come from, if not from the artifact's own runtime."""
    if evaluated is None or evaluated.evidence == "host-runtime":
        return ()
    return (evaluated.evidence,)


def parity_lines(evaluated: EvaluationReport) -> tuple[str, ...]:
    """Return how far the outputs are from the float model's: the worst sample of any output."""
    cosines = [item.stats.get("cosine_min") for item in evaluated.parity]
    largest = [item.stats.get("max_abs") for item in evaluated.parity]
    worst = min((value for value in cosines if value is not None), default=None)
    most = max((value for value in largest if value is not None), default=None)
    if worst is None and most is None:
        return (figures.NONE,)
    return _lines(
        None if worst is None else f"cosine {worst:.6f}",
        None if most is None else f"off by {most:.1e}",
        f"n={evaluated.n}",
    )


def size_lines(target: TargetReport, reference: FloatReport) -> tuple[str, ...]:
    """Return the artifact's size and how it differs from the float model's."""
    relative = None
    if target.size_bytes is not None and reference.size_bytes:
        relative = figures.change(target.size_bytes, reference.size_bytes)
    return _lines(figures.size(target.size_bytes), relative)


def latency_lines(bench: BenchSummary | None) -> tuple[str, ...]:
    """Return the median latency with interval, n, comparison and evidence."""
    if bench is None:
        return ("not measured",)
    value, bounds = "n/a", ""
    if bench.p50_ms is not None:
        value, bounds = figures.interval_parts(bench.p50_ms, "ms")
    compared, doubtful = bench.comparison, bench.validity == "unreliable"
    return _lines(
        value,
        ", ".join(_lines(bounds, f"n={bench.n}")),
        f"x{figures.interval(compared.ratio)}" if compared and compared.ratio else None,
        _said_of(compared.verdict, doubtful) if compared else None,
        figures.origin(bench),
        f"on {bench.device}" if bench.device else None,
        f"emulated: {bench.emulated}" if bench.emulated else None,
        figures.energy(bench) or None,
        ", ".join(_lines(figures.threads(bench), "unreliable" if doubtful else None)),
    )


def _said_of(verdict: str, doubtful: bool) -> str | None:
    """Return the words on a comparison; an unreliable one claims no difference."""
    return None if doubtful and verdict in ("faster", "slower") else verdict


def verdict_lines(target: TargetReport) -> tuple[str, ...]:
    """Return the verdict and how many gates stand behind it."""
    counts = [
        f"{number} {state}"
        for state in ("passed", "refused", "not judged")
        if (number := sum(gate.state == state for gate in target.gates))
    ]
    return _lines(target.verdict, "SIMULATED" if target.simulated else None, *counts)


def _lines(*parts: str | None) -> tuple[str, ...]:
    return tuple(part for part in parts if part)


def counted(verdicts: Iterable[str]) -> str:
    """Return how often each verdict occurs, such as ``2 accepted, 1 refused``."""
    found = list(verdicts)
    names = ("accepted", "refused", "failed")
    return ", ".join(f"{found.count(name)} {name}" for name in names if name in found)
