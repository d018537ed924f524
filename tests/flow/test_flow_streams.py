"""Models with a state: what single frames do to them, and that a build refuses such data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forms import calibrated, quantized, samples_of, source_of
from onnx import TensorProto, helper, numpy_helper, save
from running import Run, edgedeploy
from test_stock_failures import speech

pytestmark = pytest.mark.slow

PROFILE = """\
edgedeploy: 1
name: meter
model:
  source: model.onnx
  inputs: {x: {shape: [1, 4]}}
  state: [{input: level, output: level_out}]
  data:
    calibrate: {source: "levels.py:samples", parameters: {seed: 1, sequences: CALIBRATE}}
    evaluate: {source: "levels.py:samples", parameters: {seed: 2, sequences: EVALUATE}}
  metric: mse
quantize: w8a8
gates: {metric: null, not_slower_than_float: false}
targets: [linux-x86-64/ort]
"""

LEVELS = """
import numpy as np

def samples(seed, sequences):
    source = np.random.default_rng(seed)
    for number in range(12):
        for step in range(24):
            x = source.random((1, 4), np.float32)
            yield {"x": x}, None, f"{number}#{step}", f"{seed}-{number}" if sequences else None
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A level meter: ``level' = 0.9 level + x W``, and a layer that reads the level."""
    folder = tmp_path_factory.mktemp("meter")
    source = np.random.default_rng(0)
    weights = {
        "w": source.uniform(0, 0.5, (4, 8)).astype(np.float32),
        "v": source.normal(size=(8, 2)).astype(np.float32),
        "keep": np.float32(0.9),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["heard"]),
        helper.make_node("Mul", ["level", "keep"], ["kept"]),
        helper.make_node("Add", ["kept", "heard"], ["level_out"]),
        helper.make_node("MatMul", ["level_out", "v"], ["y"]),
    ]
    values = {"x": 4, "level": 8, "y": 2, "level_out": 8}
    infos = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in values.items()
    }
    graph = helper.make_graph(
        nodes,
        "meter",
        [infos["x"], infos["level"]],
        [infos["y"], infos["level_out"]],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    (folder / "levels.py").write_text(LEVELS)
    return folder


def build(project: Path, *, calibrate: bool = True, evaluate: bool = True) -> Run:
    text = PROFILE.replace("CALIBRATE", str(calibrate).lower())
    (project / "meter.yaml").write_text(text.replace("EVALUATE", str(evaluate).lower()))
    words = ("--no-bench", "-o", project / "build", "--store", project / "store")
    return edgedeploy("build", project / "meter.yaml", *words)


@pytest.mark.parametrize("role", ["calibrate", "evaluate"])
def test_single_frames_end_the_build(project: Path, role: str) -> None:
    """Nothing is built, the role is named, and what to give instead."""
    run = build(project, **{role: False})
    assert run.code == 2, run.err
    assert re.findall(r"error\[(E\d+)\]", run.err) == ["E865"]
    assert f"'{role}'" in run.err and "level: {value: 0}" in run.err
    assert not list((project / "build").rglob("model.ort"))


def test_single_frame_calibration_is_worse(tmp_path: Path) -> None:
    """The voice detector, calibrated on the same 80 frames in a row and one by one.

    The error of the probability of speech over whole recordings doubles: ranges were taken of a
    network that has heard nothing yet.
    """
    wanted = speech(source_of("silero"))
    rmse = {}
    for name in ("row", "single"):
        frames = [item[0] for item in samples_of("silero")]
        words: dict[str, Any] = {"samples": frames} if name == "single" else {"count": len(frames)}
        made = calibrated("silero", tmp_path / name, **words)
        form = quantized(made, "ort", tmp_path / f"{name}-form", ranges="average")
        rmse[name] = float(np.sqrt(np.square(speech(form.path) - wanted).mean()))
    assert wanted.std() > 0.1
    assert rmse["single"] > 1.5 * rmse["row"]
