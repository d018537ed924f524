"""Reading what trtexec writes: strictly, because it comes from a device.

Source of the forms: NVIDIA TensorRT, ``samples/common/sampleReporting.cpp`` (exportJSONTrace,
exportJSONProfile, exportJSONOutput), the same from 8.6 to 10; 11 is taken to be like them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedeploy.bench import checking
from edgedeploy.bench.loop import WARMUP_AGREEMENT_RATIO, WARMUP_WINDOWS

if TYPE_CHECKING:
    import numpy as np

STAND_IN = "edgedeploy stand-in"
"""What a stand-in's trtexec prints of itself."""

_MOST_MS = 1e9
_MOST_RUNS = 1_000_000
_MOST_OUTPUTS = 4096
_NS = 1e6
_PARTS = {"upload_ms": "h2dMs", "compute_ms": "computeMs", "download_ms": "d2hMs"}
_BLOCKS = 5
_AXES = 32
# A stream of C++ prints floats that JSON has not.
_VALUES = re.compile(r'("values" : \[)([^\]]*)(\])')
_NOT_FINITE = re.compile(r"(?<![\w.])(-?)(nan|inf)(?![\w.])")
_LOADED = re.compile(r"Engine (?:deserialized|loaded) in ([0-9]+(?:\.[0-9]+)?) sec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Times of inferences that one run of trtexec exported.

    Attributes:
        samples_ns: Copying in, computing and copying out of each, by events on the GPU.
        span_ns: From the first one's begin to the last one's end.
        parts_ms: Mean of each part.
    """

    samples_ns: tuple[int, ...]
    span_ns: int
    parts_ms: Mapping[str, float]


def times(text: bytes) -> Times:
    """Return what ``--exportTimes`` wrote.

    Raises:
        ValueError: It is not that.
    """
    rows = _rows(text, _MOST_RUNS)
    samples = tuple(max(1, round(_ms(row, "latencyMs") * _NS)) for row in rows)
    if not samples:
        raise ValueError("it holds no times")
    begin = min(_ms(row, "startH2dMs") for row in rows)
    end = max(_ms(row, "endD2hMs") for row in rows)
    parts = {
        name: math.fsum(_ms(row, key) for row in rows) / len(rows) for name, key in _PARTS.items()
    }
    # Copies of one inference may overlap with the next one's kernels: then the sum is longer.
    span_ns = max(round((end - begin) * _NS), sum(samples))
    return Times(samples_ns=samples, span_ns=span_ns, parts_ms=parts)


def layers(text: bytes) -> list[dict[str, Any]]:
    """Return what ``--exportProfile`` wrote, as ``loop.py`` gives layers.

    Raises:
        ValueError: It is not that.
    """
    found = []
    for row in _rows(text, _MOST_RUNS):
        if "name" in row:  # the first tells how many runs there were
            name = checking.text(row["name"], "a layer's name")
            mean_ms = _ms(row, "averageMs")
            found.append({"name": name, "op": "", "provider": "TensorRT", "mean_ms": mean_ms})
    return found


def outputs(text: bytes, dtypes: Mapping[str, str], limit_bytes: int) -> dict[str, np.ndarray]:
    """Return what ``--exportOutput`` wrote, of the outputs that are asked for.

    It writes floats with six digits, and no types.

    Args:
        text: The file.
        dtypes: NumPy's name of the type by output.
        limit_bytes: The most that they may be together.

    Raises:
        ValueError: It is not that.
    """
    import numpy as np

    found: dict[str, np.ndarray] = {}
    for row in _rows(_with_json_floats(text), _MOST_OUTPUTS, finite=False):
        name = row.get("name")
        if not isinstance(name, str) or name not in dtypes:
            continue
        shape, values = _dims(row.get("dimensions")), row.get("values")
        count = math.prod(shape)
        if not isinstance(values, list) or len(values) != count:
            raise ValueError(f"output {name!r} has not as many values as its dimensions say")
        if not all(type(item) in (int, float) for item in values):
            raise ValueError(f"output {name!r} holds what is no number")
        limit_bytes -= count * np.dtype(dtypes[name]).itemsize
        if limit_bytes < 0:
            raise ValueError("the outputs are too large")
        found[name] = _array(values, dtypes[name], name).reshape(shape)
    if missing := sorted(dtypes.keys() - found.keys()):
        raise ValueError(f"there is no output {', '.join(missing)}")
    return found


def _array(values: Sequence[float], dtype: str, name: str) -> np.ndarray:
    import numpy as np

    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.array(values, np.float64).astype(kind)
    least, most = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
    if not all(isinstance(item, int) and least <= item <= most for item in values):
        raise ValueError(f"output {name!r} holds what is no {dtype}")
    return np.array(values, kind)


def _dims(value: Any) -> tuple[int, ...]:
    if not isinstance(value, str) or not re.fullmatch(r"(?:\d{1,9}(?:x\d{1,9})*)?", value):
        raise ValueError("an output has no dimensions")
    shape = tuple(int(size) for size in value.split("x")) if value else ()
    if len(shape) > _AXES:
        raise ValueError("an output has too many dimensions")
    return shape


def _with_json_floats(text: bytes) -> bytes:
    """Return the file with ``nan`` and ``inf`` as Python's JSON reads them, in values alone."""
    words = {"nan": "NaN", "inf": "Infinity"}

    def value(found: re.Match[str]) -> str:
        sign = "" if found[2] == "nan" else found[1]
        return sign + words[found[2]]

    def values(found: re.Match[str]) -> str:
        return found[1] + _NOT_FINITE.sub(value, found[2]) + found[3]

    return _VALUES.sub(values, text.decode("utf-8", "replace")).encode()


def _rows(text: bytes, most: int, *, finite: bool = True) -> list[Mapping[str, Any]]:
    if finite:
        data = checking.parsed(text)
    else:
        try:
            data = json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
    if not isinstance(data, list) or len(data) > most:
        raise ValueError(f"it is no list of at most {most}")
    if not all(isinstance(row, dict) for row in data):
        raise ValueError("it is no list of objects")
    return data


def _ms(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    if not isinstance(value, int | float) or not 0 <= value <= _MOST_MS:
        raise ValueError(f"{name} is no time")
    return float(value)


def load_ns(lines: Sequence[str]) -> int | None:
    """Return how long trtexec says that loading took, None where it does not."""
    found = [match[1] for line in lines if (match := _LOADED.search(line))]
    return max(1, round(float(found[-1]) * 1e9)) if found else None


def errors(lines: Sequence[str]) -> str:
    """Return what a log says of errors, its last line where it has none."""
    found = [line.partition("[E]")[2].strip() for line in lines if "[E]" in line]
    return "; ".join(found[-3:]) or (lines[-1] if lines else "it says nothing")


def settled(samples_ns: Sequence[int]) -> tuple[bool, list[int]]:
    """Return whether a warm-up had settled, by the loop's rule, and its medians in ns.

    The samples are cut into five blocks; the medians of the last three must agree.
    """
    size = max(1, len(samples_ns) // _BLOCKS)
    blocks = [samples_ns[at : at + size] for at in range(0, len(samples_ns), size)]
    medians = [sorted(block)[len(block) // 2] for block in blocks]
    last = medians[-WARMUP_WINDOWS:]
    spread = (max(last) - min(last)) / max(min(last), 1)
    return len(last) == WARMUP_WINDOWS and spread <= WARMUP_AGREEMENT_RATIO, medians
