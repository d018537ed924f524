"""How close outputs are to the float model's: mean squared error, cosine, top-1 agreement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgedeploy.parity.metrics import (
    Case,
    Factory,
    Options,
    SumMetric,
    Unit,
    output_error,
    referenced,
    taken,
)


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Return the cosine of the angle between two arrays taken as vectors.

    1 where both are zero, 0 where only one is.
    """
    a, b = first.reshape(-1).astype(np.float64), second.reshape(-1).astype(np.float64)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0:
        return float(not a.any() and not b.any())
    return float(np.clip(a @ b / norms, -1, 1))


def _pair(case: Case, name: str) -> tuple[np.ndarray, np.ndarray]:
    found, wanted = taken(case.outputs, name), referenced(case, name)
    if found.dtype.kind not in "fiub" or found.shape != wanted.shape:
        raise output_error(
            name,
            f"has shape {list(found.shape)} and the float model's {list(wanted.shape)}: "
            "they cannot be compared",
        )
    return found, wanted


class _Mean(SumMetric):
    """Mean over samples; records are ``[value, 1]``."""

    def __init__(self, output: str) -> None:
        self._output = output

    def from_sums(self, sums: np.ndarray) -> np.ndarray:
        """Return sums over counts."""
        return np.asarray(sums[:, 0] / sums[:, 1])


class MeanSquaredError(_Mean):
    """Mean over samples of the mean squared difference, NaN taken as infinitely far."""

    higher_is_better = False
    unit: Unit = "score"

    def score(self, case: Case) -> Any | None:
        """Return the sample's mean squared difference."""
        found, wanted = _pair(case, self._output)
        error = float(np.mean((found.astype(np.float64) - wanted.astype(np.float64)) ** 2))
        return [error if np.isfinite(error) else float(np.finfo(np.float64).max), 1]


class Cosine(_Mean):
    """Mean over samples of the cosine similarity; NaN counts as 0."""

    def score(self, case: Case) -> Any | None:
        """Return the sample's cosine."""
        value = cosine(*_pair(case, self._output))
        return [value if np.isfinite(value) else 0.0, 1]


class Agreement(_Mean):
    """Share of samples whose highest score, along the last axis, is where the float model's is.

    A sample with several rows (steps, frames) agrees when all rows do.
    """

    proportion = True

    def score(self, case: Case) -> Any | None:
        """Return whether the sample agrees."""
        found, wanted = _pair(case, self._output)
        if found.ndim == 0 or found.shape[-1] < 2:
            raise output_error(self._output, "has no class axis to agree on")
        return [int((found.argmax(axis=-1) == wanted.argmax(axis=-1)).all()), 1]

    def correct(self, record: Any) -> bool | None:
        """Return whether the sample agrees."""
        return bool(record[0])


def _factory(kind: type[_Mean]) -> Factory:
    def create(options: Options) -> _Mean:
        options.only()
        return kind(options.output)

    return create


METRICS: Mapping[str, Factory] = {
    "mse": _factory(MeanSquaredError),
    "cosine": _factory(Cosine),
    "agreement": _factory(Agreement),
}
