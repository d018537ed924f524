"""The host's side of ``onboard_build.py``: what travels, its job, and what it may answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.backends.trt.onboard_build import BUILD_VERSION, STATUSES
from edgedeploy.remote import printable

DEVICE_FILES = ("onboard_build.py", "onboard_watch.py")
"""The program and what it needs beside it."""

FOLDER = Path(__file__).parent
"""Where they lie here."""

RESULT_BYTES = 1 << 20
"""The most that ``result.json`` may have."""

LOG_BYTES = 4 << 20
"""The most that ``build.log`` may have; the program stops short of it."""

LAYERS_BYTES = 64 << 20
"""The most that ``layers.json`` may have, as the program limits it."""

_TEXT = 2000
_NAME = 200
_MANY = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_EVENTS = ("phase", "progress", "ended")


def job(*, held: bool, timing_cache: str | None) -> dict[str, Any]:
    """Return a job for the program.

    Args:
        held: Whether it ends with its standard input.
        timing_cache: Where the cache lies on the device, absolute or beside the job; None keeps
            none.
    """
    return {"build": BUILD_VERSION, "held": held, "timing_cache": timing_cache}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of progress.

    Attributes:
        phase: What is at work: a step of the program (``parse``, ``build`` ...) or, with a
            fraction, an outermost phase of the builder.
        inner: The innermost phase of the builder, as it names it; empty outside of the builder.
        fraction: Of the builder's phase, in 0..1; None outside of the builder.
    """

    phase: str
    inner: str = ""
    fraction: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """What the parser says of a node.

    Attributes:
        node: The node's number in the graph; negative where it is none's.
        name: The node's name; None where TensorRT does not tell it (8.6).
        op: Its operator; as ``name``.
        code: TensorRT's word for the kind of error, such as ``UNSUPPORTED_NODE``.
        message: In its words.
    """

    node: int
    name: str | None
    op: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no engine.

    Attributes:
        kind: One of :data:`edgedeploy.backends.trt.onboard_build.STATUSES`.
        message: In TensorRT's words, or the program's.
        complaints: Of a model that was not parsed: the first errors.
        option: Of a kind ``option``: what is lacking; else empty.
        log: The last errors that TensorRT logged, oldest first.
    """

    kind: str
    message: str
    complaints: tuple[Complaint, ...] = ()
    option: str = ""
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a build on a device came to.

    Attributes:
        tensorrt: Its version; empty where none was loaded.
        simulated: Whether a stand-in says that it stands for TensorRT.
        facts: JSON data for the engine's provenance: versions, the GPU, times, the timing cache's
            digests, whether the network was strongly typed.
        signature: ``{"inputs": [...], "outputs": [...]}`` of the engine; empty without one.
        sha256: Of the engine; empty without one.
        size_bytes: Of the engine.
        layers: Whether ``layers.json`` was written.
        failure: None where there is an engine.
    """

    tensorrt: str
    simulated: bool
    facts: Mapping[str, Any]
    signature: Mapping[str, Any]
    sha256: str
    size_bytes: int
    layers: bool
    failure: Failure | None


def read_event(line: bytes) -> Step | None:
    """Return a line of progress; None for what is none, whatever it is.

    Args:
        line: What a device printed.
    """
    try:
        data = json.loads(line)
        if not isinstance(data, dict) or data.get("event") not in _EVENTS:
            return None
        phase = _text(data.get("phase", data["event"]))[:_NAME]
        inner = _text(data.get("inner", ""))[:_NAME]
    except (ValueError, RecursionError):
        return None
    fraction = data.get("fraction")
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        return Step(phase=phase, inner=inner)
    right = 0 <= fraction <= 1  # not so for NaN
    return Step(phase=phase, inner=inner, fraction=float(fraction) if right else None)


