"""Jobs for ``onboard_build.py``, run as a device runs them, with a stand-in for its TensorRT."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.backends.trt import onboard

STAND_IN = Path(__file__).parents[3] / "trt" / "stand_in" / "tensorrt"
VERSIONS = ("8.6.1", "10.3.0", "11.4.0")
LIMIT_S = 60

OPTIONS: Mapping[str, Any] = {
    "compile_on": "device",
    "workspace": None,
    "dla": None,
    "dla_fallback": False,
    "sparsity": False,
    "refit": False,
    "version_compatible": False,
    "hardware_compatible": "none",
    "optimisation_level": 3,
    "timing_cache": True,
    "tf32": False,
}
PROFILE = {"x": {"min": [1, 3, 16, 16], "opt": [4, 3, 16, 16], "max": [8, 3, 16, 16]}}


def small_model(batch: int | str = "n", *, odd: str = "Relu") -> onnx.ModelProto:
    """Return a convolution, an activation, a mean and a product with weights of fixed seeds."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "v": random.normal(size=(8, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node(odd, ["c"], ["r"], name="odd", domain="" if odd == "Relu" else "x.y"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "v"], ["y"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("x.y", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def recipe(**changes: Any) -> dict[str, Any]:
    """Return a recipe for the small model; options by their names, the rest by its keys."""
    options = {**OPTIONS, **{name: changes[name] for name in OPTIONS if name in changes}}
    rest = {name: value for name, value in changes.items() if name not in OPTIONS}
    plain = {"schema": 1, "precision": ["float32"], "profiles": [PROFILE], "layers": None}
    return {**plain, "options": options, **rest}


class Job:
    """A folder as a device has it, and what came of the run.

    Args:
        folder: Where to make it.
        version: Which TensorRT stands there; None leaves the import path as ``python`` says.
        behaviour: What the stand-in does (see its own words).
    """

    def __init__(self, folder: Path, version: str | None = "10.3.0", **behaviour: Any) -> None:
        self.folder = folder / "run"
        self.folder.mkdir()
        self.python = folder / "python"
        for name in onboard.DEVICE_FILES:
            shutil.copy(onboard.FOLDER / name, self.folder / name)
        if version is not None:
            shutil.copytree(STAND_IN, self.python / "tensorrt")
            told = json.dumps({"version": version, **behaviour})
            (self.python / "tensorrt" / "stand_in.json").write_text(told)
        self.model(small_model())
        self.write("recipe.json", recipe())
        self.write("job.json", onboard.job(held=False, timing_cache="timing.cache"))

    def model(self, model: onnx.ModelProto) -> None:
        """Put another model there."""
        onnx.save(model, str(self.folder / "model.onnx"))

    def write(self, name: str, data: Any) -> None:
        """Write a JSON file."""
        (self.folder / name).write_text(json.dumps(data))

    def start(self, **more: Any) -> subprocess.Popen[bytes]:
        """Start the program and return its process."""
        environment = {
            **os.environ,
            **{"PYTHONPATH": str(self.python), "PYTHONWARNINGS": "ignore"},
            "PYTHONDONTWRITEBYTECODE": "1",  # as where it runs for real
        }
        return subprocess.Popen(
            [sys.executable, onboard.DEVICE_FILES[0], "job.json"],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **more,
        )

    def run(self) -> tuple[int, list[onboard.Step], onboard.Answer]:
        """Run the program to its end; return status, steps and its answer."""
        process = self.start()
        out, err = process.communicate(timeout=LIMIT_S)
        path = self.folder / "result.json"
        assert path.exists(), err.decode()
        steps = [step for step in map(onboard.read_event, out.splitlines()) if step is not None]
        return process.returncode, steps, onboard.read_answer(path.read_bytes())

    @property
    def asked(self) -> dict[str, Any]:
        """What the stand-in's builder was asked, as its engine says."""
        data = (self.folder / "model.engine").read_bytes()
        told: dict[str, Any] = json.loads(data.partition(b"\n")[2])
        return told

    def files(self) -> set[str]:
        """Return what lies in the folder beside what was put there."""
        given = {*onboard.DEVICE_FILES, "model.onnx", "recipe.json", "job.json"}
        return {path.name for path in self.folder.iterdir()} - given
