"""Running artifacts on a device without Python: the native runner, step by step.

Each load is a process of its own on the device, as ``loop.py`` does it there; here the steps are
commands over the connection.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import Any

from edgedeploy.bench import checking, native_result
from edgedeploy.bench.answers import write_answers
from edgedeploy.bench.evidence import look_for_evidence
from edgedeploy.bench.job import BenchArtifact, BenchJob, OutputsJob
from edgedeploy.bench.measure import longest_s
from edgedeploy.bench.native_job import (
    UnfitJobError,
    artifact_lines,
    job_text,
    plan_lines,
    sample_lines,
    word,
)
from edgedeploy.bench.onboard import DeviceRun, OnDevice, Progress
from edgedeploy.bench.runtimes import kernel_times
from edgedeploy.bench.scratch import Scratch
from edgedeploy.remote import CHUNK_BYTES, DeviceRuntime, Remote

_JOB, _INPUTS, _RESULT, _PROFILE = "job", "inputs.bin", "result", "profile"
_PROFILE_BYTES = 64 << 20
_OPEN_RATIO = 4
_LINES_BYTES = 1 << 20
"""What a result may hold beside tensors."""

NO_POWER = "the native runner does not read power"


class NativeOnboard(OnDevice):
    """Runs artifacts with the native runner (kind ``native``); see :class:`.onboard.Onboard`."""

    def measure(
        self,
        job: BenchJob,
        *,
        deadline_s: float | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Measure; see :meth:`.onboard.Onboard.measure`.

        Raises:
            DeviceError: As there; also for what the native runner cannot do (E468).
        """
        told = job.to_loop()
        ids = [artifact["id"] for artifact in told["artifacts"]]
        with Scratch(self._remote, self._scratch) as scratch:
            about = ", ".join(ids)
            run = NativeRun(self._remote, self._runtime, scratch, about, on_progress)
            run.end_s = time.monotonic() + (deadline_s or longest_s(job))
            evidence = look_for_evidence(self._remote, told["sysfs"], told["procfs"])
            watched = [f"watch {word(path)}" for _, path in evidence.watched]
            plan = plan_lines(told["plan"], len(ids), job.seed)
            run.send(told, told["inputs"], [*_state(job.inputs.state), *watched, *plan])
            artifacts = [run.loads(slot, name, told["plan"]) for slot, name in enumerate(ids)]
            run.plan = told["plan"]
            run.phase("warm-up", about)
            found = run.step("windows", checking.RESULT_BYTES)
            try:
                data = native_result.measurement(found, ids, evidence)
                for artifact, warmup in zip(artifacts, data.pop("warmup"), strict=True):
                    artifact["warmup"] = warmup
                return checking.checked_result(job, {**data, **_about(), "artifacts": artifacts})
            except ValueError as error:
                raise run.impossible("result", error) from error
            finally:
                run.close()

    def outputs(
        self,
        artifact: BenchArtifact,
        job: OutputsJob,
        goal: Path,
        *,
        on_progress: Progress | None = None,
    ) -> tuple[int, ...]:
        """Compute outputs; see :meth:`.onboard.Onboard.outputs`.

        Raises:
            DeviceError: As there; also for what the native runner cannot do (E468).
        """
        told = job.to_loop(artifact, str(job.pack.absolute()))
        told["inputs"]["samples"] = job.samples
        with Scratch(self._remote, self._scratch) as scratch, tempfile.TemporaryDirectory() as here:
            run = NativeRun(self._remote, self._runtime, scratch, artifact.id, on_progress)
            run.end_s = time.monotonic() + job.deadline_s
            count = run.send(told, told["inputs"], _state(job.state))
            index, tensors = Path(here, "index.gz"), Path(here, "tensors.gz")
            try:
                found = run.step("outputs 0", job.limit_bytes + _LINES_BYTES)
                times = native_result.outputs(found, job.outputs, job.limit_bytes, tensors, index)
                if len(times) != count:
                    raise ValueError("there is not one time per sample")
                write_answers(index.read_bytes(), tensors, job, count, goal)
                return tuple(checking.whole(item, "a time", 1, 10**15) for item in times)
            except ValueError as error:
                raise run.impossible("outputs", error) from error
            finally:
                run.close()


