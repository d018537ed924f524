"""A user's project for a board that is not this machine, and ways to run on devices."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgedeploy import api
from edgedeploy.bench.job import BenchArtifact, BenchJob, BenchPlan, OutputsJob
from edgedeploy.bench.onboard import Onboard, Progress
from edgedeploy.building import BuildResult
from edgedeploy.choosing import Outcome
from edgedeploy.deploy.bench import DeviceSite
from edgedeploy.deploy.ondevice import make_onboard
from edgedeploy.devices.connect import connect
from edgedeploy.devices.inventory import Device
from edgedeploy.opening import Request
from edgedeploy.remote import DeviceRuntime, Remote
from tests.device.labapp import write_model

PLAN = BenchPlan(warmup_max_s=0.1, window_s=0.002, min_s=0.02, min_count=64, max_s=20, layer_runs=0)
FLOAT_MS, INT8_MS = 2.0, 1.0
"""What the artifacts take on a quiet device, whatever they take here."""

BOARD = "{{id: robot, title: A robot's computer, extends: linux-{arch}, host: false}}\n"

PROFILE = """\
edgedeploy: 1
name: robot-eyes
models:
  eyes: {source: model.onnx, metric: agreement}
  ears: {source: model.onnx, metric: agreement}
data:
  calibrate: {source: "data.py:samples", parameters: {seed: 1, count: 4}}
  evaluate: {source: "data.py:samples", parameters: {seed: 2, count: 20}}
quantize: w8a8
gates: {metric: -30 pt, latency: {p50: 1.5 ms}, memory: 2 GB}
targets: [robot/ort]
"""

DATA = """\
import numpy as np

def samples(seed, count):
    source = np.random.default_rng(seed)
    for _ in range(count):
        yield {"x": source.normal(size=(1, 3, 16, 16)).astype(np.float32)}
"""


def write_project(folder: Path, arch: str = "x86-64") -> Path:
    """Write the project for a board of some architecture; return its profile."""
    folder.mkdir(parents=True)
    write_model(folder / "model.onnx")
    board = folder / "targets/boards/robot.yaml"
    board.parent.mkdir(parents=True)
    board.write_text(BOARD.format(arch=arch))
    (folder / "data.py").write_text(DATA)
    (folder / "robot.yaml").write_text(PROFILE)
    return folder / "robot.yaml"


class Project:
    """The project with its store and build folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.profile = folder / "project/robot.yaml"
        self.store, self.build_folder = folder / "store", folder / "build"

    def copy(self, folder: Path) -> Project:
        """Return a copy, in which a test may change what it likes."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def only(self, model: str) -> Project:
        """Take the other models out of the profile; return self."""
        lines = PROFILE.splitlines(keepends=True)
        others = ("  eyes:", "  ears:")
        kept = [it for it in lines if not it.startswith(others) or it.startswith(f"  {model}:")]
        self.profile.write_text("".join(kept))
        return self

    def build(self, *sites: DeviceSite, sets: Sequence[str] = ()) -> BuildResult:
        """Build in this process, measuring on devices."""
        request = Request(profile=self.profile, sets=tuple(sets), targets=(), target_path=())
        options = api.BuildOptions(output=self.build_folder, store=self.store, measure="known")
        try:
            return api.build(request, options, sites=lambda plan: sites)
        finally:
            for site in sites:
                site.close()


def outcome(result: BuildResult, model: str = "eyes") -> Outcome:
    """Return what became of a model."""
    return next(item for item in result.outcomes if item.item.shared.name == model)


def gates(result: BuildResult, model: str = "eyes") -> dict[str, tuple[str, str]]:
    """Return state and evidence of the gates of a model's chosen artifact."""
    chosen = outcome(result, model).chosen
    assert chosen is not None
    return {gate.gate: (gate.state, gate.evidence) for gate in chosen.gates}


class Quiet:
    """Runs on the device for real and shortly, and reports known times of a quiet machine."""

    def __init__(self, real: Onboard, machine: Mapping[str, Path]) -> None:
        self._real = real
        self._machine = machine

    def measure(
        self,
        job: BenchJob,
        *,
        deadline_s: float | None = None,
        on_progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Measure with a short plan; replace what other work on this machine disturbs."""
        short = replace(job, plan=PLAN, **self._machine)  # type: ignore[arg-type]
        result = self._real.measure(short, deadline_s=500, on_progress=on_progress)
        for window in result["windows"]:
            time_ms = FLOAT_MS if window["artifact"] == "float" else INT8_MS
            window["samples_ns"] = [int(time_ms * 1e6)] * 1000
            window["environment"].update(ticks=None, load1=None)
        for about in result["artifacts"]:
            about["warmup"]["stable"] = True
        return result

    def outputs(
        self,
        artifact: BenchArtifact,
        job: OutputsJob,
        goal: Path,
        *,
        on_progress: Progress | None = None,
    ) -> tuple[int, ...]:
        """Compute outputs for real."""
        return self._real.outputs(artifact, job, goal, on_progress=on_progress)


def site_of(device: Device, *, samples: int | None = 8, **machine: Path) -> DeviceSite:
    """Return a device as a quiet site.

    Args:
        device: Which.
        samples: How many samples it is asked.
        machine: ``sysfs`` and ``procfs`` that its loop reads.
    """

    def make(remote: Remote, runtime: DeviceRuntime, scratch: str) -> Onboard:
        return Quiet(make_onboard(remote, runtime, scratch), machine)

    return DeviceSite(
        device,
        lambda: connect(device),
        pretended=device.kind == "fake",
        samples=samples,
        make=make,
    )


def python_with(folder: Path, onnxruntime: str) -> str:
    """Return a Python whose ONNX Runtime is wrapped by some lines of code."""
    folder.mkdir()
    (folder / "onnxruntime.py").write_text(
        "import sys\n"
        f"sys.path.remove({str(folder)!r}); del sys.modules['onnxruntime']\n"
        "import onnxruntime as real\n"
        f"sys.modules['onnxruntime'] = real\n{onnxruntime}"
    )
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return str(script)
