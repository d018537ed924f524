"""Running artifacts on a device: the seam, and the way through the runtime's Python package.

A device is a stranger's machine: what it sends is bounded and checked before anything uses it,
and whatever becomes of a run, its folder there is removed and no process of ours stays.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any, Protocol

from edgedeploy.bench import checking
from edgedeploy.bench.answers import write_answers, write_subset
from edgedeploy.bench.job import DEVICE_FILES, BenchArtifact, BenchJob, OutputsJob
from edgedeploy.bench.measure import LOOP, longest_s, signal_name
from edgedeploy.bench.scratch import Scratch
from edgedeploy.errors import DeviceError
from edgedeploy.remote import LIMIT_BYTES, STALL_S, DeviceRuntime, Reader, Remote, printable

Progress = Callable[[Mapping[str, Any]], None]

_EVENTS = frozenset({"phase", "warm", "progress", "outputs"})
_RESULT = "result.json.gz"
_NOISE_LINES = 30
_MISSING = (126, 127)
"""What a shell says of a program that cannot be run, or is not there."""


class Onboard(Protocol):
    """Runs artifacts that lie on a device with one of its runtimes.

    Both ways raise :class:`~edgedeploy.errors.DeviceError`, besides what the connection raises:
    the runtime died (E470), refused the artifact or its inputs (E471), did not end in time (E472),
    left no result (E473) or one that cannot be (E474), is missing (E475), or there is no room for
    a run (E476). Each names the device and the artifact.
    """

    def measure(
        self,
        job: BenchJob,
        *,
        deadline_s: float | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Measure and return the result of ``loop.py``, checked (:mod:`.checking`).

        Args:
            job: What to measure. The paths of its artifacts are absolute paths *on the device*;
                the pack of its inputs lies here.
            deadline_s: The run is ended after this; None takes the plan's own limits twice and
                ten minutes of loading per artifact.
            on_progress: Called with each progress line.
        """

    def outputs(
        self,
        artifact: BenchArtifact,
        job: OutputsJob,
        goal: Path,
        *,
        on_progress: Progress | None = None,
    ) -> tuple[int, ...]:
        """Write what an artifact answers on the device as a tensor pack; return ns per sample.

        Args:
            artifact: With absolute paths on the device.
            job: What it is asked.
            goal: Existing empty folder here; the pack's samples have the names of those asked.
            on_progress: Called with each progress line.
        """


class OnDevice:
    """What every :class:`Onboard` holds: where it runs what.

    Args:
        remote: The device.
        runtime: Of the kind that the class runs.
        scratch: Folder on the device below which each run gets a folder of its own, absolute or
            below ``~/``.
    """

    def __init__(self, remote: Remote, runtime: DeviceRuntime, scratch: str) -> None:
        self._remote = remote
        self._runtime = runtime
        self._scratch = scratch


