"""Whether an artifact's error grows along a sequence, because its state is carried along."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edgedeploy.parity.confidence import bootstrap
from edgedeploy.parity.evaluation import Drift, DriftPart

PARTS = 12
RESAMPLES = 1000


class DriftStatistics:
    """Collects the squared error of one output, and its square, by position in the sequence.

    Memory grows with the longest sequence alone: some numbers for each position.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._sums: list[np.ndarray] = []  # [squared error, square of the float output]
        self._counts: list[int] = []
        self._open: list[np.ndarray] = []
        self._sequence: str | None = None
        self._thirds: list[np.ndarray] = []
        self._sequences = 0

    def add(self, sequence: str | None, found: np.ndarray, reference: np.ndarray) -> None:
        """Take in one sample's output and the float model's.

        What cannot be compared (other shapes, text, values that are not finite) counts as a
        position without an error figure: :mod:`.compare` tells of it.
        """
        if sequence is None or sequence != self._sequence:
            self._end()
            self._sequences += 1
        self._sequence = sequence
        position = len(self._open)
        if position == len(self._sums):
            self._sums.append(np.zeros(2))
            self._counts.append(0)
        squares = _mean_squares(found, reference)
        self._open.append(squares)
        if np.isfinite(squares).all():
            self._sums[position] += squares
            self._counts[position] += 1

    def _end(self) -> None:
        """Keep the mean squares of the middle and the last third of the sequence, ``[2, 2]``."""
        third = len(self._open) // 3
        if third:
            squares = np.array(self._open)
            parts = [
                part[np.isfinite(part[:, 0])] for part in (squares[third:-third], squares[-third:])
            ]
            if all(map(len, parts)):
                self._thirds.append(np.array([part.mean(axis=0) for part in parts]))
        self._open = []

    def result(self) -> Drift | None:
        """Return what was seen; None where no sequence has two samples with a figure."""
        self._end()
        self._sequence = None
        steps = len(self._sums)
        if steps < 2 or not any(self._counts[1:]):
            return None
        errors = [
            math.sqrt(total[0] / count) if count else None
            for total, count in zip(self._sums, self._counts, strict=True)
        ]
        known = [(error, place) for place, error in enumerate(errors) if error is not None]
        worst, place = max(known, key=lambda item: (item[0], -item[1]))  # the first of several
        return Drift(
            output=self._name,
            sequences=self._sequences,
            steps=steps,
            parts=self._parts(),
            worst_step=place,
            worst_rmse=worst,
            worst_sequences=self._counts[place],
            **self._growth(),
        )

    def _parts(self) -> tuple[DriftPart, ...]:
        """Return the positions in at most ``PARTS`` parts of about the same length."""
        found = []
        for places in np.array_split(np.arange(len(self._sums)), min(PARTS, len(self._sums))):
            first, last = int(places[0]), int(places[-1])
            count = sum(self._counts[first : last + 1])
            total = np.sum(self._sums[first : last + 1], axis=0)
            error, reference = np.sqrt(total / count).tolist() if count else (None, None)
            found.append(
                DriftPart(
                    first=first, last=last, samples=count, rmse=error, reference_rms=reference
                )
            )
        return tuple(found)

    def _growth(self) -> dict[str, float | None]:
        """Return the error of the last thirds over that of the middle ones, with its interval."""
        thirds = np.array(self._thirds).reshape(-1, 4)

        def ratio(weights: np.ndarray) -> np.ndarray:
            middle_error, middle, last_error, last = (weights @ thirds).T
            with np.errstate(divide="ignore", invalid="ignore"):
                found: np.ndarray = np.sqrt((last_error / last) / (middle_error / middle))
            return found

        nothing: dict[str, float | None] = {"growth": None, "growth_low": None, "growth_high": None}
        value = float(ratio(np.ones((1, len(thirds))))[0])
        if not math.isfinite(value):
            return nothing
        interval = bootstrap(ratio, np.arange(len(thirds)), RESAMPLES)
        if interval is None:
            return {**nothing, "growth": value}
        return {"growth": value, "growth_low": interval.low, "growth_high": interval.high}


def _mean_squares(found: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the mean squares of the difference and of the float output, float64 ``[2]``.

    Over the elements that are finite on both sides; NaN where there are none.
    """
    numbers = found.dtype.kind in "fiub" and reference.dtype.kind in "fiub"
    if not numbers or found.shape != reference.shape:
        return np.full(2, math.nan)
    a, b = found.astype(np.float64), reference.astype(np.float64)
    kept = np.isfinite(a) & np.isfinite(b)
    if not kept.any():
        return np.full(2, math.nan)
    return np.array([np.square(a[kept] - b[kept]).mean(), np.square(b[kept]).mean()])


class DriftWatch:
    """Watches every output of a model with a state along the sequences."""

    def __init__(self) -> None:
        self._outputs: dict[str, DriftStatistics] = {}

    def add(
        self,
        sequence: str | None,
        outputs: Mapping[str, np.ndarray],
        reference: Mapping[str, np.ndarray],
    ) -> None:
        """Take in the outputs of one sample; samples come in the order of their sequences."""
        for name, wanted in reference.items():
            if name in outputs:
                self._outputs.setdefault(name, DriftStatistics(name)).add(
                    sequence, outputs[name], wanted
                )

    def results(self) -> tuple[Drift, ...]:
        """Return what was seen of every output."""
        found = (item.result() for item in self._outputs.values())
        return tuple(item for item in found if item is not None)
