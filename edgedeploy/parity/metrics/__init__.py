"""Task metrics: one file per family, each with a ``METRICS`` table of name -> factory.

A metric turns each sample into a small *record* (JSON data) and any weighting of records into a
value. That is all that aggregation, confidence intervals and paired comparison need: a bootstrap
resample is a weighting, and a class is a subset of records.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from edgedeploy.decode import Decoder
from edgedeploy.errors import DataError
from edgedeploy.parameters import Parameters
from edgedeploy.profile.types import MetricSpec

Unit = Literal["fraction", "score"]
"""``fraction``: 0-1, printed in percent, a point is 0.01; ``score``: any other number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One sample as a metric sees it.

    Attributes:
        id: The sample's name.
        outputs: What the artifact gave, by output name.
        truth: Ground truth as JSON data, or None.
        reference: What the float model gave, or None.
        geometry: How an image was fitted, or None.
    """

    id: str
    outputs: Mapping[str, np.ndarray]
    truth: Any | None = None
    reference: Mapping[str, np.ndarray] | None = None
    geometry: Mapping[str, Any] | None = None


class Metric(ABC):
    """What is measured; subclasses are made by the factories of their file.

    Attributes:
        higher_is_better: The direction.
        unit: What a value is.
        proportion: Whether every record is one yes or no (``correct``) and the value their share.
        resamples: Bootstrap resamples that are affordable.
    """

    higher_is_better: bool = True
    unit: Unit = "fraction"
    proportion: ClassVar[bool] = False
    resamples: ClassVar[int] = 2000

    @abstractmethod
    def score(self, case: Case) -> Any | None:
        """Return the record of a sample as JSON data; None where it does not count by itself.

        Raises:
            DataError: The truth is missing (E286) or the output does not suit (E287).
        """

    @abstractmethod
    def values(self, records: Sequence[Any], weights: np.ndarray) -> np.ndarray:
        """Return the metric of each weighting of the records.

        Args:
            records: What :meth:`score` returned, ``[n]``.
            weights: How often each record counts, ``[resamples, n]``.

        Returns:
            float64 ``[resamples]``; NaN where the metric is not defined.
        """

    def correct(self, record: Any) -> bool | None:
        """Return whether a sample is right; None where there is no such thing."""
        return None

    def by_class(self, records: Sequence[Any]) -> dict[str, tuple[int, float]]:
        """Return class -> (number of true samples or boxes, value), empty without classes."""
        return {}

    def class_of(self, record: Any) -> str | None:
        """Return the class that a sample counts for as a whole; None where there is none."""
        return None

    def class_values(self, records: Sequence[Any], weights: np.ndarray, label: str) -> np.ndarray:
        """Return one class's value of each weighting, as :meth:`by_class` has it for one of each.

        Args:
            records: What :meth:`score` returned, ``[n]``.
            weights: How often each record counts, ``[resamples, n]``.
            label: One of :meth:`by_class`.

        Returns:
            float64 ``[resamples]``; NaN where it is not defined.
        """
        kept = [place for place, record in enumerate(records) if self.class_of(record) == label]
        return self.values([records[place] for place in kept], weights[:, kept])

    def details(self, records: Sequence[Any]) -> dict[str, float]:
        """Return further figures to show beside the value."""
        return {}

    def finish(self) -> None:  # noqa: B027 - most metrics have nothing to do here
        """Note that there are no more samples.

        Raises:
            DataError: A sample that was scored lacks another that it counts with (E286).
        """

    def value(self, records: Sequence[Any]) -> float:
        """Return the metric over all records; NaN where it is not defined."""
        if not records:
            return float("nan")
        return float(self.values(records, np.ones((1, len(records))))[0])


class SumMetric(Metric):
    """A metric that is a function of summed records (lists of numbers of one length)."""

    @abstractmethod
    def from_sums(self, sums: np.ndarray) -> np.ndarray:
        """Return the values of summed records ``[resamples, k]``."""

    def values(self, records: Sequence[Any], weights: np.ndarray) -> np.ndarray:
        """Return the metric of each weighting of the records."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.from_sums(weights @ np.asarray(records, np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a factory may look at; parameters that it does not take are refused.

    Attributes:
        spec: The profile's words.
        default_output: The model's first output.
        metadata: The model's metadata, which parameters ``metadata:KEY`` refer to.
        folder: The profile's folder, for user functions.
        decoder: The model's; metrics that read answers then read its arrays.
    """

    spec: MetricSpec
    default_output: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    decoder: Decoder | None = None

    @property
    def output(self) -> str:
        """Name of the scored output."""
        return self.spec.output or self.default_output

    @property
    def parameters(self) -> Parameters:
        """The metric's parameters; faults are E285."""
        return Parameters(
            owner=f"the metric {self.spec.name}",
            subject=self.spec.name,
            values=self.spec.parameters,
            code="E285",
        )

    def only(self, *names: str) -> None:
        """Refuse parameters other than ``names``.

        Raises:
            DataError: There is another (E285).
        """
        self.parameters.only(*names)

    def get(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        """Return a parameter of the wanted type.

        Raises:
            DataError: It has another type (E285).
        """
        return self.parameters.get(name, kind, default)

    def choice(self, name: str, choices: Sequence[str], default: str | None) -> Any:
        """Return a parameter that is one of ``choices``.

        Raises:
            DataError: It is another (E285).
        """
        return self.parameters.choice(name, choices, default)

    def answering(self, *kinds: str) -> Decoder | None:
        """Return the model's decoder, if it has one, which gives one of these kinds of answer.

        Raises:
            DataError: It gives another (E876).
        """
        if self.decoder is not None and self.decoder.kind not in kinds:
            raise DataError(
                f"the metric {self.spec.name} reads {' or '.join(kinds)}, and the model's decoder "
                f"gives {self.decoder.kind}",
                code="E876",
                subject=self.spec.name,
                hint="Choose a metric of the answer's kind, or another decoder.",
            )
        return self.decoder


Factory = Callable[[Options], Metric]


def parameter_error(metric: str, what: str, hint: str) -> DataError:
    """Return the error for a parameter that cannot be used (E285)."""
    return DataError(f"the metric {metric} {what}", code="E285", subject=metric, hint=hint)


def truth_error(case: Case, wanted: str) -> DataError:
    """Return the error for a sample without fitting truth (E286)."""
    has = "has no truth" if case.truth is None else f"has the truth {str(case.truth)[:40]!r}"
    return DataError(
        f"sample {case.id} {has}; the metric needs {wanted}",
        code="E286",
        subject=case.id,
        hint="Give labels for every sample, or use `agreement` or `cosine`.",
    )


def output_error(output: str, what: str) -> DataError:
    """Return the error for an output that a metric cannot read (E287)."""
    return DataError(
        f"output '{output}' {what}",
        code="E287",
        subject=output,
        hint="Name the right output with `metric: {output: ...}`; `inspect` lists them.",
    )


def taken(outputs: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return an output by name.

    Raises:
        DataError: There is none (E287).
    """
    try:
        return outputs[name]
    except KeyError:
        raise output_error(name, f"does not exist; there are {', '.join(outputs)}") from None


def referenced(case: Case, name: str) -> np.ndarray:
    """Return the float model's output of the sample.

    Raises:
        DataError: The float outputs are not at hand (E286).
    """
    if case.reference is None:
        raise truth_error(case, "the float model's outputs")
    return taken(case.reference, name)


def registered() -> dict[str, Factory]:
    """Return every built-in metric's factory by name, sorted."""
    found: dict[str, Factory] = {}
    for module in pkgutil.iter_modules(__path__):
        table = getattr(importlib.import_module(f"{__name__}.{module.name}"), "METRICS", {})
        found.update(table)
    return dict(sorted(found.items()))


def make_metric(options: Options) -> Metric:
    """Return the metric that the profile names.

    Raises:
        DataError: It is not known or a parameter is wrong (E285), or a user function cannot be
            loaded (E282, E283).
    """
    name = options.spec.name
    if ".py:" in name:
        from edgedeploy.parity.metrics.user import create

        return create(options)
    table = registered()
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1)
        raise DataError(
            f"there is no metric '{name}'",
            code="E285",
            subject=name,
            hint=(f"Did you mean '{near[0]}'? " if near else "")
            + f"The metrics are {', '.join(table)}, or `file.py:function`.",
        )
    return table[name](options)