class PythonOnboard(OnDevice):
    """Runs ``loop.py`` on a device, with the Python that has the runtime (kind ``python``)."""

    def measure(
        self,
        job: BenchJob,
        *,
        deadline_s: float | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Measure; see :meth:`Onboard.measure`."""
        about = ", ".join(item.id for item in job.artifacts)
        with Scratch(self._remote, self._scratch) as scratch:
            inputs = job.inputs
            if inputs.pack is not None:
                _send_pack(scratch, inputs.pack, inputs.samples)
                inputs = replace(inputs, pack=Path(scratch.path))
            told = replace(job, inputs=inputs).to_loop()
            run = DeviceRun(self._remote, self._runtime, scratch, about, on_progress)
            threads = max(item.threads for item in job.artifacts)
            data = run.result(told, [], threads, deadline_s or longest_s(job))
        try:
            return checking.checked_result(job, data)
        except ValueError as error:
            raise run.impossible("result", error) from error

    def outputs(
        self,
        artifact: BenchArtifact,
        job: OutputsJob,
        goal: Path,
        *,
        on_progress: Progress | None = None,
    ) -> tuple[int, ...]:
        """Compute outputs; see :meth:`Onboard.outputs`."""
        with Scratch(self._remote, self._scratch) as scratch, tempfile.TemporaryDirectory() as here:
            count = _send_pack(scratch, job.pack, job.samples)
            told = job.to_loop(artifact, scratch.path)
            run = DeviceRun(self._remote, self._runtime, scratch, artifact.id, on_progress)
            data = run.result(told, ["outputs", artifact.id], artifact.threads, job.deadline_s)
            index, tensors = Path(here, "outputs.json.gz"), Path(here, "outputs.bin.gz")
            there = [
                scratch.get(file.name, file, limit_bytes)
                for file, limit_bytes in ((index, LIMIT_BYTES), (tensors, job.limit_bytes))
            ]
            try:
                if not all(there):
                    raise ValueError("there are none")
                times = data.get("times_ns") if isinstance(data, dict) else None
                if not isinstance(times, list) or len(times) != count:
                    raise ValueError("there is not one time per sample")
                write_answers(index.read_bytes(), tensors, job, count, goal)
                return tuple(checking.whole(item, "a time", 1, 10**15) for item in times)
            except ValueError as error:
                raise run.impossible("outputs", error) from error


HOSTILE = "see what runs on the device under the runtime's name; nothing of this run was kept"


def _send_pack(scratch: Scratch, pack: Path, samples: int | None) -> int:
    """Send the first samples of a pack; return how many there are."""
    with tempfile.TemporaryDirectory() as here:
        count = write_subset(pack, samples, Path(here))
        for file in Path(here).iterdir():
            scratch.put(file, file.name)
    return count


class DeviceRun:
    """One run in its folder on the device: watched to its end, and its failures typed.

    Args:
        remote: The device.
        runtime: What runs.
        scratch: The run's folder.
        about: Which artifacts it is about, for messages.
        on_progress: Called with each progress line.
    """

    def __init__(
        self,
        remote: Remote,
        runtime: DeviceRuntime,
        scratch: Scratch,
        about: str,
        on_progress: Progress | None,
    ) -> None:
        self._remote = remote
        self._runtime = runtime
        self._scratch = scratch
        self._about = about
        self._on_progress = on_progress
        self._noise: list[str] = []

    def failed(self, code: str, what: str, hint: str) -> DeviceError:
        """Return a failure that names device and artifact."""
        subject = f"{self._remote.name}: {self._about}"
        return DeviceError(f"{subject}: {what}", code=code, subject=subject, hint=hint)

    def impossible(self, what: str, why: Exception) -> DeviceError:
        """Return the failure of a run whose ``what``, result or outputs, nobody could have made."""
        return self.failed("E474", f"its {what} cannot be: {why}", HOSTILE)

    def result(
        self, job: Mapping[str, Any], phase: list[str], threads: int, deadline_s: float
    ) -> Any:
        """Run the loop and return what it found, parsed but not checked."""
        scratch = self._scratch
        for name in DEVICE_FILES:
            scratch.put(LOOP.with_name(name), name)
        scratch.write(json.dumps({**job, "held": True, "result": _RESULT}).encode(), "job.json")
        words = " ".join(map(quote, [DEVICE_FILES[0], "job.json", *phase]))
        status = self.watch(
            f"cd {quote(scratch.path)} && export TMPDIR={quote(scratch.path)} "
            f"ORT_DISABLE_TELEMETRY=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS={threads} && "
            f"{self._runtime.command} {words} 2>&1 >/dev/null",
            deadline_s,
        )
        with tempfile.TemporaryDirectory() as here:
            goal = Path(here, _RESULT)
            if not scratch.get(_RESULT, goal, checking.RESULT_BYTES):
                raise self.without_result(status)
            try:
                data = checking.parsed(checking.unpacked(goal.read_bytes()))
                failure = checking.failure_of(data)
            except ValueError as error:
                raise self.impossible("result", error) from error
        if failure is not None:
            raise self.told(failure)
        return data

    def watch(self, command: str, deadline_s: float) -> int:
        """Run a command to its end, pass its progress on and return its status."""
        end = time.monotonic() + deadline_s
        pipe = self._remote.open(command)
        reader, read = Reader(pipe), 0
        try:
            while True:
                try:
                    line = reader.line(max(0.1, end - time.monotonic()))
                except EOFError:
                    return pipe.wait(STALL_S)
                except DeviceError as error:
                    if error.diagnostics[0].code == "E404" and time.monotonic() >= end:
                        raise self._too_long(deadline_s) from error
                    raise
                read += len(line)
                if read > LIMIT_BYTES:
                    raise self.failed("E474", "it prints without end", HOSTILE)
                if time.monotonic() >= end:
                    raise self._too_long(deadline_s)
                self.take(line)
        finally:
            pipe.close()

    def take(self, line: bytes) -> None:
        """Pass a line that the run printed on, or keep it for messages."""
        event = _event(line)
        if event is None:
            self._noise = [*self._noise, printable(line)[:300]][-_NOISE_LINES:]
        elif self._on_progress is not None:
            self._on_progress(event)

    def _too_long(self, deadline_s: float) -> DeviceError:
        what = f"it did not end within {deadline_s:g} s and was ended"
        return self.failed("E472", what, "the runtime hangs, or try `--mode quick`")

    def without_result(self, status: int) -> DeviceError:
        """Return the failure of a run that ended with a status and left nothing."""
        last = f" ({self._noise[-1]})" if self._noise else ""
        if status in _MISSING:
            return self._missing(f"cannot be started there{last}")
        if status < 0 or status > 128:
            what = f"ended by {signal_name(status - 128) if status > 0 else 'a signal'}{last}"
            return self.failed("E470", what, _DIED)
        return self.failed(
            "E473",
            f"it ended with status {status} and no result{last}",
            "check that the device has room, and that its Python has NumPy and the runtime",
        )

    def told(self, failure: Mapping[str, Any]) -> DeviceError:
        """Return the failure that the loop itself reports."""
        self._about = failure["artifact"] or self._about
        if failure["status"] < 0:
            last = f" ({self._noise[-1]})" if self._noise else ""
            return self.failed("E470", f"ended by {signal_name(-failure['status'])}{last}", _DIED)
        if failure["message"].startswith(("ImportError", "ModuleNotFoundError")):
            return self._missing(f"cannot be loaded there: {failure['message']}")
        kind, _, what = failure["message"].partition(": ")
        if kind in _GPU:
            return self.failed(_GPU[kind][0], what, _GPU[kind][1])
        return self.failed(
            "E471",
            f"the runtime refuses it: {failure['message']}",
            "compare the runtime's version and the CPU with what the target says "
            "(`edgedeploy devices probe`)",
        )

    def _missing(self, what: str) -> DeviceError:
        family = f"the runtime {self._runtime.family} {self._runtime.version}"
        hint = WITHOUT.get(
            self._runtime.family,
            f"install one: `edgedeploy devices provision -d {self._remote.name}`",
        )
        return self.failed("E475", f"{family} {what}", hint)


WITHOUT: Mapping[str, str] = {
    "tensorrt": "it comes with JetPack on a Jetson (`sudo apt-get install tensorrt`), elsewhere "
    "from NVIDIA's own packages; edgedeploy installs none",
}
"""Families that nobody provisions, and the way out."""

ENGINE_REFUSED = (
    "build the engine anew on a device of this platform, and push it: an engine fits one TensorRT "
    "and one kind of GPU"
)

# What `gpu.py` and `cuda.py` raise, by the name of its class.
_GPU: Mapping[str, tuple[str, str]] = {
    "NoGpu": (
        "E492",
        "check with `nvidia-smi` on it, or `cat /etc/nv_tegra_release` on a Jetson, that its GPU "
        "and driver are there; a container needs the NVIDIA runtime",
    ),
    "EngineRefused": ("E493", ENGINE_REFUSED),
    "InputsRefused": (
        "E494",
        "compare the samples with the `shapes` and types of the model's inputs in the profile",
    ),
}

_DIED = "give the device more memory, or try another scheme or version of the runtime"


def _event(line: bytes) -> dict[str, Any] | None:
    """Return a progress line with what may be shown of it, None for any other line."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("event") not in _EVENTS:
        return None
    found: dict[str, Any] = {}
    for name in ("event", "phase", "artifact"):
        if isinstance(data.get(name), str):
            found[name] = checking.text(data[name], name)
    for name in ("done_s", "of_s", "n", "of_n", "done", "stable"):
        value = data.get(name)
        if isinstance(value, bool | int | float) and 0 <= value < 2**53:
            found[name] = value
    return found
