"""The calibration table: what was observed of every watched tensor, as deterministic JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedeploy.errors import DataError

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRange:
    """What was seen of one float32 tensor.

    Attributes:
        low, high: Least and greatest value over all samples.
        mean_low, mean_high: The least and greatest values of the single samples (of whole
            sequences, where samples form sequences), each averaged.
        count: Samples in which the tensor had elements; with 0 the others say nothing.
    """

    low: float
    high: float
    mean_low: float
    mean_high: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationTable:
    """Ranges by tensor name of the normal form.

    Attributes:
        samples: Samples that were run.
        tensors: One entry per watched tensor.
    """

    samples: int
    tensors: Mapping[str, TensorRange]

    def range_of(self, tensor: str, method: str, symmetric: bool) -> tuple[float, float]:
        """Return (low, high) of a tensor by a range method."""
        seen = self.tensors[tensor]
        return (seen.low, seen.high) if method == "minmax" else (seen.mean_low, seen.mean_high)

    def write(self, path: Path) -> None:
        """Write the table; the bytes depend on its content alone."""
        data = {
            "calibration": FORMAT,
            "samples": self.samples,
            "tensors": {name: asdict(self.tensors[name]) for name in sorted(self.tensors)},
        }
        text = json.dumps(data, ensure_ascii=True, sort_keys=True, indent=1, allow_nan=False)
        path.write_text(text + "\n", encoding="ascii")

    @classmethod
    def read(cls, path: Path) -> CalibrationTable:
        """Return the table that :meth:`write` wrote.

        Raises:
            DataError: The file is no calibration table of a known format (E263).
        """
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
            if data["calibration"] != FORMAT:
                raise ValueError(f"its format is {data['calibration']}, not {FORMAT}")
            tensors = {name: _entry(item) for name, item in data["tensors"].items()}
            return cls(samples=int(data["samples"]), tensors=tensors)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"cannot read the calibration table: {error}",
                code="E263",
                subject=path.name,
                hint="Calibrate again: remove the table or name the calibration data.",
            ) from error


def _entry(item: Mapping[str, Any]) -> TensorRange:
    bounds = {name: float(item[name]) for name in ("low", "mean_low", "mean_high", "high")}
    values = list(bounds.values())
    if not all(math.isfinite(value) for value in values) or values != sorted(values):
        raise ValueError(f"a range with {bounds}")
    return TensorRange(count=int(item["count"]), **bounds)
