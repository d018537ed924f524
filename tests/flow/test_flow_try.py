"""One file through everything that was built: the answers side by side, on real runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedeploy import api
from edgedeploy.errors import BuildError, EdgedeployError
from tests.flow.running import edgedeploy
from tests.flow.senses import RED, tried, write_project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, built for two runtimes of this machine."""
    targets = "linux-x86-64/ort, linux-x86-64/openvino"
    return write_project(tmp_path_factory.mktemp("senses"), targets)


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
