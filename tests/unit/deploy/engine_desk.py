"""This machine as a device that builds engines by the stand-in for trtexec: none is real."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.backends.trt.backend import TensorRt
from edgedeploy.deploy.enginebuild import PLACE, Wanted
from edgedeploy.devices.gpu_facts import GpuSurvey, Way
from edgedeploy.devices.local import LocalPipe, LocalRemote
from edgedeploy.events import EngineProgress, Event, EventLog
from edgedeploy.gpu import GpuPlatform
from tests.lab.tensorrt.machines import MACHINES, Machine, change, install

STAND_IN = Path(__file__).parents[2] / "trt" / "stand_in" / "tensorrt"
FIELDS: Mapping[str, Any] = {
    "board.gpu": {"compute_capabilities": ["8.9"]},
    "runtime.versions": ">=8.6",
}


def write_model(path: Path) -> None:
    """Write a model of two nodes, `mm` and `relu`."""
    weights = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="mm"),
        helper.make_node("Relu", ["y"], ["z"], name="relu"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [4, 16]), ("z", [4, 8]))
    ]
    initializers = [numpy_helper.from_array(weights, "w")]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], initializers)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def program_in(folder: Path, options: Mapping[str, Any] | None = None) -> Path:
    """Return the folder of the program that the backend writes for the model."""
    folder.mkdir()
    write_model(folder / "model.onnx")
    TensorRt().compile(folder / "model.onnx", folder, options or {}, FIELDS)
    return folder / "program"


class DeskRemote(LocalRemote):
    """This machine with a home of the device's own."""

    def __init__(self, name: str, home: Path) -> None:
        super().__init__(name, home=home)
        self.opened: list[str] = []

    def open(self, command: str) -> LocalPipe:
        """Start a command, and keep it for the test."""
        self.opened.append(command)
        return super().open(command)


@dataclass
class Desk:
    """A device: its folder, what it plays, and what was told of it."""

    folder: Path
    machine: Machine = MACHINES["server-trt10.14"]
    name: str = "desk"
    settings: Mapping[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        programs = install(self.machine, self.folder / "root", str(self.folder / "root"))
        self.trtexec = programs / "trtexec"
        self.play(**{"build_s": 0.1, **self.settings})
        self.remote = DeskRemote(self.name, self.home)
        self.log = EventLog(self.events.append)

    def play(self, **settings: Any) -> None:
        """Change how the stand-in behaves."""
        change(self.machine, self.folder / "root", **settings)

    @property
    def survey(self) -> GpuSurvey:
        """What a probe would find."""
        return GpuSurvey(
            device=self.name,
            system="linux",
            arch="x86-64",
            gpu=self.machine.gpu,
            compute_capability=self.machine.compute,
            driver=self.machine.driver,
            installed={},
            ways=(
                Way(
                    kind="trtexec",
                    path=str(self.trtexec),
                    version=self.machine.release,
                    simulated=True,
                ),
            ),
            clocks="free",
        )

    def python_way(self, version: str, **behaviour: Any) -> GpuSurvey:
        """Return what a probe finds once there is a Python with the stand-in for ``tensorrt``."""
        place = self.folder / "python"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(STAND_IN, place / "tensorrt")
        told = json.dumps({"version": version, **behaviour})
        (place / "tensorrt" / "stand_in.json").write_text(told)
        python = place / "python3"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={place} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        way = Way(kind="python", path=str(python), version=version, simulated=True)
        return replace(self.survey, ways=(way,))

    @property
    def platform(self) -> GpuPlatform:
        """What it is."""
        return self.survey.platform()

    @property
    def place(self) -> Path:
        """Its folder for builds."""
        return self.home / ".edgedeploy" / PLACE

    @property
    def left(self) -> list[str]:
        """What lies there besides the lock, relative to it."""
        found = (path.relative_to(self.place) for path in self.place.rglob("*") if path.is_file())
        return sorted(str(path) for path in found if path.name not in ("lock", "owner"))

    @property
    def cache(self) -> str:
        """Where its timing cache lies there."""
        return f"{self.platform.id}/timing.cache"

    def wanted(self, program: Path, **more: Any) -> Wanted:
        """Return the order for an engine of a program."""
        return Wanted(
            node="main.l4/tensorrt.float.engine",
            platform=self.platform,
            program=program,
            root="~/.edgedeploy",
            **more,
        )

    @property
    def doing(self) -> list[str]:
        """What it was told to do, each time that changed."""
        told = [event.doing for event in self.events if isinstance(event, EngineProgress)]
        return [word for place, word in enumerate(told) if place == 0 or told[place - 1] != word]


def outputs_in(folder: Path) -> dict[str, Path]:
    """Make the output folders of stage ``engine``."""
    found = {name: folder / name for name in ("engine", "report")}
    for path in found.values():
        path.mkdir(parents=True)
    return found


def provenance(outputs: Mapping[str, Path]) -> dict[str, Any]:
    """Return what an engine's provenance says."""
    said: dict[str, Any] = json.loads((outputs["engine"] / "engine.json").read_bytes())
    return said