def read_answer(data: bytes) -> Answer:
    """Return what ``result.json`` says.

    Args:
        data: The file, at most :data:`RESULT_BYTES`.

    Raises:
        ValueError: It cannot be what the program wrote; says why.
    """
    if len(data) > RESULT_BYTES:
        raise ValueError("the result is too large")
    try:
        result = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("the result is no JSON") from error
    if not isinstance(result, dict) or result.get("build") != BUILD_VERSION:
        raise ValueError("the result is not one of this version of the builder")
    failed, engine = result.get("failed"), result.get("engine")
    if (failed is None) == (engine is None):
        raise ValueError("the result tells both or none of an engine and a failure")
    layers = result.get("layers")
    return Answer(
        tensorrt=_text(result.get("tensorrt", "")),
        simulated=result.get("simulated") is True,
        facts=_facts(result),
        signature={} if engine is None else _signature(result.get("signature")),
        sha256="" if engine is None else _digest(_object(engine).get("sha256")),
        size_bytes=0 if engine is None else _count(_object(engine).get("size_bytes")),
        layers=isinstance(layers, dict) and layers.get("written") is True,
        failure=None if failed is None else _failure(_object(failed)),
    )


def _failure(data: Mapping[str, Any]) -> Failure:
    kind = _text(data.get("kind"))
    if kind not in STATUSES:
        raise ValueError("the failure is of no kind that there is")
    return Failure(
        kind=kind,
        message=_text(data.get("message", "")),
        complaints=tuple(_complaint(_object(item)) for item in _list(data.get("errors", []))),
        option=_text(data.get("option", "")),
        log=tuple(_text(item) for item in _list(data.get("log", []))),
    )


def _complaint(data: Mapping[str, Any]) -> Complaint:
    node, name, op = data.get("node"), data.get("name"), data.get("op")
    if isinstance(node, bool) or not isinstance(node, int) or abs(node) > 2**31:
        raise ValueError("an error of the parser names no node")
    return Complaint(
        node=node,
        name=None if name is None else _text(name),
        op=None if op is None else _text(op),
        code=_text(data.get("code", "")),
        message=_text(data.get("message", "")),
    )


def _facts(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that make the provenance, those that are there."""
    found: dict[str, Any] = {}
    for name in ("python", "cuda_runtime", "cuda_driver", "typed"):
        if result.get(name) is not None:
            found[name] = _text(result[name])
    seconds = result.get("build_s")
    if seconds is not None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise ValueError("the build's time is no number")
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError("the build's time cannot be")
        found["build_s"] = float(seconds)
    if result.get("constrained_layers") is not None:
        found["constrained_layers"] = _count(result["constrained_layers"])
    if result.get("gpu") is not None:
        gpu = _object(result["gpu"])
        found["gpu"] = {name: _text(gpu.get(name, "")) for name in ("name", "compute_capability")}
    if result.get("timing_cache") is not None:
        cache = _object(result["timing_cache"])
        found["timing_cache"] = {"taken": cache.get("taken") is True} | {
            name: None if cache.get(name) is None else _digest(cache[name])
            for name in ("sha256_before", "sha256_after")
        }
    return found


def _signature(data: Any) -> dict[str, Any]:
    """Return the signature with nothing in it but names, types and sizes."""
    found: dict[str, Any] = {}
    for side in ("inputs", "outputs"):
        entries = [_object(item) for item in _list(_object(data).get(side))]
        found[side] = [
            {
                "name": _text(entry.get("name")),
                "dtype": _text(entry.get("dtype")),
                "shape": _sizes(entry.get("shape")),
            }
            for entry in entries
        ]
        if side == "inputs":
            for kept, entry in zip(found[side], entries, strict=True):
                profiles = [_list(profile) for profile in _list(entry.get("profiles", []))]
                kept["profiles"] = [[_sizes(end) for end in profile] for profile in profiles]
    return found


def _sizes(data: Any) -> list[int]:
    sizes = _list(data)
    if not all(type(size) is int and -1 <= size < 2**62 for size in sizes):
        raise ValueError("a shape has a size that cannot be")
    return sizes


def _object(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise ValueError("an object is missing in the result")
    return data


def _list(data: Any) -> list[Any]:
    if not isinstance(data, list) or len(data) > _MANY:
        raise ValueError("a list is missing in the result, or too long")
    return data


def _text(data: Any) -> str:
    if not isinstance(data, str):
        raise ValueError("a text is missing in the result")
    return printable(data[:_TEXT].encode("utf-8", "replace"))


def _digest(data: Any) -> str:
    if not isinstance(data, str) or not _DIGEST.fullmatch(data):
        raise ValueError("a digest in the result is none")
    return data


def _count(data: Any) -> int:
    if type(data) is not int or not 0 <= data < 2**53:
        raise ValueError("a count in the result cannot be")
    return data
