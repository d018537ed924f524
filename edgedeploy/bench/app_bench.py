"""Reading what the tests of an app measured on a phone: strictly, because anybody may have made it.

The document is the one that a Swift package's bench writes (``docs/packages-apple.md``). It becomes
a result in the form of ``loop.py``, so that figures and validity are worked out as for any other
measurement, and a record that says wherever it stands that it was imported.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from edgedeploy.bench import checking
from edgedeploy.bench.checking import Check, count, each, fields, flag, maybe, real, text, whole
from edgedeploy.bench.job import BenchArtifact, BenchInputs, BenchJob
from edgedeploy.bench.record import build_record
from edgedeploy.bench.validity import Validity

DOCUMENT_BYTES = 16 << 20
"""The largest document that is read: ten seconds of calls of 5 us each take about half of it."""

MODE: Literal["quick"] = "quick"
"""The plan that the bench of a package follows."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}")
_TIME = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z")
_AHEAD = timedelta(days=1)
"""How far a phone's clock may be ahead of this machine's; the newest record counts for ever."""

_WINDOWS = 100_000
_OUTPUTS = 4096
_HOT = ("serious", "critical")
_CODE = "Swift"
_NO_POWER = "an app is told no power"
_NOT_COLD = "an app cannot empty the page cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppBench:
    """What a document says, checked.

    Attributes:
        sha256: Of the document, 64 hex digits.
        release: Digest of the manifest of the release that the app's package was made from.
        model: Name of the model.
        target: ``board/runtime``.
        artifact: Digest of the artifact that was measured.
        created: When, by the phone's clock; ISO 8601 in UTC.
        runtime_version: Of a runtime that came with the app; None: the system's own.
        units: Units that Core ML might use, as profiles name them.
        threads: Threads that ONNX Runtime might use.
        inputs: ``golden`` or ``zeros``.
        machine: What the device calls itself, such as ``iPhone16,1``.
        system: ``ios`` or ``macos``.
        os_version: Its version.
        simulator: Whether it was a simulator.
        optimised: False for a debug build.
        load_ns: Of the first load, the compilation with it where Core ML had none.
        first_inference_ns: Of the first call.
        warm_up: As ``loop.py`` gives it.
        windows: What was measured: ``begin_ns``, ``end_ns``, ``samples_ns``, ``thermal``,
            ``low_power``.
        ended: ``complete`` or ``max_s``.
        cosines: The least of all golden samples, by output.
        least_cosine: What the profile asked for; None: nothing.
    """

    sha256: str
    release: str
    model: str
    target: str
    artifact: str
    created: str
    runtime_version: str | None
    units: str
    threads: int
    inputs: str
    machine: str
    system: str
    os_version: str
    simulator: bool
    optimised: bool
    load_ns: int
    first_inference_ns: int
    warm_up: Mapping[str, Any]
    windows: Sequence[Mapping[str, Any]]
    ended: str
    cosines: Mapping[str, float]
    least_cosine: float | None

    def own_reasons(self) -> Iterator[str]:
        """Yield why the figures prove nothing, of what other measurements do not tell."""
        if not self.optimised:
            yield "debug build: its figures say little"
        hot = [window["thermal"] for window in self.windows if window["thermal"] in _HOT]
        if hot:
            yield f"throttled: the system's thermal state was {hot[0]}"
        if any(window["low_power"] for window in self.windows):
            yield "throttled: the device was in low power mode"
        least = self.least_cosine
        for name, cosine in self.cosines.items():
            if least is not None and cosine < least:
                yield f"outputs: {name} has a cosine of {cosine:.6f}, and {least:g} is asked for"

    def about(self) -> dict[str, Any]:
        """Return what a record keeps beside the figures, as JSON data."""
        return {
            "sha256": self.sha256,
            "release": self.release,
            "inputs": self.inputs,
            "load_ms": self.load_ns / 1e6,
            "cosines": dict(self.cosines),
            "least_cosine": self.least_cosine,
        }


