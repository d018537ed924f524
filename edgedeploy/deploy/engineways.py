"""The two ways in which a device builds an engine: its Python ``tensorrt``, or ``trtexec``.

Both are given the same program: the typed graph and its recipe. Python is taken where the device
has it, because it tells more: how far the builder is, the node that a parser refuses, the
signature.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from edgedeploy.backends.trt import onboard
from edgedeploy.deploy.enginebuild import CACHE, Order, Step
from edgedeploy.devices.gpu_facts import GpuSurvey, Way
from edgedeploy.errors import BuildError, DeviceError, EdgedeployError

_PARTS = 1000
"""Parts of its work that a phase of the builder is told in."""

_TUNE = "lower the builder's optimization level, or use a device with more memory"
# Failures that are the program's, or the recipe's, by what they are called there.
_REFUSED = {
    "parse": ("E338", "TensorRT does not parse the graph", "use another `quantize:`"),
    "refused": ("E339", "TensorRT makes no engine", "use another `quantize:`, or other options"),
    "option": ("E336", "TensorRT lacks an option there", "leave it out, or use a newer TensorRT"),
}


def order_for(survey: GpuSurvey, program: Path) -> Order:
    """Return how a device builds a program.

    Args:
        survey: What the device is.
        program: Folder of the program, with its recipe.

    Raises:
        BuildError: Its TensorRT lacks what the recipe asks for (E336), or is of no line that is
            known (E337).
        DeviceError: It has no TensorRT (E486).
    """
    if not survey.ways:
        raise survey.no_runtime("TensorRT")
    way = survey.ways[0]
    return _by_python(survey, way)


def _by_python(survey: GpuSurvey, way: Way) -> Order:
    """Return the order for ``onboard_build.py``."""
    job = onboard.job(held=False, timing_cache=CACHE)
    files = {name: (onboard.FOLDER / name).read_bytes() for name in onboard.DEVICE_FILES}
    words = [onboard.DEVICE_FILES[0], "job.json"]
    phases = _Phases()
    return Order(
        way="python",
        command=f"{quote(way.path)} {' '.join(words)}",
        shown=("python", *words),
        files={**files, "job.json": json.dumps(job).encode()},
        log="build.log",
        watch=phases.step,
        failure=lambda status, result, lines: _python_failure(survey, status, result),
        told=lambda result: _python_facts(survey, result),
    )


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
        raise ValueError("a stand-in is at work where there was none, or the other way round")
    kept = ("python", "cuda_runtime", "cuda_driver", "typed", "constrained_layers", "build_s")
    facts = {name: answer.facts[name] for name in kept if name in answer.facts}
    return {**facts, "signature": dict(answer.signature)}


def _python_failure(survey: GpuSurvey, status: int, result: bytes) -> EdgedeployError | None:
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
    code, what, hint = _REFUSED[failure.kind]
    where = "".join(
        f"; node {item.name or item.node}{f' ({item.op})' if item.op else ''}: {item.message}"
        for item in failure.complaints
    )
    name = survey.version or ""
    return BuildError(
        f"TensorRT {name} of {survey.device}: {what}: {(where[2:] or message)[:1500]}",
        code=code,
        subject=failure.option or survey.device,
        hint=hint,
    )


def _broken(survey: GpuSurvey, kind: str, message: str) -> DeviceError:
    hints = {
        "memory": _TUNE,
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
