"""The two ways in which a device builds an engine: its Python ``tensorrt``, or ``trtexec``.

Both are given the same program: the typed graph and its recipe. Python is taken where the device
has it, because it tells more: how far the builder is, the node that a parser refuses, the
signature.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from edgedeploy.backends.trt import onboard
from edgedeploy.backends.trt.buildlog import BuildLog
from edgedeploy.backends.trt.inspector import EngineLayers, read_layers
from edgedeploy.backends.trt.options import parse_version
from edgedeploy.backends.trt.trtexec import build_command, is_strongly_typed
from edgedeploy.deploy.enginebuild import CACHE, ENGINE, LAYERS, Order, Step
from edgedeploy.devices.gpu_facts import GpuSurvey, Way
from edgedeploy.errors import BuildError, DeviceError, Diagnostic, EdgedeployError

RECIPE = "recipe.json"

_PARTS = 1000
"""Parts of its work that a phase of the builder is told in."""

_SIGNALS = 128
"""A status from here on is a signal's: whoever ended the build, TensorRT did not refuse it."""

_OTHER = "a stand-in is at work where there was none, or the other way round"

# What trtexec says when it cannot write; source: NVIDIA/TensorRT, samples/common/sampleEngines.cpp,
# ``saveEngine``.
_UNWRITTEN = re.compile(
    r"Saving engine to file failed|Cannot open engine file|No space left", re.IGNORECASE
)

# Failures that are the program's, or the recipe's, by what they are called there.
_REFUSED = {
    "parse": ("E339", "choose another `quantize:`, or replace the node by other operators"),
    "refused": ("E339", "choose another `quantize:`, or keep the node in float (`keep_float`)"),
    "option": ("E336", "leave the option out, or use a device whose TensorRT has it"),
}


def order_for(survey: GpuSurvey, program: Path) -> Order:
    """Return how a device builds a program.

    Args:
        survey: What the device is.
        program: Folder of the program, with its recipe.

    Raises:
        BuildError: Its TensorRT lacks what the recipe asks for (E336), is of no line that is known
            (E337), or its command line cannot say what the recipe does (E338).
        DeviceError: It has no TensorRT (E486).
    """
    if not survey.ways:
        raise survey.no_runtime("TensorRT")
    way = survey.ways[0]
    recipe = json.loads((program / RECIPE).read_bytes())
    parse_version(way.version)
    return (_by_python if way.kind == "python" else _by_trtexec)(survey, way, recipe)


def _by_python(survey: GpuSurvey, way: Way, recipe: Mapping[str, Any]) -> Order:
    """Return the order for ``onboard_build.py``."""
    cache = CACHE if recipe["options"].get("timing_cache", True) else None
    job = onboard.job(held=False, timing_cache=cache)
    files = {name: (onboard.FOLDER / name).read_bytes() for name in onboard.DEVICE_FILES}
    words = [onboard.DEVICE_FILES[0], "job.json"]
    return Order(
        way="python",
        command=f"{quote(way.path)} {' '.join(words)}",
        shown=("python", *words),
        files={**files, "job.json": json.dumps(job).encode()},
        log="build.log",
        watch=_Phases().step,
        failure=lambda status, result: _python_failure(survey, result),
        layers=_layers,
        told=lambda result: _python_facts(survey, result),
    )