def read_app_bench(content: bytes, now: datetime) -> AppBench:
    """Return what a document says.

    Args:
        content: The document, at most ``DOCUMENT_BYTES``.
        now: With its zone; what claims to be measured later is refused.

    Raises:
        ValueError: It is no such document: something is missing, too much, of another type, out
            of range, or contradicts the rest.
    """
    if len(content) > DOCUMENT_BYTES:
        raise ValueError(f"it is larger than {DOCUMENT_BYTES >> 20} MiB")
    data = checking.mapping(checking.parsed(content), "it")
    if data.get("kind") != "app-bench" or data.get("schema") != 1:
        raise ValueError("it is no bench of an app, of schema 1")
    more = sorted(data.keys() - _DOCUMENT.keys() - {"kind", "schema"})
    if more:
        raise ValueError(f"it has {text(more[0], 'it')!r}, which such a document has not")
    found = fields(data, "it", _DOCUMENT)
    device = found.pop("device")
    created = datetime.fromisoformat(found.pop("created"))
    if created > now + _AHEAD:
        raise ValueError(f"it was measured in the future, {created.isoformat()}")
    _check_order(found["windows"])
    return AppBench(
        **found,
        **device,
        created=created.astimezone(UTC).isoformat(timespec="seconds"),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def app_record(
    app: AppBench, artifact: str, family: str, options: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Return the record of a document and write its raw samples into ``folder``.

    Args:
        app: What the document says.
        artifact: What the build calls the artifact: ``float``, or a candidate.
        family: Which runtime ran it.
        options: Those of the session that it is a measurement of.
        folder: Where the samples file goes.

    Returns:
        JSON data as of :func:`edgedeploy.bench.record.build_record`, ``imported`` and ``app`` with
        it. What an app is not told (memory, energy, layers, a cold load) is None.

    Raises:
        ValueError: Times of the document contradict each other.
    """
    job = _job(app, artifact, family, options)
    result = checking.checked_result(job, _result(app, artifact))
    record = build_record(job, job.artifacts[0], result, app.created, folder)
    record["conditions"]["inputs"] = {"source": app.inputs, "samples": 1, "generated": []}
    found = Validity(reasons=(*app.own_reasons(), *record["validity"]["reasons"]))
    return {**record, "validity": found.to_json(), "imported": True, "app": app.about()}


def _job(app: AppBench, artifact: str, family: str, options: Mapping[str, Any]) -> BenchJob:
    measured = BenchArtifact(
        id=artifact,
        family=family,  # type: ignore[arg-type]
        path=Path(),
        threads=app.threads,
        options=options,
        digest=app.artifact,
        target=app.target,
    )
    return BenchJob(
        artifacts=(measured,),
        inputs=BenchInputs(samples=1),
        mode=MODE,
        device={
            "kind": "phone" if app.system == "ios" else "computer",
            "name": app.machine,
            "board": app.target.partition("/")[0],
            "machine": None,
            "model": app.machine,
            # Names the chip as well: figures of other phones are not compared with it.
            "cpu": app.machine,
            "cores": None,
            "system": f"{app.system} {app.os_version}",
            "emulated": f"simulator of {app.system}" if app.simulator else "",
            "platform": None,
        },
        evidence="simulated" if app.simulator else "device",
    )


def _result(app: AppBench, artifact: str) -> dict[str, Any]:
    """Return the document in the form of a result of ``loop.py``; an app sees no clocks or load."""
    lists = ("gpus", "governor", "min_khz", "max_khz", "zones", "cooling")
    load = {
        "cold": False,
        "why_not_cold": _NOT_COLD,
        "memory_method": "none",
        "version": app.runtime_version or f"of {app.system} {app.os_version}",
    }
    return {
        "clock": "uptime",
        "python": _CODE,
        "ended": app.ended,
        "environment": {**{name: [] for name in lists}, "ticks_hz": 1},
        "before": _seen(app.windows[0]["begin_ns"]),
        "windows": [
            {
                "artifact": artifact,
                "repetition": at // 2,
                "begin_ns": window["begin_ns"],
                "end_ns": window["end_ns"],
                "samples_ns": window["samples_ns"],
                "environment": _seen(window["end_ns"]),
            }
            for at, window in enumerate(app.windows)
        ],
        "artifacts": [
            {
                "id": artifact,
                "cold": load,
                "warm": {**load, "first_inference_ns": app.first_inference_ns},
                "layers": [],
                "warmup": app.warm_up,
            }
        ],
        "power": {"rails": [], "why_not": _NO_POWER},
    }


def _seen(time_ns: int) -> dict[str, Any]:
    lists = ("khz", "millicelsius", "cooling", "throttle_counts", "firmware_throttled", "gpu_khz")
    return {**{name: [] for name in (*lists, "gpu_reasons")}, "t_ns": time_ns, "own_cpu_s": 0}


def _check_order(windows: Sequence[Mapping[str, Any]]) -> None:
    if not windows:
        raise ValueError("windows: nothing was measured")
    for before, after in pairwise(windows):
        if after["begin_ns"] < before["end_ns"]:
            raise ValueError("windows: one begins before the last one ended")


def _one_of(*known: str) -> Check:
    def check(value: Any, place: str) -> str:
        if value not in known:
            raise ValueError(f"{place} is none of {', '.join(known)}")
        return str(value)

    return check


def _like(pattern: re.Pattern[str], what: str) -> Check:
    def check(value: Any, place: str) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"{place} is no {what}")
        return value

    return check


def _positive(value: Any, place: str) -> int:
    return whole(value, place, 1)


def _cosine(value: Any, place: str) -> float:
    found = real(value, place)
    if not -1 <= found <= 1 + 1e-6:
        raise ValueError(f"{place} is no cosine")
    return found


def _cosines(value: Any, place: str) -> dict[str, float]:
    found = checking.mapping(value, place)
    if len(found) > _OUTPUTS:
        raise ValueError(f"{place} are of more than {_OUTPUTS} outputs")
    return {text(name, place): _cosine(item, place) for name, item in found.items()}


def _samples(value: Any, place: str) -> Any:
    return value  # by checking.checked_result, all in one pass


_DEVICE: Mapping[str, Check] = {
    "machine": text,
    "os": _one_of("ios", "macos"),
    "os_version": _like(_VERSION, "version"),
    "simulator": flag,
}
_WINDOW: Mapping[str, Check] = {
    "begin_ns": count,
    "end_ns": count,
    "samples_ns": _samples,
    "thermal": _one_of("nominal", "fair", *_HOT, "unknown"),
    "low_power": flag,
}
_WARM_UP: Mapping[str, Check] = {
    "medians_ns": each(count),
    "elapsed_ns": count,
    "stable": flag,
}


def _device(value: Any, place: str) -> dict[str, Any]:
    found = fields(value, place, _DEVICE)
    system = found.pop("os")
    return {**found, "system": system}


_DOCUMENT: Mapping[str, Check] = {
    "release": _like(_DIGEST, "digest"),
    "model": text,
    "target": text,
    "artifact": _like(_DIGEST, "digest"),
    "created": _like(_TIME, "time"),
    "runtime_version": maybe(_like(_VERSION, "version")),
    "units": _one_of("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"),
    "threads": lambda value, place: whole(value, place, 0, 4096),
    "inputs": _one_of("golden", "zeros"),
    "device": _device,
    "optimised": flag,
    "load_ns": _positive,
    "first_inference_ns": _positive,
    "warm_up": lambda value, place: fields(value, place, _WARM_UP),
    "windows": each(lambda value, place: fields(value, place, _WINDOW), _WINDOWS),
    "ended": _one_of("complete", "max_s"),
    "cosines": _cosines,
    "least_cosine": maybe(_cosine),
}
