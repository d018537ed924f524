"""What to measure and how long: the job of one bench session."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgedeploy.runner import Evidence

_AGAIN = "#again"

Mode = Literal["quick", "full"]

SAMPLES = 16
"""How many samples are cycled through."""

STREAM_SAMPLES = 256
STREAM_BYTES = 32 << 20
"""The most samples that a state is carried along, and the most bytes that they may have."""

DEVICE_FILES = (
    "loop.py",
    "environment.py",
    "power.py",
    "nvml.py",
    "runtimes.py",
    "gpu.py",
    "cuda.py",
)
"""The files of this folder that measure, and travel to devices; the first is run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """How long and how much is measured; the ``min_*`` hold for each artifact.

    Attributes:
        warmup_max_s: Longest warm-up; it ends earlier once three windows agree within 2 %.
        window_s: Length of one window, the block of the statistics.
        min_s: Least measured time.
        min_count: Least number of inferences.
        min_repetitions: Least number of repetitions (two windows of each artifact).
        max_s: The run ends here even when the rest is not reached, and is then unreliable.
        layer_runs: Inferences of the separate per-layer run; 0 for none.
    """

    warmup_max_s: float
    window_s: float
    min_s: float
    min_count: int
    min_repetitions: int = 9
    max_s: float
    layer_runs: int = 20

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON data."""
        return asdict(self)


PLANS: Mapping[Mode, BenchPlan] = {
    "quick": BenchPlan(warmup_max_s=3, window_s=0.25, min_s=10, min_count=64, max_s=120),
    "full": BenchPlan(warmup_max_s=30, window_s=1, min_s=60, min_count=1024, max_s=3600),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedTensor:
    """An input that is made instead of read: uniform in [low, high], constant when they agree."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    seed: int = 0
    low: float = 0
    high: float = 1

    def to_json(self) -> dict[str, Any]:
        """Return the description as JSON data."""
        return {**asdict(self), "shape": list(self.shape)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchInputs:
    """What the artifacts are fed with.

    Attributes:
        pack: Folder of a tensor pack; its samples are cycled through.
        samples: How many of its first samples; all of them lie in memory while measuring.
        generated: Inputs that the pack does not hold (or all of them, without a pack).
        state: ``(state input, state output)`` names, carried along the pack's sequences while
            time is taken, but outside of it.
    """

    pack: Path | None = None
    samples: int = SAMPLES
    generated: tuple[GeneratedTensor, ...] = ()
    state: tuple[tuple[str, str], ...] = ()

    def conditions(self, *, carried: bool) -> dict[str, Any]:
        """Return what a record says of the inputs: no path.

        Args:
            carried: Whether what measured carried the state; else that stayed zero.
        """
        return {
            "source": "pack" if self.pack else "generated",
            "samples": self.samples if self.pack else 1,
            "generated": [item.to_json() for item in self.generated],
            "state": ("carried" if carried else "zero") if self.state else None,
        }


def stream_samples(pack: Path) -> int:
    """Return how many first samples of a pack a state is carried along: 16 to 256.

    A state that was carried over 16 samples has hardly left zero; all of them lie in memory, so
    larger ones are fewer.
    """
    samples = json.loads((pack / "index.json").read_text(encoding="utf-8"))["samples"]
    total = 0
    for count, sample in enumerate(samples[:STREAM_SAMPLES]):
        total += sum(tensor.get("nbytes", 0) for tensor in sample["tensors"].values())
        if total > STREAM_BYTES:
            return max(SAMPLES, count)
    return STREAM_SAMPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchArtifact:
    """One artifact to measure.

    Attributes:
        id: Its name in the run, different from the others'.
        family: Which runtime runs it.
        path: The file that the runtime loads, or the folder of a Core ML package.
        files: All files of the artifact; empty: ``path`` and a ``.bin`` beside it.
        threads: Threads of the runtime.
        options: Options of the family, see ``loop.py``.
        sha256: Of the file at ``path`` (64 hex digits); engines are not loaded without.
        digest: What the record calls the artifact; None takes ``id``.
        target: Target id.
    """

    id: str
    family: Literal["coreml", "ort", "openvino", "tensorrt", "tensorrt-rtx"]
    path: Path
    files: tuple[Path, ...] = ()
    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    digest: str | None = None
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchJob:
    """What to measure in one session, interleaved.

    Attributes:
        artifacts: At least one.
        inputs: Fed to every artifact.
        mode: ``quick`` (10 s each, labelled quick) or ``full`` (60 s and 1024 inferences each).
        baseline: Id of the artifact that the others are compared with (usually the float one).
        noise_floor: Measure the baseline against itself as well (an A/A run).
        device: Facts of the machine, from :func:`edgedeploy.bench.host.host_facts`.
        evidence: ``device`` when this machine is the target's board, else ``host-runtime``.
        seed: Of the order within repetitions.
        plan: Replaces the mode's own plan.
        cpus: CPUs that everything is bound to; empty leaves it to the system.
        sysfs, procfs: Where clock, heat and load evidence is read.
    """

    artifacts: tuple[BenchArtifact, ...]
    inputs: BenchInputs
    mode: Mode = "quick"
    baseline: str | None = None
    noise_floor: bool = False
    device: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence = "host-runtime"
    seed: int = 0
    plan: BenchPlan | None = None
    cpus: tuple[int, ...] = ()
    sysfs: Path = Path("/sys")
    procfs: Path = Path("/proc")

    @property
    def effective_plan(self) -> BenchPlan:
        """The plan of the job, or that of its mode."""
        return self.plan or PLANS[self.mode]

    @property
    def baseline_again(self) -> str:
        """Id under which the baseline runs a second time."""
        return f"{self.baseline}{_AGAIN}"

    def to_loop(self) -> dict[str, Any]:
        """Return the job as ``loop.py`` reads it, with absolute paths."""
        artifacts = [_loop_artifact(item, item.id) for item in self.artifacts]
        if self.noise_floor:
            same = next(item for item in self.artifacts if item.id == self.baseline)
            artifacts.append(_loop_artifact(same, self.baseline_again))
        inputs: dict[str, Any] = {"generated": [item.to_json() for item in self.inputs.generated]}
        if self.inputs.pack is not None:
            inputs |= {"pack": str(self.inputs.pack.absolute()), "samples": self.inputs.samples}
        return {
            "loop": 1,
            "mode": self.mode,
            "seed": self.seed,
            "artifacts": artifacts,
            "inputs": inputs,
            "state": [list(pair) for pair in self.inputs.state],
            "plan": self.effective_plan.to_json(),
            "cpus": list(self.cpus),
            "sysfs": str(self.sysfs),
            "procfs": str(self.procfs),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputsJob:
    """What an artifact on a device is asked.

    Attributes:
        pack: Folder here of the tensor pack with the samples, without state inputs.
        samples: How many of its first; None takes all.
        outputs: Names of the outputs that are wanted.
        state: ``(state input, state output)`` names, carried along sequences.
        zeros: The state at the start of a sequence.
        cpus: CPUs that the run is bound to; empty leaves it to the system.
        deadline_s: The run is ended after this.
        limit_bytes: The most that all outputs may be together.
        dtypes: NumPy's names of the outputs' types, for runtimes that do not tell them.
    """

    pack: Path
    samples: int | None = None
    outputs: tuple[str, ...]
    state: tuple[tuple[str, str], ...] = ()
    zeros: tuple[GeneratedTensor, ...] = ()
    cpus: tuple[int, ...] = ()
    deadline_s: float = 1800.0
    limit_bytes: int = 1 << 30
    dtypes: Mapping[str, str] = field(default_factory=dict)

    def to_loop(self, artifact: BenchArtifact, pack: str) -> dict[str, Any]:
        """Return the job as ``loop.py`` reads it, for a pack that lies on the device."""
        return {
            "loop": 1,
            "artifacts": [_loop_artifact(artifact, artifact.id)],
            "inputs": {"pack": pack, "generated": [item.to_json() for item in self.zeros]},
            "outputs": list(self.outputs),
            "state": [list(pair) for pair in self.state],
            "cpus": list(self.cpus),
        }


def _loop_artifact(artifact: BenchArtifact, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "family": artifact.family,
        "path": str(artifact.path.absolute()),
        "files": [str(path.absolute()) for path in artifact.files],
        "threads": artifact.threads,
        "options": dict(artifact.options),
        "sha256": artifact.sha256,
    }
