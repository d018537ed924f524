"""The calibration table: what was observed of every watched tensor, as deterministic JSON.

It says which model and which samples it is of, and carries a digest over itself, so that it can be
kept beside a profile and used without the samples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedeploy.data.pack import PackReader, units
from edgedeploy.errors import DataError
from edgedeploy.manifest import digest
from edgedeploy.quant.moments import Moments

FORMAT = 4
LEAST_AVERAGED = 256
"""Elements of a sample (or sequence) from which on its own extremes say something of the range: the
average of the extremes of a handful of values would clip what every second sample reaches."""
# Significant digits of the statistics of channels: they move weights and biases by far more than
# the seventh digit, and halve the file.
CHANNEL_DIGITS = 6
# Hexadecimal digits that are kept of a sample's digest: 64 bits tell samples apart.
UNIT_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRange:
    """What was seen of one float32 tensor.

    Attributes:
        low, high: Least and greatest value over all samples.
        mean_low, mean_high: The least and greatest values of the single samples (of whole
            sequences, where samples form sequences), each averaged.
        count: Samples in which the tensor had elements; with 0 the others say nothing.
        elements: Elements of one of those samples (sequences) on average.
        ranges: ``(low, high)`` by range method, as :func:`edgedeploy.quant.ranges.derive` names
            them; empty when no histogram was kept.
    """

    low: float
    high: float
    mean_low: float
    mean_high: float
    count: int
    elements: int = LEAST_AVERAGED
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatistics:
    """What was seen of each channel of a layer's activation.

    Attributes:
        mean: Mean of its elements, over all samples.
        peak: Greatest absolute value of its elements.
    """

    mean: tuple[float, ...]
    peak: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationTable:
    """Ranges by tensor name of the normal form.

    Attributes:
        samples: Samples that were run.
        tensors: One entry per watched tensor.
        channels: Statistics of the channels of layers' activations, by tensor name.
        model: Digest of the model that was run (``identity.model_digest``).
        data: SHA-256 of the samples, in their order.
        units: The first digits of the digest of every sample, or of every whole sequence, sorted.
        moments: Second moments of layers' activations, which lie in files of their own; None
            where they were not gathered.
    """

    samples: int
    tensors: Mapping[str, TensorRange]
    channels: Mapping[str, ChannelStatistics] = field(default_factory=dict)
    model: str = ""
    data: str = ""
    units: tuple[str, ...] = ()
    moments: Moments | None = None

    def range_of(self, tensor: str, method: str, symmetric: bool) -> tuple[float, float]:
        """Return (low, high) of a tensor by a range method.

        Args:
            tensor: One of ``tensors``.
            method: As in :attr:`edgedeploy.quant.scheme.Scheme.ranges`.
            symmetric: Whether the zero point will be in the middle.

        Raises:
            DataError: The table was made without the histograms that the method needs (E263).
        """
        seen = self.tensors[tensor]
        few = method == "average" and seen.elements < LEAST_AVERAGED
        if method == "minmax" or few:
            return seen.low, seen.high
        if method == "average":
            return seen.mean_low, seen.mean_high
        for name in ((f"{method}-symmetric",) if symmetric else ()) + (method,):
            if name in seen.ranges:
                return seen.ranges[name]
        if not seen.count:
            return seen.low, seen.high
        raise DataError(
            f"the calibration table has no {method} range of tensor {tensor!r}",
            code="E263",
            subject=tensor,
            hint="Calibrate again, or set `ranges: minmax` or `average`.",
        )

    def check_model(self, wanted: str) -> None:
        """Refuse a table of another model.

        Args:
            wanted: Digest of the model whose ranges are wanted.

        Raises:
            DataError: The table is of another one (E263).
        """
        if self.model != wanted:
            raise DataError(
                f"the calibration table is of another model: of the normal form "
                f"{self.model[:16] or 'unknown'}, and this one is {wanted[:16]}",
                code="E263",
                hint="name the data instead of `tables` under `data: calibrate`, build, and keep "
                "the table of that build; or restore the model, inputs and tools it was made with",
            )

    def check_sequences(self) -> None:
        """Refuse a table of single samples: over those a state stays zero.

        Raises:
            DataError: Each of its samples stood alone (E865).
        """
        if self.samples and len(self.units) == self.samples:
            raise DataError(
                "the calibration table is of single samples, and the model has a state",
                code="E865",
                hint="name recordings instead of `tables` under `data: calibrate`, build, and keep "
                "the table of that build",
            )

    def overlap(self, pack: PackReader) -> list[str]:
        """Return the ids of a pack's samples, or sequences, that the ranges were taken from."""
        known = set(self.units)
        return [name for name, found in units(pack) if found[:UNIT_DIGITS] in known]

    def write(self, path: Path) -> None:
        """Write the table, a line per tensor; the bytes depend on its content alone."""
        data: dict[str, Any] = {
            "calibration": FORMAT,
            "data": self.data,
            "model": self.model,
            "samples": self.samples,
            "units": list(self.units),
            "tensors": {name: _entry(seen) for name, seen in self.tensors.items()},
            "channels": {name: _channels(seen) for name, seen in self.channels.items()},
        }
        tables = ("tensors", "channels")
        lines = [f'"{name}": {_json(data[name])}' for name in data if name not in tables]
        lines += [_table(name, data[name]) for name in tables]
        lines.append(f'"sha256": {_json(digest("calibration", data))}')
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="ascii")

    @classmethod
    def read(cls, path: Path, moments: Path | None = None) -> CalibrationTable:
        """Return the table that :meth:`write` wrote.

        Args:
            path: The file.
            moments: Folder of the second moments that belong to it, if there are any.

        Raises:
            DataError: The file is no calibration table of a known format, or it was changed
                (E263), or the folder holds no moments (E263).
        """
        second = None if moments is None else Moments.read(moments)
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
            if data["calibration"] != FORMAT:
                raise ValueError(f"its format is {data['calibration']}, not {FORMAT}")
            if data.pop("sha256") != digest("calibration", data):
                raise ValueError("its content does not match its digest")
            return cls(
                samples=int(data["samples"]),
                tensors={name: _read_entry(item) for name, item in data["tensors"].items()},
                channels={name: _read_channels(item) for name, item in data["channels"].items()},
                model=str(data["model"]),
                data=str(data["data"]),
                units=tuple(map(str, data["units"])),
                moments=second,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"cannot read the calibration table: {error}",
                code="E263",
                subject=path.name,
                hint="restore the table, or name the calibration data instead of it",
            ) from error


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True, allow_nan=False)