def _state(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return the lines of the job that say which output feeds which input."""
    return [f"state {word(given)} {word(made)}" for given, made in pairs]


def _about() -> dict[str, Any]:
    nothing = dict.fromkeys(("source", "scope", "method", "idle_w", "idle_s"))
    return {
        "loop": 1,
        "clock": "CLOCK_MONOTONIC_RAW",
        "python": "none: native runner",
        "power": {**nothing, "rails": [], "why_not": NO_POWER},
    }


class NativeRun(DeviceRun):
    """The steps of the native runner in one folder on the device."""

    end_s: float = 0.0
    """When the run must be over, on this machine's monotonic clock."""

    plan: Mapping[str, Any] = MappingProxyType({})
    """That of the windows, for progress."""

    def __init__(
        self,
        remote: Remote,
        runtime: DeviceRuntime,
        scratch: Scratch,
        about: str,
        on_progress: Progress | None,
    ) -> None:
        super().__init__(remote, runtime, scratch, about, on_progress)
        self._here = tempfile.TemporaryDirectory()

    def close(self) -> None:
        """Remove what was fetched; calling it twice is allowed."""
        self._here.cleanup()

    def send(self, told: Mapping[str, Any], inputs: Mapping[str, Any], lines: Iterable[str]) -> int:
        """Send job and inputs; return how many samples there are.

        Raises:
            DeviceError: The runner cannot do it (E468), or the connection fails.
        """
        tensors = Path(self._here.name, _INPUTS)
        try:
            artifacts = list(artifact_lines(told["artifacts"]))
            samples = list(sample_lines(inputs, tensors, self._scratch.of(_INPUTS)))
        except UnfitJobError as error:
            raise self.failed(
                "E468", str(error), "provision a Python runtime on it, if it has a Python"
            ) from error
        self._scratch.put(tensors, _INPUTS)
        tensors.unlink()
        self._scratch.write(job_text([*artifacts, *samples, *lines], told["cpus"]), _JOB)
        return sum(line.startswith("sample ") for line in samples)

    def loads(self, slot: int, name: str, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Return load times, memory and layers of one artifact, each from a fresh process."""
        self._about = name
        found: dict[str, Any] = {"id": name, "layers": []}
        try:
            for temperature in ("cold", "warm"):
                self.phase(temperature, name)
                found[temperature] = native_result.loading(
                    self.step(f"load {slot} {temperature}", _LINES_BYTES)
                )
            if plan.get("layer_runs"):
                self.phase("layers", name)
                found["layers"] = self._layers(slot, plan["layer_runs"])
        except ValueError as error:
            raise self.impossible("result", error) from error
        return found

    def _layers(self, slot: int, runs: int) -> list[dict[str, Any]]:
        prefix = self._scratch.of(_PROFILE)
        path = native_result.profile_of(
            self.step(f"layers {slot} {runs} {quote(prefix)}", _LINES_BYTES)
        )
        name = path.rpartition("/")[2]
        if path != self._scratch.of(name) or not name.startswith(_PROFILE):
            raise ValueError("the profile lies elsewhere")
        goal = Path(self._here.name, _PROFILE)
        if not self._scratch.get(name, goal, _PROFILE_BYTES):
            raise ValueError("there is no profile")
        try:
            return kernel_times(checking.parsed(goal.read_bytes()), runs)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the profile is none: {error}") from error

    def step(self, words: str, limit_bytes: int) -> Path:
        """Run one verb of the runner to its end and return the file with what it said.

        Args:
            words: The verb, and what follows the job.
            limit_bytes: Of the result.

        Raises:
            DeviceError: As :class:`.onboard.Onboard` says.
        """
        verb, _, rest = words.partition(" ")
        status = self.watch(
            f"cd {quote(self._scratch.path)} && rm -f {_RESULT} {_RESULT}.gz && "
            f"{{ {self._runtime.command} {verb} {_JOB} {rest} 2>&1 >{_RESULT}; status=$?; "
            f"gzip -1 {_RESULT} 2>/dev/null; exit $status; }}",
            max(1.0, self.end_s - time.monotonic()),
        )
        goal = Path(self._here.name, _RESULT)
        packed = goal.with_suffix(".gz")
        if self._scratch.get(f"{_RESULT}.gz", packed, limit_bytes):
            self._unpack(packed, goal, limit_bytes)
        elif not self._scratch.get(_RESULT, goal, limit_bytes):
            raise self.without_result(status)
        failure = native_result.failure_of(goal)
        if failure is not None:
            raise self.told(
                {"artifact": "", "status": 0, "message": checking.text(failure, "failure")}
            )
        if status != 0:
            raise self.without_result(status)
        return goal

    def _unpack(self, packed: Path, goal: Path, limit_bytes: int) -> None:
        left = _OPEN_RATIO * limit_bytes
        try:
            with gzip.open(packed, "rb") as source, open(goal, "wb") as out:
                while data := source.read(CHUNK_BYTES):
                    left -= len(data)
                    if left < 0:
                        raise ValueError("it is too large")
                    out.write(data)
        except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self.impossible("result", error) from error
        finally:
            packed.unlink()

    def take(self, line: bytes) -> None:
        """Pass progress on; see :meth:`.onboard.DeviceRun.take`."""
        words = line.split(b" ")
        figures = [int(word) for word in words[1:] if word.isdigit() and len(word) < 20]
        if words[0] == b"progress" and len(words) == len(figures) + 1 == 3:
            self._say(
                "progress",
                done_s=round(figures[0] / 1e9, 3),
                of_s=self.plan.get("min_s", 0),
                n=figures[1],
                of_n=self.plan.get("min_count", 0),
            )
        elif words[0] == b"answered" and len(words) == len(figures) + 1 == 2:
            self._say("outputs", done=figures[0])
        else:
            super().take(line)

    def phase(self, name: str, artifact: str) -> None:
        """Tell that another part of the run begins."""
        self._say("phase", phase=name, artifact=artifact)

    def _say(self, event: str, **fields: Any) -> None:
        super().take(json.dumps({**fields, "event": event}).encode())
