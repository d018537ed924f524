"""A small project of a user's, with everything that can change, and the commands run on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import edgedeploy

SOURCE = Path(edgedeploy.__file__).parents[1]
ORT = "linux-x86-64/ort"
OPENVINO = "intel-cpu/openvino"

PROFILE = """\
edgedeploy: 1
name: small
model:
  source: model.onnx
  data:
    calibrate: calibration
    evaluate: data.py:evaluation
  metric: agreement
quantize: w8a8
gates:
  size: 1 MB
  cosine: 0.1  # four weights: what int8 leaves of them is not the matter here
targets:
  - linux-x86-64/ort
  - intel-cpu/openvino
"""

DATA = '''\
"""Evaluation samples."""

import helper_mod
import numpy as np


def evaluation():
    with open(helper_mod.place()) as file:
        factors = [float(line) for line in file]
    for seed, factor in enumerate(factors):
        generator = np.random.Generator(np.random.PCG64(100 + seed))
        yield {"x": helper_mod.scaled(generator.normal(size=(1, 3, 8, 8)), factor)}
'''

HELPER = '''\
"""What data.py needs."""

from pathlib import Path

import numpy as np

OFFSET = 0.0


def place():
    return Path(__file__).with_name("factors.txt")


def scaled(values, factor):
    return (values * factor + OFFSET).astype(np.float32)
'''

# Runs the command line, and tells at the end whether a build went the long way.
COMMAND = """\
import sys
from edgedeploy.cli.main import main
try:
    main()
finally:
    print("LONG" if "edgedeploy.api" in sys.modules else "SHORT", file=sys.stderr)
"""


def small_model(path: Path) -> None:
    """Write a classifier of 3 x 8 x 8 inputs: two convolutions and a linear layer."""
    source = np.random.Generator(np.random.PCG64(1))

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(source.normal(size=shape).astype(np.float32) * 0.4, name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="linear"),
    ]
    values = [
        weights("w1", 8, 3, 3, 3),
        weights("b1", 8),
        weights("w2", 16, 8, 3, 3),
        weights("b2", 16),
        weights("w3", 16, 5),
        weights("b3", 5),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str
    states: dict[str, str]

    @property
    def shortcut(self) -> bool:
        """Whether the answer came from stat values alone."""
        return self.err.rstrip().endswith("SHORT")

    @property
    def ran(self) -> set[str]:
        """The stages that ran, without the model's name."""
        return {node.removeprefix("main.") for node, state in self.states.items() if state == "ran"}


class Project:
    """A project folder with a store and a home beside it.

    Args:
        base: An empty folder for all of it.
        name: Name of the project's folder.
        env: Further environment.
    """

    def __init__(self, base: Path, name: str = "app", env: dict[str, str] | None = None) -> None:
        self.base = base
        self.root = base / name
        self.store = base / "store"
        self.output = base / "out"
        self.home, self.tmp = base / "home", base / "tmp"
        calibration = self.root / "calibration"
        for folder in (calibration / "empty", self.home, self.tmp):
            folder.mkdir(parents=True)
        self.profile = self.root / "profile.yaml"
        self.profile.write_text(PROFILE)
        (self.root / "data.py").write_text(DATA)
        (self.root / "helper_mod.py").write_text(HELPER)
        (self.root / "factors.txt").write_text("1.0\n0.5\n1.5\n2.0\n")
        small_model(self.root / "model.onnx")
        source = np.random.Generator(np.random.PCG64(2))
        for index in range(4):
            sample = source.normal(size=(1, 3, 8, 8)).astype(np.float32)
            np.save(calibration / f"{index}.npy", sample)
        self.env = {
            **os.environ,
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(SOURCE),
            **(env or {}),
        }
        for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "EDGEDEPLOY_STORE"):
            self.env.pop(variable, None)

    def arguments(self, verb: str, *more: str) -> list[str]:
        """Return a command line of edgedeploy on this project."""
        command = [sys.executable, "-c", COMMAND, verb, str(self.profile)]
        command += ["--store", str(self.store)]
        if verb == "build":
            command += ["-o", str(self.output)]
        return [*command, *more]

    def run(self, command: list[str], cwd: Path | None = None, **env: str) -> Ran:
        """Run a command line, in the project's folder unless another is given."""
        done = subprocess.run(
            command,
            env={**self.env, **env},
            cwd=cwd or self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ran(status=done.returncode, out=done.stdout, err=done.stderr, states={})

    def build(self, *more: str, **env: str) -> Ran:
        """Build as a user does; the shortcut may answer."""
        return self.run(self.arguments("build", *more), **env)

    def build_long(self, *more: str, **env: str) -> Ran:
        """Build the long way and return how each stage ended as well."""
        events = self.base / "events.jsonl"
        events.unlink(missing_ok=True)
        done = self.build("--events", str(events), *more, **env)
        lines = map(json.loads, events.read_text().splitlines() if events.exists() else ())
        states = {line["node"]: line["state"] for line in lines if "state" in line}
        return Ran(status=done.status, out=done.out, err=done.err, states=states)

    def plan(self, **env: str) -> dict[str, str]:
        """Return what ``plan`` says of each stage that is no hit, without the model's name."""
        done = self.run(self.arguments("plan", "--json"), **env)
        assert done.status == 0, done.err
        stages = json.loads(done.out)["stages"]
        return {
            stage["id"].removeprefix("main."): stage["why"]
            for stage in stages
            if stage["why"] != "hit"
        }

    def lock(self) -> dict[str, object]:
        """Return what the lock file says of the profile."""
        entries = json.loads((self.root / "edgedeploy.lock").read_text())
        entry: dict[str, object] = entries["profiles"]["small"]
        return entry

    def published(self) -> dict[str, bytes]:
        """Return the content of every published file but the reports."""
        place = self.output / "small" / "main"
        return {
            str(path.relative_to(place)): path.read_bytes()
            for path in sorted(place.rglob("*"))
            if path.is_file()
        }