def _table(name: str, entries: Mapping[str, Any]) -> str:
    lines = ",\n".join(f" {_json(key)}: {_json(entries[key])}" for key in sorted(entries))
    return f'"{name}": {{\n{lines}\n}}' if lines else f'"{name}": {{}}'


def _entry(seen: TensorRange) -> dict[str, Any]:
    return {
        "count": seen.count,
        "elements": seen.elements,
        "range": [seen.low, seen.high],
        "mean": [seen.mean_low, seen.mean_high],
        "ranges": {name: list(bounds) for name, bounds in seen.ranges.items()},
    }


def _channels(seen: ChannelStatistics) -> dict[str, Any]:
    return {
        name: [float(f"{value:.{CHANNEL_DIGITS}g}") for value in values]
        for name, values in (("mean", seen.mean), ("peak", seen.peak))
    }


def _read_entry(item: Mapping[str, Any]) -> TensorRange:
    low, high = _pair(item["range"])
    mean_low, mean_high = _pair(item["mean"])
    if not low <= mean_low <= mean_high <= high:
        raise ValueError(f"a mean range [{mean_low}, {mean_high}] outside of [{low}, {high}]")
    return TensorRange(
        low=low,
        high=high,
        mean_low=mean_low,
        mean_high=mean_high,
        count=int(item["count"]),
        elements=int(item["elements"]),
        ranges={name: _pair(bounds) for name, bounds in item["ranges"].items()},
    )


def _read_channels(item: Mapping[str, Any]) -> ChannelStatistics:
    mean, peak = (tuple(map(float, item[name])) for name in ("mean", "peak"))
    if len(mean) != len(peak) or not all(map(math.isfinite, (*mean, *peak))):
        raise ValueError("statistics of channels that are not finite or not of one length")
    return ChannelStatistics(mean=mean, peak=peak)


def _pair(bounds: Any) -> tuple[float, float]:
    low, high = map(float, bounds)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"a range [{low}, {high}]")
    return low, high
