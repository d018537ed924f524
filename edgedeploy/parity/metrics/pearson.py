"""Pearson correlation of embedding similarity with a human score, over pairs.

A pair is one sample whose output holds two embeddings ``[2, size]`` and whose truth is the score;
or, for a model that takes one item at a time, two samples ``[1, size]`` that both have the truth
``{"pair": name, "score": number}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgedeploy.errors import DataError
from edgedeploy.parity.metrics import (
    Case,
    Factory,
    Options,
    SumMetric,
    Unit,
    output_error,
    taken,
    truth_error,
)
from edgedeploy.parity.metrics.closeness import cosine


class Pearson(SumMetric):
    """Records are the moments ``[1, x, y, x^2, y^2, x y]`` of cosine x and score y."""

    unit: Unit = "score"

    def __init__(self, output: str) -> None:
        self._output = output
        self._waiting: dict[str, np.ndarray] = {}

    def score(self, case: Case) -> Any | None:
        """Return the moments of a pair; None for the first of two samples."""
        found = taken(case.outputs, self._output)
        if isinstance(case.truth, dict):
            name = str(case.truth.get("pair"))
            first = self._waiting.pop(name, None)
            if first is None:
                self._waiting[name] = np.array(found)
                return None
            pair, score = (first, found), case.truth.get("score")
        else:
            if found.ndim != 2 or found.shape[0] != 2:
                raise output_error(
                    self._output, f"has shape {list(found.shape)}, not two embeddings [2, size]"
                )
            pair, score = (found[0], found[1]), case.truth
        try:
            y = float(score)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise truth_error(case, "a number, the pair's score") from None
        if pair[0].shape != pair[1].shape:
            raise output_error(self._output, "gives two embeddings of different shape")
        x = cosine(*pair)
        x = x if np.isfinite(x) else 0.0
        return [1, x, y, x * x, y * y, x * y]

    def finish(self) -> None:
        """Refuse pairs of which only one sample was there."""
        if self._waiting:
            raise DataError(
                f"{len(self._waiting)} pairs have one sample only, the first is "
                f"{min(self._waiting)!r}",
                code="E286",
                subject=min(self._waiting),
                hint="Give both samples of a pair; in a model with buckets both must fit the same "
                "bucket.",
            )

    def from_sums(self, sums: np.ndarray) -> np.ndarray:
        """Return the correlation of summed moments."""
        n, x, y, xx, yy, xy = sums.T
        spread = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
        return np.asarray(np.where(spread > 0, (n * xy - x * y) / np.sqrt(spread), np.nan))


def _create(options: Options) -> Pearson:
    options.only()
    return Pearson(options.output)


METRICS: Mapping[str, Factory] = {"pearson": _create}
