"""Checking a result that a device sent: nothing in it is believed before it is looked at.

What is returned is built anew and holds nothing but what the job asked for, in types and lengths
that statistics, validity and records may rely on.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgedeploy.bench.job import BenchJob

RESULT_BYTES = 16 << 20
"""The largest result that is accepted, compressed."""

_OPEN_RATIO = 4
_TEXT = 300
_LIST = 4096
_LAYERS = 100_000
_WINDOWS = 100_000
_MOST_NS = 10**15  # eleven days
_MOST = 2**63

Check = Callable[[Any, str], Any]


def unpacked(data: bytes, limit_bytes: int = _OPEN_RATIO * RESULT_BYTES) -> bytes:
    """Return the content of gzip data.

    Raises:
        ValueError: It is none, is cut off, or holds more than ``limit_bytes``.
    """
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        content = stream.decompress(data, limit_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"not gzip: {error}") from error
    if len(content) > limit_bytes:
        raise ValueError(f"more than {limit_bytes} bytes")
    if not stream.eof:
        raise ValueError("cut off")
    return content


def parsed(text: bytes) -> Any:
    """Return JSON data.

    Raises:
        ValueError: It is none, is nested too deeply, or holds NaN or infinity.
    """

    def refuse(name: str) -> Any:
        raise ValueError(f"it holds {name}")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def failure_of(data: Any) -> dict[str, Any] | None:
    """Return phase, artifact, status and message of a run that failed, None for one that did not.

    Raises:
        ValueError: It is neither.
    """
    if not isinstance(data, dict):
        raise ValueError("not an object")
    if "failed" not in data:
        return None
    failed = mapping(data["failed"], "failed")
    return {
        "phase": text(failed.get("phase", ""), "failed.phase"),
        "artifact": text(failed.get("artifact", ""), "failed.artifact"),
        "status": whole(failed.get("status", 0), "failed.status"),
        "message": text(failed.get("message", ""), "failed.message"),
    }


def checked_result(job: BenchJob, data: Any) -> dict[str, Any]:
    """Return the result of a measurement with all that the job asked for, and nothing else.

    Args:
        job: What was asked for.
        data: What a device says it found, in the form of ``loop.py``'s result.

    Raises:
        ValueError: Something is missing, of another type, out of range, or contradicts the rest.
    """
    data = mapping(data, "result")
    ids = [item.id for item in job.artifacts]
    if job.noise_floor:
        ids.append(job.baseline_again)
    facts = _facts(data.get("environment"))
    before = _sample(data.get("before"), "before", facts)
    windows = _list(data.get("windows"), "windows", _WINDOWS)
    found = [_window(item, f"windows[{at}]", facts, ids) for at, item in enumerate(windows)]
    counters = {len(item["throttle_counts"]) for item in (before, *_samples(found))}
    if len(counters) > 1:
        raise ValueError("windows: the throttle counters differ in number")
    if {item["artifact"] for item in found} != set(ids):
        raise ValueError("windows: they are not of the artifacts of the job")
    abouts = _list(data.get("artifacts"), "artifacts", len(ids))
    artifacts = [_about(item, f"artifacts[{at}]") for at, item in enumerate(abouts)]
    if [item["id"] for item in artifacts] != ids:
        raise ValueError("artifacts: they are not those of the job")
    return {
        "loop": 1,
        "clock": text(data.get("clock"), "clock"),
        "python": text(data.get("python"), "python"),
        "carried": flag(data.get("carried", False), "carried"),
        "ended": text(data.get("ended"), "ended"),
        "environment": facts,
        "before": before,
        "windows": found,
        "artifacts": artifacts,
        "power": _power(data.get("power")),
    }


def text(value: Any, place: str) -> str:
    """Return a short text without control characters."""
    if not isinstance(value, str):
        raise ValueError(f"{place} is no text")
    return "".join(letter if letter.isprintable() else "?" for letter in value[:_TEXT])


def whole(value: Any, place: str, least: int = -_MOST, most: int = _MOST) -> int:
    """Return a whole number within its range."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{place} is no whole number from {least} to {most}")
    return value


