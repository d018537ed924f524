"""The record of two artifacts on the same samples: what each is worth by group, and how surely.

Standard library only: gates and reports read these records without NumPy.

A *group* is all samples, a class, or a slice (samples that share a value of a column or of a
function of their names). Each is one hypothesis, "neither artifact is better here", and all
hypotheses of a comparison are judged together by Holm's procedure (Scandinavian Journal of
Statistics 6, 1979): the chance that any difference is claimed where there is none is at most
:data:`ALPHA`, however many groups there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgedeploy.parity.evaluation import Interval
from edgedeploy.runner import Evidence

ALPHA = 0.01
"""The chance of a false alarm that a whole comparison may have."""

LEAST_SAMPLES = 8
"""Smaller groups are not tested: with 7 samples even 7 losses have p = 2 / 2^7 > 1 %."""

GroupKind = Literal["all", "class", "slice"]
Test = Literal["mcnemar", "randomization", "too few samples", "not defined"]
FlipKind = Literal["lost", "gained", "worse", "better"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group of samples as both artifacts answer them.

    Attributes:
        kind: What makes the group.
        name: The class, or ``column=value``; empty for all samples.
        n: Scored samples; of a class, its true samples or boxes.
        before, after: The metric of the old and of the new artifact; None where not defined.
        interval: 95 % confidence interval of ``after - before``; None with too few samples.
        lost, gained: Samples that only the old, or only the new artifact has right; None where a
            sample is not simply right or wrong, or is no whole member of the group.
        test: ``mcnemar`` (exact), ``randomization``, or why there is none.
        p: Two-sided; None where it was not tested.
    """

    kind: GroupKind
    name: str
    n: int
    before: float | None
    after: float | None
    interval: Interval | None
    lost: int | None
    gained: int | None
    test: Test
    p: float | None

    @property
    def delta(self) -> float | None:
        """``after - before``; None where either is not defined."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def shown(self) -> str:
        """The group's name for people, such as ``class 7``."""
        return {"all": "all samples", "class": f"class {self.name}", "slice": self.name}[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A sample that the two artifacts answer differently.

    Attributes:
        sample: Its name.
        what: ``lost`` and ``gained`` where a sample is right or wrong, else ``worse``, ``better``.
        before, after: The metric over this sample alone; None where that is not defined.
    """

    sample: str
    what: FlipKind
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Two artifacts on the same samples.

    Attributes:
        metric: Its name.
        unit: ``fraction`` or ``score``.
        higher_is_better: The metric's direction.
        before_evidence, after_evidence: Where the answers come from.
        groups: All samples first, then classes, then slices.
        flips: Losses first; where samples are not simply right or wrong, the largest change first.
    """

    metric: str
    unit: str
    higher_is_better: bool
    before_evidence: Evidence
    after_evidence: Evidence
    groups: tuple[Group, ...]
    flips: tuple[Flip, ...]

    def loss(self, group: Group) -> float | None:
        """Return by how much the new artifact is worse; below zero where it is better."""
        delta = group.delta
        return delta if delta is None or not self.higher_is_better else 0.0 - delta

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Paired:
        """Return the record that :meth:`to_json` wrote."""
        groups = tuple(
            Group(
                **{**item, "interval": Interval(**item["interval"]) if item["interval"] else None}
            )
            for item in data["groups"]
        )
        flips = tuple(Flip(**item) for item in data["flips"])
        return cls(**{**data, "groups": groups, "flips": flips})


def holm(values: Sequence[float]) -> list[float]:
    """Return adjusted p-values in the order given: a hypothesis falls where its own is <= alpha.

    Args:
        values: One p-value per hypothesis.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    found, highest = [1.0] * len(values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        found[place] = highest
    return found
