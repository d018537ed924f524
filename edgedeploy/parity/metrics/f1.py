"""F1 = 2 TP / (2 TP + FP + FN), over samples or frames: binary with a threshold, or macro."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgedeploy.parity.metrics import (
    Case,
    Factory,
    Metric,
    Options,
    SumMetric,
    output_error,
    taken,
    truth_error,
)


def _truths(case: Case) -> np.ndarray:
    """Return the truth as whole numbers ``[frames]``."""
    truth = np.asarray(case.truth if case.truth is not None else [0.5])
    if truth.dtype.kind == "b":
        truth = truth.astype(np.int64)
    if truth.dtype.kind not in "iu" or truth.ndim > 1:
        raise truth_error(case, "a class number, or a list of them (one for each frame)")
    return truth.reshape(-1)


class BinaryF1(SumMetric):
    """Positive where the output reaches the threshold; records are ``[tp, fp, fn, tn]``.

    Without any positive, true or predicted, F1 is 0.
    """

    def __init__(self, output: str, threshold: float) -> None:
        self._output = output
        self._threshold = threshold

    def score(self, case: Case) -> Any | None:
        """Return the counts of the sample's frames."""
        truth = _truths(case)
        found = taken(case.outputs, self._output).reshape(-1)
        if not set(np.unique(truth)) <= {0, 1}:
            raise truth_error(case, "0 or 1; for more classes use `average: macro`")
        if found.dtype.kind not in "fiub" or found.size != truth.size:
            raise output_error(
                self._output, f"has {found.size} values for {truth.size} true values"
            )
        positive, real = found >= self._threshold, truth == 1
        return [
            int((positive & real).sum()),
            int((positive & ~real).sum()),
            int((~positive & real).sum()),
            int((~positive & ~real).sum()),
        ]

    def from_sums(self, sums: np.ndarray) -> np.ndarray:
        """Return F1 of summed counts."""
        tp, fp, fn = sums[:, 0], sums[:, 1], sums[:, 2]
        return np.asarray(2 * tp / np.maximum(2 * tp + fp + fn, 1e-300))

    def correct(self, record: Any) -> bool | None:
        """Return whether all frames of the sample are right."""
        return bool(record[1] == record[2] == 0)


class MacroF1(Metric):
    """Unweighted mean of each class's F1, over classes that are true or predicted anywhere.

    The prediction is the highest score along the last axis; records are ``[[true, predicted]..]``.
    """

    def __init__(self, output: str) -> None:
        self._output = output

    def score(self, case: Case) -> Any | None:
        """Return pairs of true and predicted class."""
        truth = _truths(case)
        scores = taken(case.outputs, self._output)
        if (
            scores.dtype.kind not in "fiu"
            or scores.ndim == 0
            or scores.shape[-1] < 2
            or scores.size != truth.size * scores.shape[-1]
        ):
            raise output_error(
                self._output,
                f"has shape {list(scores.shape)}, not one score per class for {truth.size} frames",
            )
        predicted = scores.reshape(truth.size, -1).argmax(axis=1)
        return [[int(t), int(p)] for t, p in zip(truth, predicted, strict=True)]

    def values(self, records: Sequence[Any], weights: np.ndarray) -> np.ndarray:
        """Return macro F1 of each weighting."""
        scores, present = self._by_class(records, weights)
        total = present.sum(axis=1)
        return np.asarray(
            np.where(total, (scores * present).sum(axis=1) / np.maximum(total, 1), np.nan)
        )

    @staticmethod
    def _by_class(records: Sequence[Any], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return F1 and presence by weighting and class ``[resamples, classes]``."""
        pairs = np.array([pair for record in records for pair in record], np.int64).reshape(-1, 2)
        owner = np.repeat(np.arange(len(records)), [len(record) for record in records])
        true, predicted = pairs[:, 0], pairs[:, 1]
        count = int(pairs.max(initial=0)) + 1
        scores = np.zeros((len(weights), count))
        present = np.zeros((len(weights), count), bool)
        for row, weight in enumerate(weights):
            each = weight[owner]
            hits = np.bincount(true, each * (true == predicted), count)
            both = np.bincount(true, each, count) + np.bincount(predicted, each, count)
            present[row] = both > 0
            scores[row] = 2 * hits / np.maximum(both, 1e-300)
        return scores, present

    def correct(self, record: Any) -> bool | None:
        """Return whether all frames of the sample are right."""
        return all(true == predicted for true, predicted in record)

    def by_class(self, records: Sequence[Any]) -> dict[str, tuple[int, float]]:
        """Return F1 by class, for classes that are true somewhere."""
        if not records:
            return {}
        scores, _ = self._by_class(records, np.ones((1, len(records))))
        true = np.array([true for record in records for true, _ in record], np.int64)
        counts = np.bincount(true, minlength=scores.shape[1])
        return {
            str(label): (int(counts[label]), float(scores[0, label]))
            for label in np.flatnonzero(counts)
        }


def _create(options: Options) -> Metric:
    options.only("average", "threshold")
    if options.choice("average", ("binary", "macro"), "binary") == "macro":
        options.only("average")
        return MacroF1(options.output)
    return BinaryF1(options.output, float(options.get("threshold", (int, float), 0.5)))


METRICS: Mapping[str, Factory] = {"f1": _create}
