"""Whether a model answers better to another preprocessing than the declared one.

A wrong channel order or a missing mean costs accuracy and fails nowhere. The float model is run on
some of the samples as other preprocessings give them, and each is held against the declared one,
sample by sample; all of them together are judged by Holm's procedure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.data.alternatives import Alternative
from edgedeploy.data.pack import Sample
from edgedeploy.data.sources import evenly
from edgedeploy.errors import BuildError
from edgedeploy.parity.confidence import blocks
from edgedeploy.parity.evaluation import SampleScore
from edgedeploy.parity.metrics import Case, Metric
from edgedeploy.parity.paired import ALPHA, holm
from edgedeploy.parity.pairing import mcnemar, randomization
from edgedeploy.parity.scoring import defined, independent
from edgedeploy.runner import Runner, StateCarrier

UNITS = 128
"""Samples that are looked at: lone ones, pairs, or whole sequences. More would also find what
costs too little to be a mistake."""

GLANCED_UNITS, SCREENED_UNITS = 8, 32
"""What does worse on the first number of them, or no better on the second, is not looked at any
further. That makes no false alarm more likely: giving up never claims a difference."""

EXCHANGES = 2_000
"""Enough to tell 1 % after Holm over 20 alternatives; each weighs all samples anew, which is dear
where a metric sorts thousands of boxes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What became of one alternative.

    Attributes:
        alternative: What was tried.
        samples: Scored samples.
        declared, value: The metric over them, as declared and so; None where not defined.
        p: Of the difference, after Holm; 1 where the alternative is not better.
    """

    alternative: Alternative
    samples: int
    declared: float | None
    value: float | None
    p: float

    @property
    def is_better(self) -> bool:
        """Whether the difference is no accident."""
        return self.p <= ALPHA

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "inputs": list(self.alternative.inputs),
            "what": self.alternative.what,
            "write": self.alternative.write,
            "samples": self.samples,
            "declared": self.declared,
            "value": self.value,
            "p": self.p,
        }


def unit_of(sample: Sample) -> str:
    """Return what a sample counts with: its sequence, its pair, or itself alone."""
    if sample.sequence is not None:
        return f"sequence {sample.sequence}"
    if isinstance(sample.truth, Mapping) and "pair" in sample.truth:
        return f"pair {sample.truth['pair']}"
    return f"sample {sample.id}"


def chosen_samples(samples: Iterable[Sample], most: int = UNITS) -> list[list[Sample]]:
    """Return at most so many units, taken evenly, each with its samples in order."""
    units: dict[str, list[Sample]] = {}
    for sample in samples:
        units.setdefault(unit_of(sample), []).append(sample)
    found = list(units.values())
    return [found[place] for place in evenly(len(found), most)]


def try_alternatives(
    runner: Runner,
    units: Sequence[Sequence[Sample]],
    declared: Sequence[SampleScore],
    alternatives: Sequence[Alternative],
    metric: Callable[[], Metric],
    *,
    state: Sequence[tuple[str, str]] = (),
    zeros: Mapping[str, np.ndarray] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Tried]:
    """Return what the float model is worth with each alternative.

    Args:
        runner: The float model.
        units: The samples, as :func:`chosen_samples` gives them.
        declared: The float model's scores of all samples as declared.
        alternatives: What is tried.
        metric: Makes the metric anew; some keep what they have seen.
        state: ``(state input, state output)`` names.
        zeros: The state at the start of a sequence, by state input.
        progress: Told the alternatives done and their number.

    Raises:
        BuildError: The runtime failed.
        DataError: The metric cannot be used.
    """
    known = {score.id: score for score in declared}
    found = []
    for done, alternative in enumerate(alternatives):
        trial = _Trial(runner, alternative, known, metric(), StateCarrier(state, zeros or {}))
        found.append(trial.run(units))
        if progress:
            progress(done + 1, len(alternatives))
    adjusted = holm([item.p for item in found])
    return [
        Tried(
            alternative=item.alternative,
            samples=item.samples,
            declared=item.declared,
            value=item.value,
            p=p,
        )
        for item, p in zip(found, adjusted, strict=True)
    ]


class _Trial:
    """One alternative over the samples."""

    def __init__(
        self,
        runner: Runner,
        alternative: Alternative,
        known: Mapping[str, SampleScore],
        metric: Metric,
        carrier: StateCarrier,
    ) -> None:
        self._runner = runner
        self._alternative = alternative
        self._known = known
        self._metric = metric
        self._carrier = carrier
        self._before: list[SampleScore] = []
        self._after: list[SampleScore] = []

    def run(self, units: Sequence[Sequence[Sample]]) -> Tried:
        """Score some of the units, and the others as long as they look better than declared."""
        screened = evenly(len(units), SCREENED_UNITS)
        glanced = [screened[place] for place in evenly(len(screened), GLANCED_UNITS)]
        done: set[int] = set()
        try:
            for places, may_tie in ((glanced, True), (screened, False), (range(len(units)), False)):
                for place in places:
                    if place not in done:
                        self._score(units[place])
                done.update(places)
                gain = self._gain()
                if gain < 0 or (gain == 0 and not may_tie):
                    return self._tried(1.0)
        except BuildError:
            # The model does not take it at all, as with its axes in another order.
            return self._tried(1.0)
        return self._tried(self._p())

    def _score(self, unit: Sequence[Sample]) -> None:
        for sample in unit:
            tensors = sample.tensors()
            for name in self._alternative.inputs:
                tensors[name] = self._alternative.change(tensors[name])
            outputs = self._runner.run(self._carrier.feed(tensors, sample.sequence))
            self._carrier.keep(outputs)
            case = Case(id=sample.id, outputs=outputs, truth=sample.truth, geometry=sample.geometry)
            record = self._metric.score(case)
            if record is not None and sample.id in self._known:
                self._before.append(self._known[sample.id])
                self._after.append(
                    SampleScore(id=sample.id, sequence=sample.sequence, value=None, record=record)
                )

    def _values(self) -> tuple[float, float]:
        before, after = ([item.record for item in of] for of in (self._before, self._after))
        return self._metric.value(before), self._metric.value(after)

    def _gain(self) -> float:
        """Return by how much it is better so far; NaN where that is not defined yet."""
        before, after = self._values()
        return after - before if self._metric.higher_is_better else before - after

    def _tried(self, p: float) -> Tried:
        before, after = self._values()
        return Tried(
            alternative=self._alternative,
            samples=len(self._after),
            declared=defined(before),
            value=defined(after),
            p=p,
        )

    def _p(self) -> float:
        """Return the two-sided p-value of the difference; 1 where it is not defined."""
        if self._metric.proportion and self._after and independent(self._after):
            lost, gained = (sum(pair) for pair in zip(*self._flips(), strict=True))
            return mcnemar(lost, gained)
        records = [item.record for item in (*self._after, *self._before)]
        p = randomization(
            lambda weights: self._metric.values(records, weights),
            blocks([item.sequence for item in self._after]),
            EXCHANGES,
        )
        return 1.0 if p is None or math.isnan(p) else p

    def _flips(self) -> Iterator[tuple[bool, bool]]:
        """Yield for each sample whether it was lost and whether it was gained."""
        for old, new in zip(self._before, self._after, strict=True):
            before, after = self._metric.correct(old.record), self._metric.correct(new.record)
            yield bool(before and not after), bool(after and not before)
