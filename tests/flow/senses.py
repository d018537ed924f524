"""A project of two small models whose answers can be told by hand, and files to try on it."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper, save
from PIL import Image

from edgedeploy import api
from edgedeploy.deploy.bench import DeviceSite
from tests.device.bench_project import BOARD

RED = (250, 20, 10)

PROFILE = """\
edgedeploy: 1
name: senses
models:
  finder:
    source: finder.onnx
    decode: boxes
    inputs: {image: {image: {size: [8, 8], fit: letterbox, scale: 1/255}}}
  loud:
    source: loud.onnx
    inputs: {sound: {audio: {rate: 8000, frame: 80}}}
    state: [{input: before, output: after}]
    decode: {name: speech, output: score, parameters: {step: 0.01}}
quantize: none
bench: off
targets: [robot/ort, linux-x86-64/openvino]
"""


def model(
    name: str,
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    nodes: list[NodeProto],
    constants: dict[str, Any] | None = None,
) -> Any:
    """Return a model of float tensors."""
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, floats, shape) for key, shape in inputs.items()],
        [helper.make_tensor_value_info(key, floats, shape) for key, shape in outputs.items()],
        [
            numpy_helper.from_array(np.asarray(value), key)
            for key, value in (constants or {}).items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_models(folder: Path) -> None:
    """Write a model that finds a box, and one that hears how loud it is.

    The box is always at (2, 3, 6, 5) of the input, its score how red the picture is. The other has
    a state: ``score = mean(|sound|) + 0.5 * before``, which is the next ``before``.
    """
    node = helper.make_node
    place = np.array([[[2, 3, 6, 5, 0, 7]]], np.float32)
    score = np.array([[[0, 0, 0, 0, 1, 0]]], np.float32)
    finder = model(
        "finder",
        {"image": [1, 3, 8, 8]},
        {"boxes": [1, 1, 6]},
        [
            node("Slice", ["image", "first", "second", "axis"], ["red"]),
            node("ReduceMax", ["red"], ["most"], axes=[1, 2, 3], keepdims=0),
            node("Mul", ["most", "score"], ["scored"]),
            node("Add", ["scored", "place"], ["boxes"]),
        ],
        {"place": place, "score": score, "first": [0], "second": [1], "axis": [1]},
    )
    loud = model(
        "loud",
        {"sound": [1, 80], "before": [1, 1]},
        {"score": [1, 1], "after": [1, 1]},
        [
            node("Abs", ["sound"], ["size"]),
            node("ReduceMean", ["size"], ["now"], axes=[1]),
            node("Mul", ["before", "half"], ["rest"]),
            node("Add", ["now", "rest"], ["score"]),
            node("Identity", ["score"], ["after"]),
        ],
        {"half": np.array([[0.5]], np.float32)},
    )
    for name, made in {"finder": finder, "loud": loud}.items():
        save(made, str(folder / f"{name}.onnx"))


def write_sound(path: Path, levels: list[float]) -> None:
    """Write frames of 80 equal samples at 8 kHz."""
    samples = np.repeat(np.array(levels) * 32768, 80).astype("<i2")
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(8000)
        stream.writeframes(samples.tobytes())


def write_project(folder: Path) -> Path:
    """Write the project with files to try, and build it; return the folder."""
    board = folder / "targets/boards/robot.yaml"
    board.parent.mkdir(parents=True)
    board.write_text(BOARD.format(arch="x86-64"))
    write_models(folder)
    (folder / "senses.yaml").write_text(PROFILE)
    Image.new("RGB", (400, 200), RED).save(folder / "red.png")
    write_sound(folder / "knock.wav", [0.0, 0.5, 0.5, 0.0, 0.0])
    (folder / "note.txt").write_text("hello\n")
    options = api.BuildOptions(output=folder / "build", store=folder / "store", measure="off")
    result = api.build(api.Request(profile=folder / "senses.yaml"), options)
    assert result.exit_code == 0
    return folder


def tried(
    project: Path,
    name: str | Path,
    *targets: str,
    sets: tuple[str, ...] = (),
    sites: Sequence[DeviceSite] = (),
    **options: Any,
) -> api.Tried:
    """Try a file in this process."""
    request = api.Request(profile=project / "senses.yaml", targets=targets, sets=sets)
    places = {"output": project / "build", "store": project / "store"}
    return api.try_file(project / name, request, api.TryOptions(**places, **options), sites=sites)
