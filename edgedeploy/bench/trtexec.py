"""Running engines on a device whose Python has no TensorRT: by its ``trtexec``, run by run.

Each window is a process of its own, which loads the engine, warms up and exports the time of every
inference; artifacts take turns as in ``loop.py``. What trtexec does not tell is None in the result:
cold loading, the first inference, memory, power, and clocks while it runs.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edgedeploy.bench import checking, trtexec_result
from edgedeploy.bench.answers import write_answers
from edgedeploy.bench.evidence import Evidence, look_for_evidence
from edgedeploy.bench.job import BenchArtifact, BenchJob, BenchPlan, OutputsJob
from edgedeploy.bench.measure import longest_s
from edgedeploy.bench.onboard import OnDevice, Progress
from edgedeploy.bench.scratch import Scratch
from edgedeploy.bench.trtexec_run import (
    LAYERS,
    OUTPUTS,
    TIMES,
    BenchCommand,
    Given,
    Length,
    TrtexecRun,
)
from edgedeploy.remote import DeviceRuntime, Remote

if TYPE_CHECKING:
    import numpy as np

WARM_UP_MS = 500
CLOCK = "events of the GPU, as trtexec exports them: copy in, compute, copy out"
NOT_TOLD = "trtexec does not tell"

_TEXT_RATIO = 8  # bytes of a number as text, to that of the smallest one as such


class TrtexecOnboard(OnDevice):
    """Runs engines by trtexec; see :class:`.onboard.Onboard`.

    Args:
        remote: The device.
        runtime: Of kind ``trtexec``.
        scratch: Folder on the device below which each run gets a folder of its own.
        command: Makes the commands.
    """

    def __init__(
        self, remote: Remote, runtime: DeviceRuntime, scratch: str, command: BenchCommand
    ) -> None:
        super().__init__(remote, runtime, scratch)
        self._command = command

    def measure(
        self,
        job: BenchJob,
        *,
        deadline_s: float | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Measure; see :meth:`.onboard.Onboard.measure`.

        Raises:
            DeviceError: As there; also for what trtexec cannot do, or ends with (E495).
            BuildError: As :class:`BenchCommand`.
        """
        told = job.to_loop()
        with Scratch(self._remote, self._scratch) as scratch:
            about = ", ".join(item["id"] for item in told["artifacts"])
            run = self._run(scratch, about, on_progress)
            run.end_s = time.monotonic() + (deadline_s or longest_s(job))
            samples = list(run.send_samples(told["inputs"], None))
            evidence = look_for_evidence(self._remote, told["sysfs"], told["procfs"])
            session = _Session(run, job.effective_plan, samples, evidence)
            data = session.measure(told["artifacts"], job.seed)
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
        """Compute outputs; see :meth:`.onboard.Onboard.outputs`.

        Each sample is a process of its own; floats come with six digits.

        Raises:
            DeviceError: As there; also for what trtexec cannot do, or ends with (E495).
            BuildError: As :class:`BenchCommand`.
        """
        told = job.to_loop(artifact, str(job.pack.absolute()))
        with Scratch(self._remote, self._scratch) as scratch, tempfile.TemporaryDirectory() as here:
            run = self._run(scratch, artifact.id, on_progress)
            run.end_s = time.monotonic() + job.deadline_s
            if job.state:
                raise run.unable("it carries no state from one inference to the next")
            (item,) = told["artifacts"]
            run.check(item)
            dtypes = {name: job.dtypes.get(name, "float32") for name in job.outputs}
            times: list[int] = []
            with _Answers(Path(here)) as answers:
                for inputs in run.send_samples(told["inputs"], job.samples):
                    found = run.once(item, inputs, length=Length(), outputs=OUTPUTS, times=TIMES)
                    left = job.limit_bytes - answers.nbytes
                    text = found.read(OUTPUTS, _TEXT_RATIO * job.limit_bytes)
                    times.append(found.times().samples_ns[-1])
                    answers.add(found.parsed(trtexec_result.outputs, text, dtypes, left))
                    run.say("outputs", done=len(times))
            try:
                write_answers(answers.index(), answers.tensors, job, len(times), goal)
            except ValueError as error:
                raise run.impossible("outputs", error) from error
        return tuple(times)

    def _run(self, scratch: Scratch, about: str, on_progress: Progress | None) -> TrtexecRun:
        return TrtexecRun(self._remote, self._runtime, scratch, about, self._command, on_progress)


