"""Top-1 and top-k accuracy: the share of samples whose class is among the k highest scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgedeploy.decode import Decoder
from edgedeploy.parity.metrics import (
    Case,
    Factory,
    Options,
    SumMetric,
    output_error,
    parameter_error,
    taken,
    truth_error,
)


class TopK(SumMetric):
    """Records are ``[hit, 1, class]``.

    Equal scores rank by class number. An output that is a single whole number or text is taken as
    the predicted label itself.
    """

    proportion = True

    def __init__(self, output: str, k: int, decoder: Decoder | None = None) -> None:
        self._output = output
        self._k = k
        self._decoder = decoder

    def score(self, case: Case) -> Any | None:
        """Return whether the true class is among the first k."""
        scores = self._scores(case)
        if scores.size == 1 and scores.dtype.kind in "OUiu":
            if case.truth is None:
                raise truth_error(case, "a label")
            return [int(str(scores.reshape(-1)[0]) == str(case.truth)), 1, case.truth]
        if not isinstance(case.truth, int) or case.truth < 0:
            raise truth_error(case, "a class number")
        if scores.dtype.kind not in "fiu" or scores.ndim == 0 or scores.size != scores.shape[-1]:
            raise output_error(
                self._output, f"has shape {list(scores.shape)}, not one score per class"
            )
        if case.truth >= scores.size:
            raise output_error(
                self._output, f"has {scores.size} classes, but the truth is class {case.truth}"
            )
        best = np.argsort(-scores.reshape(-1).astype(np.float64), kind="stable")[: self._k]
        return [int(case.truth in best), 1, case.truth]

    def _scores(self, case: Case) -> np.ndarray:
        """Return the scores of the classes, or the label that the model names."""
        if self._decoder is None:
            return taken(case.outputs, self._output)
        found = self._decoder.arrays(case.outputs, case.geometry)
        return found["label"] if "label" in found else found["scores"]

    def values(self, records: Sequence[Any], weights: np.ndarray) -> np.ndarray:
        """Return the share of hits of each weighting."""
        return super().values([record[:2] for record in records], weights)

    def from_sums(self, sums: np.ndarray) -> np.ndarray:
        """Return hits over samples."""
        return np.asarray(sums[:, 0] / sums[:, 1])

    def correct(self, record: Any) -> bool | None:
        """Return whether the sample is a hit."""
        return bool(record[0])

    def class_of(self, record: Any) -> str | None:
        """Return the true class."""
        return str(record[2])

    def by_class(self, records: Sequence[Any]) -> dict[str, tuple[int, float]]:
        """Return accuracy (recall) by true class."""
        hits: defaultdict[str, list[int]] = defaultdict(list)
        for record in records:
            hits[str(record[2])].append(record[0])
        return {label: (len(found), sum(found) / len(found)) for label, found in hits.items()}


def _top1(options: Options) -> TopK:
    options.only()
    return TopK(options.output, 1, options.answering("classes"))


def _topk(options: Options) -> TopK:
    options.only("k")
    k = options.get("k", int, 5)
    if k < 1:
        raise parameter_error("topk", f"cannot use {k} for 'k'", "Give a k of at least 1.")
    return TopK(options.output, k, options.answering("classes"))


METRICS: Mapping[str, Factory] = {"top1": _top1, "topk": _topk}