def real(value: Any, place: str) -> float:
    """Return a finite number."""
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > _MOST:
        raise ValueError(f"{place} is no number")
    return float(value)


def _least(value: Any, place: str, least: float) -> float:
    found = real(value, place)
    if found < least:
        raise ValueError(f"{place} is less than {least:g}")
    return found


def flag(value: Any, place: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{place} is neither true nor false")
    return value


def _positive(value: Any, place: str) -> int:
    return whole(value, place, 1, _MOST_NS)


def count(value: Any, place: str) -> int:
    """Return a whole number that is not negative."""
    return whole(value, place, 0)


def maybe(check: Check) -> Check:
    """Return a check that lets nothing pass as well."""
    return lambda value, place: None if value is None else check(value, place)


def mapping(value: Any, place: str) -> Mapping[str, Any]:
    """Return an object of JSON."""
    if not isinstance(value, dict):
        raise ValueError(f"{place} is no object")
    return value


def _list(value: Any, place: str, most: int = _LIST) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{place} is no list of at most {most}")
    return value


def each(check: Check, most: int = _LIST) -> Check:
    """Return a check of a list, of all that is in it."""
    return lambda value, place: [check(item, place) for item in _list(value, place, most)]


def fields(value: Any, place: str, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return what is asked for of an object; what is not there is checked as None."""
    data = mapping(value, place)
    return {name: check(data.get(name), f"{place}.{name}") for name, check in checks.items()}


_GPU: Mapping[str, Check] = {
    "name": text,
    "governor": maybe(text),
    "min_khz": maybe(count),
    "max_khz": maybe(count),
}

_FACTS: Mapping[str, Check] = {
    "gpus": each(lambda value, place: fields(value, place, _GPU), 64),
    "cpus": maybe(lambda value, place: whole(value, place, 1, _LIST)),
    "affinity": maybe(each(count)),
    "ticks_hz": lambda value, place: whole(value, place, 1, 10**9),
    "governor": each(maybe(text)),
    "min_khz": each(maybe(count)),
    "max_khz": each(maybe(count)),
    "zones": each(maybe(text)),
    "cooling": each(maybe(text)),
    "power_mode": maybe(text),
}

_SAMPLE: Mapping[str, Check] = {
    "t_ns": count,
    "khz": each(maybe(count)),
    "millicelsius": each(maybe(whole)),
    "cooling": each(maybe(whole)),
    "throttle_counts": each(maybe(count)),
    "firmware_throttled": each(count),
    "load1": maybe(real),
    "ticks": maybe(each(count)),
    "own_cpu_s": real,
    "gpu_khz": each(maybe(count), 64),
    "gpu_reasons": each(text, 64),
}

_LOAD: Mapping[str, Check] = {
    "simulated": lambda value, place: value is not None and flag(value, place),
    "device_bytes": maybe(count),
    "load_ns": maybe(_positive),
    "first_inference_ns": maybe(_positive),
    "cold": flag,
    "why_not_cold": maybe(text),
    "baseline_bytes": maybe(count),
    "peak_bytes": maybe(count),
    "memory_method": text,
    "version": text,
}

_LAYER: Mapping[str, Check] = {"name": text, "op": text, "provider": text, "mean_ms": real}

UNITS = ("CPU", "GPU", "Neural Engine", "another unit")
"""Units that a placement may name."""


def _unit(value: Any, place: str) -> str:
    if value not in UNITS:
        raise ValueError(f"{place} is no unit")
    return str(value)


def _share(value: Any, place: str) -> float:
    share = real(value, place)
    if not 0 <= share <= 1:
        raise ValueError(f"{place} is no share")
    return share


_PLANNED: Mapping[str, Check] = {
    "name": text,
    "op": text,
    "preferred": maybe(_unit),
    "supported": each(_unit, len(UNITS)),
    "cost": maybe(_share),
}

_DEVICE_MS: Mapping[str, Check] = {
    name: lambda value, place: _least(value, place, 0.0)
    for name in ("upload_ms", "compute_ms", "download_ms")
}

_PLACEMENT: Mapping[str, Check] = {
    "units": text,
    "compile_ms": real,
    "why_not": maybe(text),
    "operations": each(lambda value, place: fields(value, place, _PLANNED), _LAYERS),
}

_POWER: Mapping[str, Check] = {
    "source": maybe(text),
    "scope": maybe(text),
    "rails": each(text, 64),
    "method": maybe(text),
    "idle_w": maybe(real),
    "idle_s": maybe(real),
    "why_not": maybe(text),
}


_AS_LONG = {"khz": "max_khz", "cooling": "cooling", "millicelsius": "zones", "gpu_khz": "gpus"}


def _facts(value: Any) -> dict[str, Any]:
    return fields(value, "environment", _FACTS)


def _sample(value: Any, place: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    found = fields(value, place, _SAMPLE)
    for name, like in _AS_LONG.items():
        if len(found[name]) != len(facts[like]):
            raise ValueError(f"{place}.{name} has another length than environment.{like}")
    if found["ticks"] is not None and len(found["ticks"]) != 8:
        raise ValueError(f"{place}.ticks are not eight")
    return found


def _samples(windows: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [window["environment"] for window in windows]


def _window(value: Any, place: str, facts: Mapping[str, Any], ids: Sequence[str]) -> dict[str, Any]:
    data = mapping(value, place)
    if data.get("artifact") not in ids:
        raise ValueError(f"{place}.artifact is none of the job's")
    samples = data.get("samples_ns")
    if not isinstance(samples, list) or not samples:
        raise ValueError(f"{place}.samples_ns is no list of durations")
    if not all(type(item) is int and 0 < item <= _MOST_NS for item in samples):
        raise ValueError(f"{place}.samples_ns are no durations")
    begin, end = (count(data.get(name), f"{place}.{name}") for name in ("begin_ns", "end_ns"))
    # Each duration lies within the window on the same clock: fewer samples cannot claim more time.
    if sum(samples) > end - begin:
        raise ValueError(f"{place}: its inferences last longer than the window")
    return {
        "artifact": data["artifact"],
        "repetition": count(data.get("repetition"), f"{place}.repetition"),
        "environment": _sample(data.get("environment"), f"{place}.environment", facts),
        "samples_ns": samples,
        "begin_ns": begin,
        "end_ns": end,
        "energy_j": maybe(real)(data.get("energy_j"), f"{place}.energy_j"),
    }


def _about(value: Any, place: str) -> dict[str, Any]:
    data = mapping(value, place)
    warm_up = mapping(data.get("warmup"), f"{place}.warmup")
    return {
        "id": data.get("id"),
        "cold": fields(data.get("cold"), f"{place}.cold", _LOAD),
        "warm": fields(data.get("warm"), f"{place}.warm", _LOAD),
        "layers": [
            fields(item, f"{place}.layers", _LAYER)
            for item in _list(data.get("layers"), f"{place}.layers", _LAYERS)
        ],
        "placement": maybe(_placement)(data.get("placement"), f"{place}.placement"),
        "device_ms": maybe(_device_ms)(data.get("device_ms"), f"{place}.device_ms"),
        "warmup": {
            "stable": flag(warm_up.get("stable"), f"{place}.warmup.stable"),
            "medians_ns": each(count, _WINDOWS)(warm_up.get("medians_ns"), f"{place}.warmup"),
            "elapsed_ns": count(warm_up.get("elapsed_ns"), f"{place}.warmup.elapsed_ns"),
        },
    }


def _placement(value: Any, place: str) -> dict[str, Any]:
    return fields(value, place, _PLACEMENT)


def _device_ms(value: Any, place: str) -> dict[str, Any]:
    return fields(value, place, _DEVICE_MS)


def _power(value: Any) -> dict[str, Any]:
    return fields(value, "power", _POWER)
