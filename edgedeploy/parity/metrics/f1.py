"""F1 = 2 TP / (2 TP + FP + FN), over samples or frames: binary with a threshold, or macro.

What is predicted is what the model's decoder says; without one, what the output says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgedeploy.decode import Decoder
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


def _predicted(case: Case, decoder: Decoder) -> np.ndarray:
    """Return the class of each frame as the model's decoder has it, int64 ``[frames]``."""
    found = decoder.arrays(case.outputs, case.geometry)
    if "speech" in found:
        return found["speech"]
    if "label" in found:
        if found["label"].dtype.kind not in "iu":
            raise output_error("label", f"is {found['label'][0]!r}, not the number of a class")
        return found["label"].astype(np.int64)
    return np.array([found["scores"].argmax()])


class BinaryF1(SumMetric):
    """Positive where the output reaches the threshold; records are ``[tp, fp, fn, tn]``.

    With a decoder, where it says speech, or class 1. Without any positive, true or predicted, F1
    is 0.
    """

    def __init__(self, output: str, threshold: float, decoder: Decoder | None = None) -> None:
        self._output = output
        self._threshold = threshold
        self._decoder = decoder

    def score(self, case: Case) -> Any | None:
        """Return the counts of the sample's frames."""
        truth = _truths(case)
        found = self._positive(case)
        if not set(np.unique(truth)) <= {0, 1}:
            raise truth_error(case, "0 or 1; for more classes use `average: macro`")
        if found.size != truth.size:
            raise output_error(
                self._output, f"has {found.size} values for {truth.size} true values"
            )
        positive, real = found, truth == 1
        return [
            int((positive & real).sum()),
            int((positive & ~real).sum()),
            int((~positive & real).sum()),
            int((~positive & ~real).sum()),
        ]

    def _positive(self, case: Case) -> np.ndarray:
        """Return which frames are positive, bool ``[frames]``."""
        if self._decoder is not None:
            return np.asarray(_predicted(case, self._decoder) == 1)
        found = taken(case.outputs, self._output).reshape(-1)
        if found.dtype.kind not in "fiub":
            raise output_error(self._output, f"is {found.dtype}, no scores")
        return np.asarray(found >= self._threshold)

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

    def __init__(self, output: str, decoder: Decoder | None = None) -> None:
        self._output = output
        self._decoder = decoder

    def score(self, case: Case) -> Any | None:
        """Return pairs of true and predicted class."""
        truth = _truths(case)
        predicted = self._classes(case, truth)
        return [[int(t), int(p)] for t, p in zip(truth, predicted, strict=True)]

    def _classes(self, case: Case, truth: np.ndarray) -> np.ndarray:
        """Return the predicted class of each frame, int64 ``[frames]``."""
        if self._decoder is not None:
            found = _predicted(case, self._decoder)
            if found.size != truth.size:
                raise output_error(
                    self._output, f"gives {found.size} classes for {truth.size} true values"
                )
            return found
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
        return np.asarray(scores.reshape(truth.size, -1).argmax(axis=1))

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

    def class_values(self, records: Sequence[Any], weights: np.ndarray, label: str) -> np.ndarray:
        """Return the F1 of one class of each weighting; NaN where it is nowhere."""
        scores, present = self._by_class(records, weights)
        at = int(label)
        return np.asarray(np.where(present[:, at], scores[:, at], np.nan))

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
    decoder = options.answering("speech", "classes")
    options.only("average", *(() if decoder else ("threshold",)))
    if options.choice("average", ("binary", "macro"), "binary") == "macro":
        options.only("average")
        return MacroF1(options.output, decoder)
    threshold = float(options.get("threshold", (int, float), 0.5))
    return BinaryF1(options.output, threshold, decoder)


METRICS: Mapping[str, Factory] = {"f1": _create}
