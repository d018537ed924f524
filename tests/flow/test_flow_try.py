"""One file through everything that was built: the answers side by side, on real runtimes."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper, save
from PIL import Image
from running import edgedeploy

from edgedeploy import api
from edgedeploy.errors import BuildError, EdgedeployError

pytestmark = pytest.mark.slow

COLOURS = ("red", "green", "blue")
RED = (250, 20, 10)

PROFILE = """\
edgedeploy: 1
name: senses
models:
  colour:
    source: colour.onnx
    decode: classes
    classes: colours.txt
    inputs: {image: {image: {size: [4, 4], scale: 1/255}}}
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
targets: [linux-x86-64/ort, linux-x86-64/openvino]
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
    """Write a model that sees colours, one that finds a box, and one that hears how loud it is.

    The box is always at (2, 3, 6, 5) of the input, its score how red the picture is. The last has
    a state: ``score = mean(|sound|) + 0.5 * before``, which is the next ``before``.
    """
    node = helper.make_node
    colour = model(
        "colour",
        {"image": [1, 3, 4, 4]},
        {"scores": [1, 3]},
        [
            node("GlobalAveragePool", ["image"], ["mean"]),
            node("Flatten", ["mean"], ["flat"]),
            node("Softmax", ["flat"], ["scores"]),
        ],
    )
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
    for name, made in {"colour": colour, "finder": finder, "loud": loud}.items():
        save(made, str(folder / f"{name}.onnx"))


def write_sound(path: Path, levels: list[float]) -> None:
    """Write frames of 80 equal samples at 8 kHz."""
    samples = np.repeat(np.array(levels) * 32768, 80).astype("<i2")
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(8000)
        stream.writeframes(samples.tobytes())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, built, with files to try."""
    folder = tmp_path_factory.mktemp("senses")
    write_models(folder)
    (folder / "senses.yaml").write_text(PROFILE)
    (folder / "colours.txt").write_text("\n".join(COLOURS) + "\n")
    Image.new("RGB", (400, 200), RED).save(folder / "red.png")
    write_sound(folder / "knock.wav", [0.0, 0.5, 0.5, 0.0, 0.0])
    (folder / "note.txt").write_text("hello\n")
    options = api.BuildOptions(output=folder / "build", store=folder / "store", measure="off")
    result = api.build(api.Request(profile=folder / "senses.yaml"), options)
    assert result.exit_code == 0
    return folder


def tried(
    project: Path, name: str | Path, *targets: str, sets: tuple[str, ...] = (), **options: Any
) -> api.Tried:
    """Try a file in this process."""
    request = api.Request(profile=project / "senses.yaml", targets=targets, sets=sets)
    places = {"output": project / "build", "store": project / "store"}
    return api.try_file(project / name, request, api.TryOptions(**places, **options))


def by_target(found: api.Tried, model: str) -> dict[str | None, api.Answered]:
    """Return a model's rows by target; None is the float model."""
    assert found.exit_code == 0, found
    return {row.target: row for row in found.rows if row.model == model}


def test_a_picture_goes_through_every_model_and_target(project: Path, tmp_path: Path) -> None:
    """By hand: the softmax of the colour; the box from the letterbox's pixels to the picture's."""
    drawn = tmp_path / "drawn"
    found = tried(project, "red.png", pictures=drawn)
    assert {row.model for row in found.rows} == {"colour", "finder"}
    scaled = np.exp(np.array(RED) / 255)
    for target, row in by_target(found, "colour").items():
        assert row.answer is not None
        best = row.answer["value"][0]
        assert best["label"] == "red"
        assert best["score"] == pytest.approx(scaled[0] / scaled.sum(), abs=1e-5)
        assert (row.verdict, row.evidence) == ("accepted" if target else "", "host-runtime")
        assert row.picture is None
        if target is not None:
            assert row.difference is not None and row.difference["same"] is True
    boxes = by_target(found, "finder")
    assert list(boxes) == [None, "linux-x86-64/ort", "linux-x86-64/openvino"]
    for row in boxes.values():
        # 400 x 200 in 8 x 8: a fiftieth of the size, two rows from the top.
        assert row.answer is not None
        (box,) = row.answer["value"]
        assert (box["box"], box["class"]) == ([100, 50, 300, 150], 7)
        assert box["score"] == pytest.approx(RED[0] / 255, abs=1e-5)
        assert row.picture is not None and row.picture.parent == drawn
        pixels = np.asarray(Image.open(row.picture))
        frame = pixels[149, 100:300]
        assert (frame == frame[0]).all() and tuple(frame[0]) != RED
        assert tuple(pixels[100, 200]) == tuple(pixels[160, 350]) == RED
    assert sorted(path.name for path in drawn.iterdir()) == [
        "red.finder.float.png",
        "red.finder.linux-x86-64-openvino.png",
        "red.finder.linux-x86-64-ort.png",
    ]


