"""A project of two models and a function over them, in which one of the two loses what counts.

The finder answers one value of hundreds beside three scores below 1. Eight bits for all of them
leave little of the scores, and the cosine hardly moves: it passes its own gate, and the pipeline,
which reads the scores alone, does not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedeploy import api
from edgedeploy.events import EventLog
from edgedeploy.executor import Builder
from edgedeploy.measuring import Site
from edgedeploy.release.keys import new_key
from edgedeploy.store import Store

TARGET = "linux-x86-64/ort"
PROFILE = """\
edgedeploy: 1
name: sorter
version: "1.0.0"
models:
  finder: {source: finder.onnx, licence: MIT}
  reader: {source: reader.onnx, licence: MIT}
pipeline: sorting.py:sort
data:
  calibrate: {source: "data.py:samples", parameters: {seed: 1, count: 12}}
  evaluate: {source: "data.py:samples", parameters: {seed: 2, count: 40}}
metric: {name: top1, output: kind}
quantize: {mode: w8a8, rounding: nearest}
gates: {metric: -1 pt, not_slower_than_float: false}
release: {files_licence: MIT}
targets: [linux-x86-64/ort]
"""
SORTING = """\
import numpy as np
from kinds import KINDS

def sort(inputs, models):
    scores = models.finder(x=inputs["x"])["y"][:, 1:]
    found = models.reader(x=np.ascontiguousarray(scores))["z"]
    assert found.shape == (1, len(KINDS))
    return {"kind": found, "scores": scores}
"""
DATA = """\
from pathlib import Path
import numpy as np

def samples(seed, count):
    source = np.random.default_rng(seed)
    weights = np.load(Path(__file__).with_name("weights.npy"))
    for _ in range(count):
        x = source.uniform(size=(1, 8)).astype(np.float32)
        yield {"x": x}, int((x @ weights)[0, 1:].argmax())
"""
WEIGHTS = np.random.default_rng(7).uniform(0, 0.25, (8, 4)).astype(np.float32)
WEIGHTS[:, 0] *= 600


def write_models(folder: Path) -> None:
    """Write the finder, 8 values to 4, and the reader, 3 scores to 3."""
    layers = {
        "finder": ([WEIGHTS, np.eye(4, dtype=np.float32)], "y"),
        "reader": ([np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32) * 2], "z"),
    }
    for name, (weights, output) in layers.items():
        (rows, _), (_, columns) = weights[0].shape, weights[1].shape
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "w0"], ["a"], name="first"),
                helper.make_node("Relu", ["a"], ["b"]),
                helper.make_node("MatMul", ["b", "w1"], [output], name="second"),
            ],
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, columns])],
            [numpy_helper.from_array(array, f"w{number}") for number, array in enumerate(weights)],
        )
        opset = [helper.make_opsetid("", 17)]
        onnx.save(
            helper.make_model(graph, opset_imports=opset, ir_version=8), folder / f"{name}.onnx"
        )


@dataclass(frozen=True)
class Project:
    """A project with its store and build folder."""

    folder: Path

    def request(self, *sets: str) -> api.Request:
        """Return the request for the profile, changed."""
        return api.Request(profile=self.folder / "sorter.yaml", sets=sets)

    def build(self, *sets: str, sites: Sequence[Site] = (), **options: Any) -> api.BuildResult:
        """Build; nothing is measured but on devices."""
        places = {"output": self.folder / "build", "store": self.folder / "store"}
        how = api.BuildOptions(**places, measure="known", **options)
        return api.build(self.request(*sets), how, sites=lambda plan: sites)

    def release(self, *sets: str) -> api.Released:
        """Release the last build."""
        places = {"output": self.folder / "build", "store": self.folder / "store"}
        options = api.ReleaseOptions(**places, key=self.folder / "key")
        return api.release(self.request(*sets), options, EventLog())

    def tree(self, result: api.BuildResult, name: str, output: str) -> Path:
        """Return where an output of a stage of a build lies."""
        node = next(node for node in result.nodes() if node.id == name)
        with Builder(Store(self.folder / "store"), self.folder, runs=False) as builder:
            return builder.folder(node.output(output))[1]

    @property
    def pipeline(self) -> dict[str, Any]:
        """What the document of the last build says of the pipeline."""
        path = self.folder / "build/sorter/build.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))["pipeline"])


def write_project(folder: Path) -> Project:
    """Write the project into an existing folder."""
    write_models(folder)
    np.save(folder / "weights.npy", WEIGHTS)
    (folder / "sorting.py").write_text(SORTING)
    (folder / "kinds.py").write_text("KINDS = ('a', 'b', 'c')\n")
    (folder / "data.py").write_text(DATA)
    (folder / "sorter.yaml").write_text(PROFILE)
    new_key(folder / "key")
    return Project(folder)