def _by_trtexec(survey: GpuSurvey, way: Way, recipe: Mapping[str, Any]) -> Order:
    """Return the order for ``trtexec``."""
    command = build_command(
        way.version,
        recipe,
        trtexec=way.path,
        model="model.onnx",
        engine=ENGINE,
        timing_cache=CACHE,
        layers=LAYERS,
    )
    log = BuildLog()

    def watch(line: str) -> Step:
        log.feed(line.encode() + b"\n")
        now = log.progress
        return Step(done=now.layers, total=now.of or 0, left_s=now.eta_s, detail=now.phase)

    def told(_: bytes) -> Mapping[str, Any]:
        said = log.close()
        if ("stand-in" in (said.note or "")) != survey.simulated:
            raise ValueError(_OTHER)
        strong = is_strongly_typed(parse_version(way.version), recipe["options"])
        return {"typed": "strong" if strong else "weak"}

    def failure(status: int, _: bytes) -> EdgedeployError | None:
        said = log.close()
        unwritten = [item.text for item in said.errors if _UNWRITTEN.search(item.text)]
        if unwritten:
            # Of the device, not of the program: no other candidate would fare better.
            return _broken(survey, "disk", unwritten[0])
        refused = status < _SIGNALS and (said.passed is False or said.errors)
        return log.failure(survey.device) if refused else None

    return Order(
        way="trtexec",
        command=" ".join(map(quote, command)),
        shown=("trtexec", *command[1:]),
        watch=watch,
        failure=failure,
        layers=_layers,
        told=told,
    )


def _layers(data: bytes) -> Mapping[str, Any]:
    """Return what an inspector tells in the one form of it; of none, that there is none.

    Raises:
        ValueError: It is not what an inspector writes.
    """
    return (read_layers(data) if data else EngineLayers(detail="none", layers=())).to_json()


class _Phases:
    """The phases of ``onboard_build.py`` as steps; the time left by the builder's own fraction."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase = ""
        self._since = 0.0

    def step(self, line: str) -> Step | None:
        event = onboard.read_event(line.encode())
        if event is None:
            return None
        now = self._clock()
        if event.phase != self._phase:
            self._phase, self._since = event.phase, now
        if event.fraction is None:
            return Step(detail=event.phase)
        spent_s, done = now - self._since, event.fraction
        left_s = spent_s * (1 - done) / done if done > 0.01 and spent_s > 1 else None
        return Step(
            done=round(_PARTS * done),
            total=_PARTS,
            left_s=left_s,
            detail=event.inner or event.phase,
        )


def _python_facts(survey: GpuSurvey, result: bytes) -> Mapping[str, Any]:
    """Return what the build says of itself, for the provenance.

    Raises:
        ValueError: It cannot be.
    """
    answer = onboard.read_answer(result)
    if answer.simulated != survey.simulated:
        raise ValueError(_OTHER)
    kept = ("python", "cuda_runtime", "cuda_driver", "typed", "constrained_layers", "build_s")
    facts = {name: answer.facts[name] for name in kept if name in answer.facts}
    return {**facts, "signature": dict(answer.signature)}


def _python_failure(survey: GpuSurvey, result: bytes) -> EdgedeployError | None:
    """Return why there is no engine, as the program says it; None where it does not."""
    try:
        failure = onboard.read_answer(result).failure if result else None
    except ValueError:
        return None
    if failure is None:
        return None
    message = failure.message or (failure.log[-1] if failure.log else "it does not say why")
    if failure.kind not in _REFUSED:
        return _broken(survey, failure.kind, message)
    code, hint = _REFUSED[failure.kind]
    who = f"TensorRT {survey.version or ''} of {survey.device}"
    if not failure.complaints:
        return BuildError(
            f"{who} refuses it: {message[:1000]}",
            code=code,
            subject=failure.option or survey.device,
            hint=hint,
        )
    return BuildError(
        Diagnostic(
            code=code,
            message=f"{who} does not parse it: {item.message}",
            subject=item.name or item.op or f"node {item.node}",
            hint=hint,
        )
        for item in failure.complaints
    )


def _broken(survey: GpuSurvey, kind: str, message: str) -> DeviceError:
    hints = {
        "memory": "set `workspace` lower, or free memory on the device",
        "missing": "see what `edgedeploy devices probe` finds there",
        "device": "see whether `nvidia-smi` works there, and its driver fits its TensorRT",
        "disk": "make room on the device, or give it another `root:` in devices.yaml",
        "load": "see whether the driver fits its TensorRT",
    }
    return DeviceError(
        f"{survey.device} built no engine ({kind}): {message[:500]}",
        code="E484",
        subject=survey.device,
        hint=hints.get(kind, "run it again; the log of the build says more"),
    )