class _Session:
    """One measurement: warm-ups, layers, then windows in turns."""

    def __init__(
        self,
        run: TrtexecRun,
        plan: BenchPlan,
        samples: Sequence[Given],
        evidence: Evidence,
    ) -> None:
        self._run = run
        self._plan = plan
        self._samples = samples
        self._evidence = evidence
        windows = 2 * plan.min_repetitions
        self._length = Length(
            warm_up_ms=WARM_UP_MS,
            duration_s=max(1, math.ceil(plan.min_s / windows)),
            iterations=math.ceil(plan.min_count / windows),
        )
        self._parts: dict[str, list[Mapping[str, float]]] = {}
        self._windows: list[dict[str, Any]] = []

    def measure(self, artifacts: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
        """Return the result in the form of ``loop.py``, not checked."""
        for item in artifacts:
            self._run.check(item)
        abouts = [self._about(item) for item in artifacts]
        before = self._run.read_evidence(self._evidence, time.monotonic_ns())
        ended = self._turns(artifacts, random.Random(seed))
        for about in abouts:
            parts = self._parts[about["id"]]
            about["device_ms"] = {
                name: math.fsum(item[name] for item in parts) / len(parts) for name in parts[0]
            }
        nothing = dict.fromkeys(("source", "scope", "method", "idle_w", "idle_s"))
        return {
            "loop": 1,
            "clock": CLOCK,
            "python": "none: trtexec",
            "ended": ended,
            "environment": {
                **self._evidence.facts,
                "cpus": None,
                "affinity": None,
                "ticks_hz": 1,
            },
            "before": before,
            "windows": self._windows,
            "artifacts": abouts,
            "power": {**nothing, "rails": [], "why_not": "beside trtexec no power is read"},
        }

    def _about(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Warm an artifact up; return what is known of its load, its warm-up and its layers."""
        run = self._run
        run.say("phase", phase="warm-up", artifact=item["id"])
        begin = time.monotonic_ns()
        found = run.once(item, self._samples[0], length=self._length, times=TIMES)
        stable, medians = trtexec_result.settled(found.times().samples_ns)
        load_ns = trtexec_result.load_ns(run.lines)
        run.say("warm", artifact=item["id"], stable=stable)
        loading = {
            **dict.fromkeys(("first_inference_ns", "baseline_bytes", "peak_bytes", "device_bytes")),
            "simulated": run.simulated,
            "load_ns": load_ns,
            "cold": False,
            "why_not_cold": NOT_TOLD,
            "memory_method": NOT_TOLD,
            "version": run.version,
        }
        layers = []
        if self._plan.layer_runs:
            run.say("phase", phase="layers", artifact=item["id"])
            runs = self._plan.layer_runs
            length = Length(iterations=runs)
            found = run.once(item, self._samples[0], length=length, layer_times=LAYERS)
            layers = found.parsed(trtexec_result.layers, found.read(LAYERS))
        return {
            "id": item["id"],
            "cold": loading,
            "warm": loading,
            "layers": layers,
            "placement": None,
            "warmup": {
                "stable": stable,
                "medians_ns": medians,
                "elapsed_ns": time.monotonic_ns() - begin,
            },
        }

    def _turns(self, artifacts: Sequence[Mapping[str, Any]], order: random.Random) -> str:
        """Measure windows in turns, as ``loop.py`` does; return why it ended."""
        plan, begin = self._plan, time.monotonic()
        repetition = 0
        while repetition < plan.min_repetitions or not self._enough(artifacts):
            if time.monotonic() - begin > plan.max_s:
                return "max_s"
            slots = list(range(len(artifacts)))
            order.shuffle(slots)
            for slot in slots + slots[::-1]:
                self._window(artifacts[slot], repetition)
            repetition += 1
            count, done_s = min(self._so_far(item) for item in artifacts)
            self._run.say(
                "progress",
                done_s=round(done_s, 3),
                of_s=plan.min_s,
                n=count,
                of_n=plan.min_count,
            )
        return "complete"

    def _window(self, item: Mapping[str, Any], repetition: int) -> None:
        """Measure a window; the samples take turns, too, from one to the next."""
        sample = self._samples[(len(self._windows) // 2) % len(self._samples)]
        begin_ns = time.monotonic_ns()
        times = self._run.once(item, sample, length=self._length, times=TIMES).times()
        self._parts.setdefault(item["id"], []).append(times.parts_ms)
        self._windows.append(
            {
                "artifact": item["id"],
                "repetition": repetition,
                "environment": self._run.read_evidence(self._evidence, time.monotonic_ns()),
                "samples_ns": list(times.samples_ns),
                "begin_ns": begin_ns,
                "end_ns": begin_ns + times.span_ns,
                "energy_j": None,
            }
        )

    def _enough(self, artifacts: Sequence[Mapping[str, Any]]) -> bool:
        plan = self._plan
        return all(
            count >= plan.min_count and spent_s >= plan.min_s
            for count, spent_s in map(self._so_far, artifacts)
        )

    def _so_far(self, item: Mapping[str, Any]) -> tuple[int, float]:
        """Return how many inferences of an artifact were measured, and their seconds."""
        found = [w["samples_ns"] for w in self._windows if w["artifact"] == item["id"]]
        return sum(map(len, found)), sum(map(sum, found)) / 1e9


class _Answers:
    """Tensors in the form of ``loop.py``'s outputs, in two files."""

    def __init__(self, folder: Path) -> None:
        self.tensors = folder / "tensors.gz"
        self.nbytes = 0
        self._samples: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._out = gzip.open(self.tensors, "wb", compresslevel=1)
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()

    def add(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Add a sample's."""
        entries = {}
        for name, value in sorted(tensors.items()):
            raw = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
            about = {"dtype": value.dtype.name, "shape": list(value.shape), "nbytes": len(raw)}
            entries[name] = {**about, "offset": self.nbytes}
            self._out.write(raw)
            self.nbytes += len(raw)
        self._samples.append({"tensors": entries})

    def index(self) -> bytes:
        """Return the packed index."""
        return gzip.compress(json.dumps({"pack": 1, "samples": self._samples}).encode())
