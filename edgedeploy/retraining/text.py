"""A comparison of a release with the last build as plain text, and as Markdown for a pull request.

Every report shows all samples, whatever was shown of them, and of classes and slices those that
something is to be said of: all others are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgedeploy.comparing import Regression
from edgedeploy.parity.paired import ALPHA, Flip, Group, Paired
from edgedeploy.report import figures
from edgedeploy.report.compare import Change
from edgedeploy.report.document import Interval
from edgedeploy.report.markdown import escape
from edgedeploy.retraining.findings import JudgedGroup, PairedTarget, Retrained

LISTED_FLIPS = 20
"""Samples that a report lists; JSON has all."""

LISTED_GROUPS = 3
"""Groups without a finding that are listed, those with the largest losses."""

_MARKS = {"worse": "⛔ ", "better": "✅ "}
_COLUMNS = ("Samples", "Before", "After", "Change", "Flips", "p", "Finding")


def retrained_text(found: Retrained) -> str:
    """Return the comparison as plain text that ends in a line feed."""
    lines = [f"before: {found.release}", f"after:  {found.changes.after}"]
    for target in found.targets:
        lines += ["", f"{target.model} {target.target}: {_about(target.paired)}"]
        lines += [f"  {line}" for line in _aligned([_cells(target, item) for item in told(target)])]
        lines += [f"  {line}" for line in (*_left(target), *_flips(target.paired))]
        lines += [f"  {_changed(item)}" for item in _of(found, target)]
    lines += ["", *(f"not paired: {name}: {why}" for name, why in found.not_paired.items())]
    lines += [f"only in the release: {name}" for name in found.changes.only_before]
    lines += [f"not shown: {_regression(item)}" for item in found.unproven]
    lines += [f"regression: {_regression(item)}" for item in found.regressions]
    if not found.regressions:
        lines.append("no regression")
    return figures.printable("\n".join(lines) + "\n")


def retrained_markdown(found: Retrained) -> str:
    """Return the comparison as GitHub-flavoured Markdown; all texts are escaped."""
    count = len(found.regressions)
    some = "1 regression" if count == 1 else f"{count} regressions"
    verdict = f"⛔ {some}" if count else "✅ no regression"
    lines = [f"## edgedeploy: {escape(found.changes.after)} against {escape(found.release)}"]
    lines += ["", f"**{verdict}**", ""]
    lines += [f"- ⛔ {escape(_regression(item))}" for item in found.regressions]
    lines += [f"- not shown: {escape(_regression(item))}" for item in found.unproven]
    for target in found.targets:
        title = f"{target.model} {target.target}: {_about(target.paired)}"
        lines += ["", f"### {escape(title)}", "", _row(_COLUMNS), _row(["---"] * len(_COLUMNS))]
        for item in told(target):
            mark = _MARKS.get(item.finding, "")
            *cells, last = (escape(cell) for cell in _cells(target, item))
            lines.append(_row([*cells, mark + last]))
        lines += ["", *(f"- {escape(_changed(item))}" for item in _of(found, target))]
        lines += [f"- {escape(line)}" for line in _left(target)]
        lines += _details(target.paired)
    lines += ["", *(f"- not paired: {escape(f'{n}: {w}')}" for n, w in found.not_paired.items())]
    lines += [f"- only in the release: {escape(name)}" for name in found.changes.only_before]
    lines.append(
        f"<sub>Paired by sample. p: by Holm over all groups of all targets; a finding has p <= "
        f"{ALPHA:g}. Brackets hold 95 % confidence intervals.</sub>"
    )
    return "\n".join(lines) + "\n"


def told(target: PairedTarget) -> list[JudgedGroup]:
    """Return the groups that a report lists: all samples, findings, and the largest losses."""
    first, *others = target.groups
    shown = [item for item in others if item.finding in ("worse", "better")]
    rest = sorted(
        (item for item in others if item.finding not in ("worse", "better")),
        key=lambda item: -(target.paired.loss(item.group) or 0.0),
    )
    losing = [item for item in rest if (target.paired.loss(item.group) or 0.0) > 0]
    shown.sort(key=lambda item: -(target.paired.loss(item.group) or 0.0))
    return [first, *shown, *losing[:LISTED_GROUPS]]


def _about(paired: Paired) -> str:
    origins = dict.fromkeys((paired.before_evidence, paired.after_evidence))
    return f"{figures.metric_name(paired.metric)}, {', '.join(origins)}"


def _cells(target: PairedTarget, item: JudgedGroup) -> list[str]:
    group, paired = item.group, target.paired
    p = figures.NONE if item.adjusted is None else f"{item.adjusted:.2g}"
    flips = figures.NONE
    if group.lost is not None and group.gained is not None:
        flips = f"-{group.lost} +{group.gained}"
    finding = f"not tested: {group.test}" if item.finding == "not tested" else item.finding
    before, after = (_value(value, paired) for value in (group.before, group.after))
    return [f"{group.shown}, n={group.n}", before, after, _delta(group, paired), flips, p, finding]


def _value(value: float | None, paired: Paired) -> str:
    if value is None:
        return figures.NONE
    if paired.unit == "fraction":
        return f"{figures.number(100 * value)} %"
    return figures.number(value)


def _delta(group: Group, paired: Paired) -> str:
    delta, found = group.delta, group.interval
    if delta is None:
        return figures.NONE
    unit, factor = ("pt", 100.0) if paired.unit == "fraction" else ("", 1.0)
    low, high = (None, None) if found is None else (found.low, found.high)
    return figures.interval(Interval(value=delta, low=low, high=high), unit, factor, "+")


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    table = [[title if place else "" for place, title in enumerate(_COLUMNS)], *rows]
    widths = [max(len(row[place]) for row in table) for place in range(len(_COLUMNS))]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _left(target: PairedTarget) -> Iterator[str]:
    """Yield how many groups no report lists."""
    left = len(target.groups) - len(told(target))
    if left:
        yield f"{left} further groups: no difference shown, or too few samples"


def _flips(paired: Paired) -> Iterator[str]:
    for what in ("lost", "gained", "worse", "better"):
        flips = [flip for flip in paired.flips if flip.what == what]
        if flips:
            more = f", and {len(flips) - LISTED_FLIPS} more" if len(flips) > LISTED_FLIPS else ""
            names = ", ".join(_flip(flip, paired) for flip in flips[:LISTED_FLIPS])
            yield f"{what}: {names}{more}"


def _flip(flip: Flip, paired: Paired) -> str:
    if flip.what in ("lost", "gained"):
        return flip.sample
    return f"{flip.sample} ({_value(flip.before, paired)} -> {_value(flip.after, paired)})"


def _details(paired: Paired) -> list[str]:
    lines = [f"- {escape(line)}" for line in _flips(paired)]
    if not lines:
        return []
    title = f"{len(paired.flips)} samples answer differently"
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def _of(found: Retrained, target: PairedTarget) -> list[Change]:
    return [
        item
        for item in found.changes.changes
        if (item.model, item.target) == (target.model, target.target)
    ]


def _changed(item: Change) -> str:
    reason = f" ({item.reason})" if item.reason else ""
    return f"{item.quantity}: {item.before} -> {item.after}: {item.finding}{reason}"


def _regression(item: Regression) -> str:
    return f"{item.model} {item.target}: {item.quantity}: {item.why}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
