"""One file through everything that was built: the answers side by side, on real runtimes."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper, save
from PIL import Image
from running import Run, edgedeploy

pytestmark = pytest.mark.slow

COLOURS = ("red", "green", "blue")
SEEN = {"red": (250, 20, 10), "blue": (30, 10, 200)}

PROFILE = """\
edgedeploy: 1
name: senses
models:
  colour:
    source: colour.onnx
    decode: classes
    classes: colours.txt
    inputs: {image: {image: {size: [4, 4], scale: 1/255}}}
  loud:
    source: loud.onnx
    inputs: {sound: {audio: {rate: 8000, frame: 80}}}
    state: [{input: before, output: after}]
    decode: {name: speech, output: score, parameters: {step: 0.01}}
quantize: none
bench: off
targets: [linux-x86-64/ort, linux-x86-64/openvino, ios18/coreml]
"""

def model(
    name: str, inputs: dict[str, Any], outputs: dict[str, Any], nodes: list[NodeProto]
) -> Any:
    """Return a model of float tensors; ``half`` is 0.5 in it."""
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, floats, shape) for key, shape in inputs.items()],
        [helper.make_tensor_value_info(key, floats, shape) for key, shape in outputs.items()],
        [numpy_helper.from_array(np.array([[0.5]], np.float32), "half")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_models(folder: Path) -> None:
    """Write a model that sees colours and one, with state, that hears how loud it is.

    ``score = mean(|sound|) + 0.5 * before``, which is the next ``before``.
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
    )
    save(colour, str(folder / "colour.onnx"))
    save(loud, str(folder / "loud.onnx"))


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
    for name, pixel in SEEN.items():
        Image.new("RGB", (37, 23), pixel).save(folder / f"{name}.png")
    write_sound(folder / "knock.wav", [0.0, 0.5, 0.5, 0.0, 0.0])
    (folder / "note.txt").write_text("hello\n")
    built = edgedeploy("build", "senses.yaml", cwd=folder, EDGEDEPLOY_STORE=str(folder / "store"))
    assert built.code == 0, built.err
    return folder


def tried(project: Path, *arguments: str | Path) -> Run:
    return edgedeploy("try", *arguments, cwd=project, EDGEDEPLOY_STORE=str(project / "store"))


def rows(run: Run) -> dict[str | None, dict[str, Any]]:
    """Return the rows by target; None is the float model."""
    assert run.code == 0, run.err
    return {row["target"]: row for row in run.document["try"]["rows"]}


@pytest.mark.parametrize("name", SEEN)
def test_a_picture_goes_through_every_target(project: Path, name: str) -> None:
    found = rows(tried(project, f"{name}.png", "senses.yaml", "--json"))
    scaled = np.exp(np.array(SEEN[name]) / 255)
    expected = scaled / scaled.sum()
    assert list(found) == [None, "linux-x86-64/ort", "linux-x86-64/openvino", "ios18/coreml"]
    for target, row in found.items():
        best = row["answer"]["value"][0]
        assert (row["model"], best["label"]) == ("colour", name)
        assert best["score"] == pytest.approx(expected.max(), abs=2e-3)
        assert row["evidence"] == ("interpreted" if target == "ios18/coreml" else "host-runtime")
        assert row["difference"] is None if target is None else row["difference"]["same"]


def test_a_sound_is_heard_with_its_state(project: Path) -> None:
    """By hand: 0, .5, .5 + .25, 0 + .375, .1875; at .5 and above it is speech."""
    found = rows(tried(project, "knock.wav", "senses.yaml", "--json"))
    assert len(found) == 4
    for row in found.values():
        assert row["answer"]["value"]["scores"] == pytest.approx(
            [0, 0.5, 0.75, 0.375, 0.1875], abs=1e-3
        )
        assert row["answer"]["value"]["spans"] == [[0.01, 0.03]]


def test_the_table_says_what_and_on_which_evidence(project: Path) -> None:
    run = tried(project, "blue.png", "senses.yaml", "-t", "*/openvino", "-t", "*/coreml")
    assert run.code == 0, run.err
    assert "Model colour" in run.out and "Model loud" not in run.out
    (openvino,) = [
        line for line in run.out.splitlines() if line.startswith("linux-x86-64/openvino")
    ]
    assert "blue 0.4" in openvino and "same class" in openvino and "host-runtime" in openvino
    assert "interpreted" in run.out and "ms" not in run.out


def test_arrays_go_in_as_they_are(project: Path, tmp_path: Path) -> None:
    image = np.zeros((1, 3, 4, 4), np.float32)
    image[0, 1] = 1
    np.savez(tmp_path / "green.npz", image=image)
    found = rows(tried(project, tmp_path / "green.npz", "senses.yaml", "--json"))
    labels = {row["answer"]["value"][0]["label"] for row in found.values() if row["answer"]}
    assert labels == {"green"}


def test_nothing_of_the_file_is_kept(project: Path) -> None:
    """The store holds the same trees and actions as before."""

    def kept() -> list[str]:
        store = project / "store"
        places = [store / name for name in ("trees", "actions", "records", "tmp")]
        return sorted(str(path) for place in places for path in place.rglob("*"))

    before = kept()
    assert rows(tried(project, "red.png", "senses.yaml", "--json"))
    assert kept() == before


def test_a_file_that_does_not_suit_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "film.mp4").write_bytes(b"")
    np.savez(tmp_path / "other.npz", pixels=np.zeros(3))
    for name, code in {
        "note.txt": "E851",  # no model has an input of texts
        tmp_path / "gone.png": "E850",
        tmp_path / "film.mp4": "E850",
        tmp_path / "broken.png": "E259",
        tmp_path / "other.npz": "E255",
    }.items():
        run = tried(project, name, "senses.yaml", "--json")
        assert (run.code, run.codes) == (2, {code}), (name, run.out)
    run = tried(project, "red.png", "senses.yaml", "-o", tmp_path / "drawn", "--json")
    assert (run.code, run.codes) == (2, {"E853"})


def test_the_profile_of_the_folder_is_taken(project: Path, tmp_path: Path) -> None:
    assert rows(tried(project, "red.png", "-t", "*/ort", "--json"))
    run = edgedeploy("try", project / "red.png", "--json", cwd=tmp_path)
    assert (run.code, run.codes) == (2, {"E854"})


def test_what_is_not_built_is_said(project: Path) -> None:
    run = tried(project, "red.png", "senses.yaml", "--set", "model.colour.allow_nonfinite=true")
    assert run.code in (2, 3)
    run = tried(project, "red.png", "senses.yaml", "--set", "quantize=fp16", "--json")
    assert (run.code, run.codes) == (3, {"E438"}), run.out
    document = json.loads((project / "build/senses/build.json").read_text())
    assert document["models"]
