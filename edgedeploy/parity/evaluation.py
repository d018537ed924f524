"""The record of one evaluation: outputs against the float model's, metric, paired comparison.

Standard library only: gates and reports read these records without NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edgedeploy.errors import Diagnostic
from edgedeploy.runner import Evidence

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % confidence interval and how it was found."""

    low: float
    high: float
    method: Literal["wilson", "bonett-price", "bootstrap"]

    def to_json(self) -> dict[str, Any]:
        """Return the interval as JSON data."""
        return {"low": self.low, "high": self.high, "method": self.method}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputComparison:
    """How one output differs from the float model's over all samples.

    Elements that are not finite on either side are counted and left out of the statistics; a
    figure that is not defined (no element, no class axis, no error) is None.

    Attributes:
        name: Output name.
        dtype: NumPy dtype name of the artifact's output.
        samples: Samples compared.
        elements: Elements compared.
        max_abs, mean_abs, rmse: Of the difference.
        reference_low, reference_high: Range of the float output, the scale for the above.
        cosine: Of all elements of all samples taken as one vector.
        cosine_mean, cosine_min: Of the samples' own cosines.
        worst_sample: The sample with the least cosine, or the largest difference where all are
            single numbers.
        sqnr_db: 10 log10(sum reference^2 / sum difference^2); None where nothing differs.
        top1_agreement: Share of rows along the last axis with the highest value at the same place;
            for outputs ``[n, classes]`` and ``[n, steps, classes]``.
        outside_tolerance: Share of elements with |difference| > 1e-3 + 1e-3 |reference|; for
            texts the share that differs.
        nonfinite: Elements that are finite in the float output only.
        nonfinite_reference: Elements that are not finite in the float output.
        shape_mismatches: Samples whose shapes differ; they are in no other figure.
    """

    name: str
    dtype: str
    samples: int
    elements: int
    max_abs: float | None
    mean_abs: float | None
    rmse: float | None
    reference_low: float | None
    reference_high: float | None
    cosine: float | None
    cosine_mean: float | None
    cosine_min: float | None
    worst_sample: str | None
    sqnr_db: float | None
    top1_agreement: float | None
    outside_tolerance: float | None
    nonfinite: int
    nonfinite_reference: int
    shape_mismatches: int

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleScore:
    """What the metric says of one sample.

    Attributes:
        id: The sample's name.
        sequence: Its sequence, or None.
        value: The metric over this sample alone; None where that is not defined.
        record: The metric's own record, from which everything else follows.
    """

    id: str
    sequence: str | None
    value: float | None
    record: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricResult:
    """A metric over all samples.

    Attributes:
        name: As the profile names it.
        value: None where it is not defined (a correlation without spread).
        n: Scored samples (pairs for ``pearson``).
        unit: ``fraction`` or ``score``.
        interval: 95 % confidence interval; None where there are too few samples.
        by_class: Class -> (true samples or boxes, value).
        details: Further figures by name.
    """

    name: str
    value: float | None
    n: int
    unit: str
    higher_is_better: bool
    interval: Interval | None
    by_class: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassChange:
    """A class and what became of it; ``interval`` is of ``value - float_value`` (95 %)."""

    label: str
    n: int
    float_value: float
    value: float
    interval: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Return the change as JSON data."""
        return {**_plain(self), "interval": self.interval and self.interval.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClassChange:
        """Return the change that :meth:`to_json` wrote."""
        interval = data["interval"]
        return cls(**{**data, "interval": Interval(**interval) if interval else None})


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedResult:
    """The metric against the float model's, sample by sample.

    Attributes:
        float_value: The float model's metric over the same samples.
        delta: Metric minus ``float_value``; None where either is not defined.
        interval: 95 % confidence interval of ``delta``; None where there are too few samples.
        lost: Ids of samples that only the float model has right.
        gained: Ids of samples that only the artifact has right.
        worst_class: The class that lost most, None where none did.
    """

    float_value: float | None
    delta: float | None
    interval: Interval | None
    lost: tuple[str, ...]
    gained: tuple[str, ...]
    worst_class: ClassChange | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One pass of an artifact over the evaluation samples.

    Attributes:
        samples: Samples run.
        evidence: Where the outputs come from.
        outputs: Statistics against the float outputs; empty for the float model itself.
        findings: What is wrong beyond numbers; any makes parity fail.
        metric: None where the profile names no metric.
        paired: None without a metric or the float model's scores.
        scores: Every scored sample.
    """

    samples: int
    evidence: Evidence
    outputs: tuple[OutputComparison, ...] = ()
    findings: tuple[Diagnostic, ...] = ()
    metric: MetricResult | None = None
    paired: PairedResult | None = None
    scores: tuple[SampleScore, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON data (schema 1)."""
        return {
            "schema": SCHEMA,
            "samples": self.samples,
            "evidence": self.evidence,
            "outputs": [output.to_json() for output in self.outputs],
            "findings": [finding.to_json() for finding in self.findings],
            "metric": _metric_json(self.metric),
            "paired": _paired_json(self.paired),
            "scores": [[item.id, item.sequence, item.value, item.record] for item in self.scores],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation that :meth:`to_json` wrote."""
        return cls(
            samples=data["samples"],
            evidence=data["evidence"],
            outputs=tuple(OutputComparison(**item) for item in data["outputs"]),
            findings=tuple(Diagnostic.from_json(item) for item in data["findings"]),
            metric=_metric_from(data["metric"]),
            paired=_paired_from(data["paired"]),
            scores=tuple(
                SampleScore(id=name, sequence=sequence, value=value, record=record)
                for name, sequence, value, record in data["scores"]
            ),
        )


def _plain(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _metric_json(metric: MetricResult | None) -> dict[str, Any] | None:
    if metric is None:
        return None
    return {
        **_plain(metric),
        "interval": metric.interval and metric.interval.to_json(),
        "by_class": {label: list(pair) for label, pair in metric.by_class.items()},
        "details": dict(metric.details),
    }


def _metric_from(data: Mapping[str, Any] | None) -> MetricResult | None:
    if data is None:
        return None
    return MetricResult(
        **{
            **data,
            "interval": Interval(**data["interval"]) if data["interval"] else None,
            "by_class": {label: (n, value) for label, (n, value) in data["by_class"].items()},
        }
    )


def _paired_json(paired: PairedResult | None) -> dict[str, Any] | None:
    if paired is None:
        return None
    return {
        **_plain(paired),
        "interval": paired.interval and paired.interval.to_json(),
        "lost": list(paired.lost),
        "gained": list(paired.gained),
        "worst_class": paired.worst_class and paired.worst_class.to_json(),
    }


def _paired_from(data: Mapping[str, Any] | None) -> PairedResult | None:
    if data is None:
        return None
    worst = data["worst_class"]
    return PairedResult(
        **{
            **data,
            "interval": Interval(**data["interval"]) if data["interval"] else None,
            "lost": tuple(data["lost"]),
            "gained": tuple(data["gained"]),
            "worst_class": ClassChange.from_json(worst) if worst else None,
        }
    )