def test_a_sound_is_heard_with_its_state(project: Path) -> None:
    """By hand: 0, .5, .5 + .25, 0 + .375, .1875; at .5 and above it is speech."""
    found = by_target(tried(project, "knock.wav"), "loud")
    assert len(found) == 3
    for row in found.values():
        assert row.answer is not None
        scores = row.answer["value"]["scores"]
        assert scores == pytest.approx([0, 0.5, 0.75, 0.375, 0.1875], abs=1e-4)
        assert row.answer["value"]["spans"] == [[0.01, 0.03]]


def test_the_command_shows_them_side_by_side(project: Path) -> None:
    """The one profile of the folder is taken; nothing of the file stays in the store."""

    def kept() -> list[str]:
        places = [project / "store" / name for name in ("trees", "actions", "records", "tmp")]
        return sorted(str(path) for place in places for path in place.rglob("*"))

    before = kept()
    store = str(project / "store")
    run = edgedeploy("try", "knock.wav", "-t", "*/ort", cwd=project, EDGEDEPLOY_STORE=store)
    assert run.code == 0, run.err
    assert "Model loud" in run.out and "Model colour" not in run.out
    (row,) = [line for line in run.out.splitlines() if line.startswith("linux-x86-64/ort")]
    for word in ("float", "speech 0.01-0.03 s", "same frames", "host-runtime"):
        assert word in row
    assert kept() == before
    run = edgedeploy("try", project / "red.png", "--json", cwd=project / "build")
    assert (run.code, run.codes) == (2, {"E854"})


def test_arrays_go_in_as_they_are(project: Path, tmp_path: Path) -> None:
    """The finder takes another shape: it says so, and takes no other model along."""
    image = np.zeros((1, 3, 4, 4), np.float32)
    image[0, 1] = 1
    np.savez(tmp_path / "green.npz", image=image)
    found = tried(project, tmp_path / "green.npz", "*/ort")
    for row in by_target(found, "colour").values():
        assert row.answer is not None and row.answer["value"][0]["label"] == "green"
    (misfit,) = by_target(found, "finder").values()
    assert [item.code for item in misfit.diagnostics] == ["E257"] and misfit.answer is None


def test_a_file_that_does_not_suit_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "film.mp4").write_bytes(b"")
    for name, code in {
        "note.txt": "E851",  # no model has an input of texts
        tmp_path / "gone.png": "E850",
        tmp_path / "film.mp4": "E850",
        tmp_path / "broken.wav": "E259",
    }.items():
        with pytest.raises(EdgedeployError) as error:
            tried(project, name)
        (found,) = error.value.diagnostics
        assert (found.code, error.value.exit_code) == (code, 2), name
    with pytest.raises(EdgedeployError) as error:
        tried(project, "knock.wav", pictures=tmp_path / "drawn")
    assert [item.code for item in error.value.diagnostics] == ["E853"]


def test_what_is_not_built_is_said(project: Path) -> None:
    with pytest.raises(BuildError) as error:
        tried(project, "red.png", sets=("quantize=fp16",))
    assert [item.code for item in error.value.diagnostics] == ["E438"]
