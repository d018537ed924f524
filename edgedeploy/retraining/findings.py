"""What a comparison of a release with the last build comes to: findings, regressions. Pure.

A group of samples is worse, or better, where Holm's procedure over all groups of all models on all
targets says so. A loss is a regression when it is shown so and is past what a gate allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from edgedeploy.comparing import PIPELINE, Regression, past_gates
from edgedeploy.parity.gates import delta_text, in_unit, within
from edgedeploy.parity.paired import ALPHA, Group, Paired, holm
from edgedeploy.profile.types import Delta, GateSpec
from edgedeploy.report.compare import Comparison, compare
from edgedeploy.report.document import BuildDocument, TargetReport

Finding = Literal["better", "worse", "no difference shown", "not tested"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What was paired.

    Attributes:
        model: Its name, with its shape variant; :data:`edgedeploy.comparing.PIPELINE`.
        target: The target's id.
        gates: What the profile accepts there.
    """

    model: str
    target: str
    gates: GateSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedGroup:
    """One group of samples with its verdict.

    Attributes:
        group: What was found.
        adjusted: Its p-value among all that were tested, by Holm; None where it was not tested.
        finding: About the new artifact; ``no difference shown`` is no proof of equality.
    """

    group: Group
    adjusted: float | None
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTarget:
    """A model on a target, or all of them together, released and retrained."""

    model: str
    target: str
    paired: Paired
    groups: tuple[JudgedGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrained:
    """A release against the last build.

    Attributes:
        release: Name and version of the release.
        changes: Verdicts, sizes and latencies; and metrics where samples could not be paired.
        targets: What was paired, in the order of the profile.
        not_paired: Why a model on a target was not, by ``model target``.
        regressions: What is worse past what the profile's gates allow, and shown to be so.
        unproven: What is past a gate and not shown to be worse: there are too few samples.
    """

    release: str
    changes: Comparison
    targets: tuple[PairedTarget, ...]
    not_paired: Mapping[str, str]
    regressions: tuple[Regression, ...]
    unproven: tuple[Regression, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        return {"schema": 1, **asdict(self), "changes": self.changes.to_json(), "alpha": ALPHA}


def judge(
    release: str,
    before: BuildDocument,
    now: BuildDocument,
    found: Sequence[tuple[Place, Paired]],
    not_paired: Mapping[str, str],
) -> Retrained:
    """Return what changed since a release, and what of it is a regression.

    Args:
        release: Its name and version.
        before: What it says, as a build document.
        now: What the last build said.
        found: What was paired; all groups of all of them are judged together.
        not_paired: As :class:`Retrained` has it.
    """
    targets = tuple(_with_findings(found))
    if now.pipeline is not None:  # as releases call it: they know nobody's files
        now = replace(now, pipeline=replace(now.pipeline, function=PIPELINE))
    changes = compare(before, now)
    apart = {(target.model, target.target) for target in targets}
    kept = tuple(
        change
        for change in changes.changes
        if change.quantity != "metric" or (change.model, change.target) not in apart
    )
    changes = replace(changes, changes=kept)
    gates = {(place.model, place.target): place.gates for place, _ in found}
    worse = [
        (shown, Regression(model=target.model, target=target.target, quantity=name, why=why))
        for target in targets
        for shown, name, why in _losses(target, gates[target.model, target.target])
    ]
    return Retrained(
        release=release,
        changes=changes,
        targets=targets,
        not_paired=not_paired,
        regressions=(
            *(item for shown, item in worse if shown),
            *_regressions(changes, now),
        ),
        unproven=tuple(item for shown, item in worse if not shown),
    )


def _with_findings(found: Sequence[tuple[Place, Paired]]) -> Iterator[PairedTarget]:
    """Yield every pair with its groups judged, all groups of all pairs together."""
    tested = [group.p for _, paired in found for group in paired.groups if group.p is not None]
    adjusted = iter(holm(tested))
    for place, paired in found:
        groups = tuple(
            _finding(paired, group, None if group.p is None else next(adjusted))
            for group in paired.groups
        )
        yield PairedTarget(model=place.model, target=place.target, paired=paired, groups=groups)


def _finding(paired: Paired, group: Group, adjusted: float | None) -> JudgedGroup:
    loss = paired.loss(group)
    finding: Finding = "no difference shown"
    if adjusted is None or loss is None:
        finding = "not tested"
    elif adjusted <= ALPHA and loss:
        finding = "worse" if loss > 0 else "better"
    return JudgedGroup(group=group, adjusted=adjusted, finding=finding)


def _losses(target: PairedTarget, gates: GateSpec) -> Iterator[tuple[bool, str, str]]:
    """Yield whether it is shown, what is worse and why that is too much, group by group.

    A loss that a gate allows is none; where no gate is, every loss that is shown is too much.
    """
    for judged in target.groups:
        group = judged.group
        loss = target.paired.loss(group)
        allowed = {"all": gates.metric, "class": gates.worst_class, "slice": None}[group.kind]
        if loss is None or loss <= 0:
            continue
        shown = judged.finding == "worse"
        if allowed is None:
            if shown:
                why = f"{_change(target.paired, group, None)}, and no gate says what is acceptable"
                yield True, group.shown, why
        elif not within(allowed, in_unit(loss, group.before or 0.0, allowed.unit)):
            limit = delta_text(allowed.amount, allowed.unit)
            why = f"{_change(target.paired, group, allowed)}, the gate allows {limit}"
            yield shown, group.shown, why if shown else f"{why}; not shown, n = {group.n}"


def _change(paired: Paired, group: Group, allowed: Delta | None) -> str:
    unit = allowed.unit if allowed else "pt" if paired.unit == "fraction" else "abs"
    amount = in_unit(group.delta or 0.0, group.before or 0.0, unit)
    return f"{paired.metric} changed by {delta_text(amount, unit)}"


def _regressions(changes: Comparison, now: BuildDocument) -> Iterator[Regression]:
    """Yield what is worse past a gate and needs no samples."""
    reports: dict[tuple[str, str], TargetReport] = {
        (model.name, target.target): target for _, model in now.sections for target in model.targets
    }
    for change in changes.changes:
        report = reports[change.model, change.target]
        gates = {gate.gate: gate for gate in report.gates}
        if change.quantity == "size" and "size" not in gates:
            continue  # a few bytes more are no regression where nobody asks for fewer
        why = past_gates(change, gates, report.size_bytes, report.bench)
        if why is not None:
            yield Regression(
                model=change.model, target=change.target, quantity=change.quantity, why=why
            )
