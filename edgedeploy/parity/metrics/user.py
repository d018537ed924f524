"""A metric of the user's project: ``file.py:function(outputs, truth, **parameters) -> float``.

Its mean over the samples is the value. Of the profile's parameters ``higher_is_better`` (true
unless given) is ours; all others are passed on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.data.usercode import check_call, load_function, user_errors
from edgedeploy.errors import DataError
from edgedeploy.parity.metrics import Case, Options, SumMetric, Unit


class UserMetric(SumMetric):
    """Mean of what the function returns; records are ``[value, 1]``."""

    unit: Unit = "score"

    def __init__(
        self,
        reference: str,
        folder: Path,
        function: Callable[..., Any],
        parameters: Mapping[str, Any],
        higher_is_better: bool,
    ) -> None:
        self._reference = reference
        self._folder = folder
        self._function = function
        self._parameters = dict(parameters)
        self.higher_is_better = higher_is_better

    def score(self, case: Case) -> Any | None:
        """Return what the function returns."""
        file = self._folder / self._reference.rpartition(":")[0]
        with user_errors(self._reference, file, self._folder, "E283"):
            value = float(self._function(dict(case.outputs), case.truth, **self._parameters))
        if not math.isfinite(value):
            raise DataError(
                f"{self._reference} returned {value} for sample {case.id}",
                code="E283",
                subject=case.id,
                hint="Return a finite number.",
            )
        return [value, 1]

    def from_sums(self, sums: np.ndarray) -> np.ndarray:
        """Return the mean."""
        return np.asarray(sums[:, 0] / sums[:, 1])


def create(options: Options) -> UserMetric:
    """Return the metric that ``options.spec.name`` names as ``file.py:function``."""
    reference = options.spec.name
    function = load_function(reference, options.folder)
    parameters = dict(options.spec.parameters)
    higher_is_better = options.get("higher_is_better", bool, True)
    parameters.pop("higher_is_better", None)
    check_call(reference, function, 2, parameters)
    return UserMetric(reference, options.folder, function, parameters, higher_is_better)
