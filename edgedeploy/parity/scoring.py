"""From per-sample records to a metric with its interval, and to the paired comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.errors import DataError
from edgedeploy.parity.confidence import blocks, bootstrap, paired_proportions, wilson
from edgedeploy.parity.evaluation import (
    ClassChange,
    Interval,
    MetricResult,
    PairedResult,
    SampleScore,
)
from edgedeploy.parity.metrics import Metric

Values = Callable[[Sequence[Any], np.ndarray], np.ndarray]
"""Records ``[n]`` and weights ``[b, n]`` -> the metric of each weighting, float64 ``[b]``."""


def defined(value: float) -> float | None:
    """Return ``value``, None for NaN."""
    return None if math.isnan(value) else value


def summarise(name: str, metric: Metric, scores: Sequence[SampleScore]) -> MetricResult:
    """Return the metric over all scored samples."""
    records = [item.record for item in scores]
    return MetricResult(
        name=name,
        value=defined(metric.value(records)),
        n=len(records),
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        interval=_interval(metric, scores),
        by_class=metric.by_class(records),
        details=metric.details(records),
    )


def independent(scores: Sequence[SampleScore]) -> bool:
    """Return whether no sample belongs to a sequence."""
    return all(item.sequence is None for item in scores)


def _interval(metric: Metric, scores: Sequence[SampleScore]) -> Interval | None:
    records = [item.record for item in scores]
    if metric.proportion and records and independent(scores):
        return wilson(sum(bool(metric.correct(record)) for record in records), len(records))
    return bootstrap(
        lambda weights: metric.values(records, weights),
        blocks([item.sequence for item in scores]),
        metric.resamples,
    )


def pair(
    metric: Metric, scores: Sequence[SampleScore], reference: Sequence[SampleScore]
) -> PairedResult:
    """Return the comparison with the float model's scores of the same samples.

    Raises:
        DataError: They are scores of other samples (E290).
    """
    if [item.id for item in scores] != [item.id for item in reference]:
        raise DataError(
            "the float model's scores are of other samples",
            code="E290",
            hint="Run the build again, so that both come from the same data.",
        )
    ours, theirs = [item.record for item in scores], [item.record for item in reference]
    value, float_value = metric.value(ours), metric.value(theirs)
    flips = [
        (item.id, bool(after) - bool(before))
        for item, old, new in zip(scores, theirs, ours, strict=True)
        if (before := metric.correct(old)) is not None
        and (after := metric.correct(new)) is not None
    ]
    lost = tuple(name for name, change in flips if change < 0)
    gained = tuple(name for name, change in flips if change > 0)
    return PairedResult(
        float_value=defined(float_value),
        delta=defined(value - float_value),
        interval=difference(metric, metric.values, scores, reference),
        lost=lost,
        gained=gained,
        worst_class=_worst_class(metric, scores, reference),
    )


def difference(
    metric: Metric,
    values: Values,
    scores: Sequence[SampleScore],
    reference: Sequence[SampleScore],
) -> Interval | None:
    """Return the interval of a difference between two artifacts on the same samples.

    Args:
        metric: What both were scored with.
        values: What of it differs: the metric itself, or that of one class.
        scores: The artifact's.
        reference: The other one's.
    """
    ours, theirs = [item.record for item in scores], [item.record for item in reference]
    if metric.proportion and ours and independent(scores):
        changes = [
            bool(metric.correct(new)) - bool(metric.correct(old))
            for old, new in zip(theirs, ours, strict=True)
        ]
        return paired_proportions(changes.count(1), changes.count(-1), len(ours))
    return bootstrap(
        lambda weights: np.asarray(values(ours, weights) - values(theirs, weights)),
        blocks([item.sequence for item in scores]),
        metric.resamples,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPart:
    """The samples of a class, and what the metric of that class is.

    Attributes:
        places: Of its samples among all.
        whole: Whether these samples are of the class as a whole, or only have something of it.
        values: The metric of the class over their records.
    """

    places: Sequence[int]
    whole: bool
    values: Values


def class_part(metric: Metric, scores: Sequence[SampleScore], label: str) -> ClassPart:
    """Return what a class is judged on: its own samples, or the class's share in all of them."""
    own = [place for place, item in enumerate(scores) if metric.class_of(item.record) == label]
    if own:
        return ClassPart(places=own, whole=True, values=metric.values)
    return ClassPart(
        places=range(len(scores)),
        whole=False,
        values=lambda records, weights: metric.class_values(records, weights, label),
    )


def _worst_class(
    metric: Metric, scores: Sequence[SampleScore], reference: Sequence[SampleScore]
) -> ClassChange | None:
    ours = metric.by_class([item.record for item in scores])
    theirs = metric.by_class([item.record for item in reference])
    sign = 1 if metric.higher_is_better else -1
    losses = [
        (sign * (value - theirs[label][1]), label)
        for label, (_, value) in ours.items()
        if label in theirs
    ]
    loss, label = min(losses, default=(0.0, ""))
    if loss >= 0:
        return None
    n, value = ours[label]
    part = class_part(metric, scores, label)
    return ClassChange(
        label=label,
        n=n,
        float_value=theirs[label][1],
        value=value,
        interval=difference(
            metric,
            part.values,
            [scores[place] for place in part.places],
            [reference[place] for place in part.places],
        ),
    )
