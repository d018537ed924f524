"""From per-sample records to a metric with its interval, and to the paired comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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


def _independent(scores: Sequence[SampleScore]) -> bool:
    return all(item.sequence is None for item in scores)


def _interval(metric: Metric, scores: Sequence[SampleScore]) -> Interval | None:
    records = [item.record for item in scores]
    if metric.proportion and records and _independent(scores):
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
    if metric.proportion and ours and _independent(scores):
        interval: Interval | None = paired_proportions(len(gained), len(lost), len(ours))
    else:
        interval = bootstrap(
            lambda weights: np.asarray(
                metric.values(ours, weights) - metric.values(theirs, weights)
            ),
            blocks([item.sequence for item in scores]),
            metric.resamples,
        )
    return PairedResult(
        float_value=defined(float_value),
        delta=defined(value - float_value),
        interval=interval,
        lost=lost,
        gained=gained,
        worst_class=_worst_class(metric, metric.by_class(ours), metric.by_class(theirs)),
    )


def _worst_class(
    metric: Metric,
    ours: Mapping[str, tuple[int, float]],
    theirs: Mapping[str, tuple[int, float]],
) -> ClassChange | None:
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
    return ClassChange(label=label, n=n, float_value=theirs[label][1], value=value)
