"""What changed between two builds, claimed only where the two documents show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgedeploy.bench.compare import LEAST_DIFFERENCE_RATIO
from edgedeploy.report import figures
from edgedeploy.report.document import (
    BenchSummary,
    BuildDocument,
    Interval,
    MetricReport,
    TargetReport,
)

Quantity = Literal["verdict", "size", "metric", "latency"]
Finding = Literal["better", "worse", "same", "no difference shown", "not comparable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One quantity of one target in both builds.

    Attributes:
        before, after: As text, with interval and n where there are any.
        finding: About ``after``. ``no difference shown`` is no proof of equality.
        reason: Why it is not comparable, or what limits the finding.
    """

    model: str
    target: str
    quantity: Quantity
    before: str
    after: str
    finding: Finding
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All changes, and the ``model target`` pairs that stand in one build only."""

    before: str
    after: str
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    @property
    def worse(self) -> tuple[Change, ...]:
        """The changes for the worse; a target that went missing is none of these."""
        return tuple(item for item in self.changes if item.finding == "worse")

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        return {"schema": 1, **asdict(self), "changes": [asdict(item) for item in self.changes]}


def compare(before: BuildDocument, after: BuildDocument) -> Comparison:
    """Return what changed from one build to another, target by target."""
    first, second = dict(_targets(before)), dict(_targets(after))
    changes: list[Change] = []
    for model, target in first.keys() & second.keys():
        one, other = first[model, target], second[model, target]
        about = {"model": model, "target": target}
        changes += [_verdict(about, one, other), _size(about, one, other)]
        changes += [_metric(about, one, other), _latency(about, one.bench, other.bench)]
    order: tuple[Quantity, ...] = ("verdict", "size", "metric", "latency")
    changes.sort(key=lambda item: (item.model, item.target, order.index(item.quantity)))
    return Comparison(
        before=_named(before),
        after=_named(after),
        changes=tuple(changes),
        only_before=tuple(sorted(" ".join(key) for key in first.keys() - second.keys())),
        only_after=tuple(sorted(" ".join(key) for key in second.keys() - first.keys())),
    )


def _named(document: BuildDocument) -> str:
    return f"{document.profile} of {document.created}"


def _targets(document: BuildDocument) -> Iterator[tuple[tuple[str, str], TargetReport]]:
    for _, model in document.sections:
        for target in model.targets:
            yield (model.name, target.target), target


def _verdict(about: dict[str, str], one: TargetReport, other: TargetReport) -> Change:
    ranks = ("failed", "refused", "accepted")
    finding = _better(ranks.index(other.verdict) - ranks.index(one.verdict))
    return _change(about, "verdict", one.verdict, other.verdict, finding)


def _size(about: dict[str, str], one: TargetReport, other: TargetReport) -> Change:
    texts = (figures.size(one.size_bytes), figures.size(other.size_bytes))
    if one.size_bytes is None or other.size_bytes is None:
        return _change(about, "size", *texts, "not comparable", "built in one of the two only")
    finding = _better(one.size_bytes - other.size_bytes)
    reason = figures.change(other.size_bytes, one.size_bytes) if finding != "same" else ""
    return _change(about, "size", *texts, finding, reason)


def _metric(about: dict[str, str], one: TargetReport, other: TargetReport) -> Change:
    first = one.evaluation.metric if one.evaluation else None
    second = other.evaluation.metric if other.evaluation else None
    texts = (_metric_text(first), _metric_text(second))
    if first is None or second is None or first.value is None or second.value is None:
        return _change(about, "metric", *texts, "not comparable", "not evaluated in both")
    if first.name != second.name:
        return _change(about, "metric", *texts, "not comparable", "the metrics differ")
    sign = 1 if first.higher_is_better else -1
    if first == second:
        return _change(about, "metric", *texts, "same")
    apart = _apart(_interval(first), _interval(second))
    if apart is None:
        return _change(about, "metric", *texts, "not comparable", "no confidence interval")
    reason = "" if apart else "the confidence intervals overlap"
    return _change(about, "metric", *texts, _shown(apart * sign), reason)


def _metric_text(report: MetricReport | None) -> str:
    if report is None or report.value is None:
        return figures.NONE
    shown = figures.interval(_interval(report), *figures.scale(report))
    return f"{figures.metric_name(report.name)} {shown}, n={report.n}"


def _interval(report: MetricReport) -> Interval:
    return Interval(value=report.value or 0.0, low=report.low, high=report.high)


def _latency(about: dict[str, str], one: BenchSummary | None, other: BenchSummary | None) -> Change:
    texts = tuple(
        figures.NONE if item is None else figures.latency(item, "p50_ms") for item in (one, other)
    )
    before, after = texts
    why = _incomparable(one, other)
    if why or one is None or other is None or one.p50_ms is None or other.p50_ms is None:
        return _change(about, "latency", before, after, "not comparable", why)
    apart = _apart(one.p50_ms, other.p50_ms)
    ratio = other.p50_ms.value / one.p50_ms.value
    if not apart or abs(ratio - 1) < LEAST_DIFFERENCE_RATIO:
        reason = f"x{figures.number(ratio)}"
        return _change(about, "latency", before, after, "no difference shown", reason)
    reason = f"x{figures.number(ratio)}, measured in different sessions"
    return _change(about, "latency", before, after, _shown(-apart), reason)


def _incomparable(one: BenchSummary | None, other: BenchSummary | None) -> str:
    """Return why two latencies may not be held against each other, or nothing."""
    if one is None or other is None:
        return "not measured in both"
    if one.p50_ms is None or other.p50_ms is None:
        return "too few samples"
    if "unreliable" in (one.validity, other.validity):
        return "unreliable: " + "; ".join(dict.fromkeys((*one.reasons, *other.reasons)))
    for name in ("evidence", "cpu", "threads"):
        first, second = getattr(one, name), getattr(other, name)
        if first != second:
            return f"{name} differs: {first}, {second}"
    return ""


def _apart(one: Interval, other: Interval) -> int | None:
    """Return 1 (-1) when ``other`` lies wholly above (below) ``one``, 0 when they overlap."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None
    return (other.low > one.high) - (other.high < one.low)


def _better(sign: float) -> Finding:
    return "better" if sign > 0 else "worse" if sign < 0 else "same"


def _shown(sign: float) -> Finding:
    return _better(sign) if sign else "no difference shown"


def _change(
    about: dict[str, str],
    quantity: Quantity,
    before: str,
    after: str,
    finding: Finding,
    reason: str = "",
) -> Change:
    return Change(
        model=about["model"],
        target=about["target"],
        quantity=quantity,
        before=before,
        after=after,
        finding=finding,
        reason=reason,
    )


def comparison_text(comparison: Comparison) -> str:
    """Return the comparison as plain text that ends in a line feed."""
    lines = [f"before: {comparison.before}", f"after:  {comparison.after}"]
    place = ""
    for item in comparison.changes:
        if place != f"{item.model} {item.target}":
            place = f"{item.model} {item.target}"
            lines += ["", place]
        reason = f" ({item.reason})" if item.reason else ""
        lines.append(f"  {item.quantity}: {item.before} -> {item.after}: {item.finding}{reason}")
    lines += [f"\nonly before: {name}" for name in comparison.only_before]
    lines += [f"\nonly after: {name}" for name in comparison.only_after]
    count = len(comparison.worse)
    lines.append(f"\n{count} worse" if count else "\nnothing worse")
    return figures.printable("\n".join(lines) + "\n")
