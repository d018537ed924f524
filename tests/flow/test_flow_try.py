"""One file through everything that was built: the answers side by side, on real runtimes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedeploy import api
from edgedeploy.errors import BuildError, EdgedeployError, ExitCode, StoreError, UsageError
from tests.device.bench_project import python_with, site_of
from tests.flow.running import edgedeploy
from tests.flow.senses import RED, tried, write_project
from tests.lab.sshd import Sshd

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, built for a robot's board with ORT and for this machine with OpenVINO."""
    return write_project(tmp_path_factory.mktemp("senses"))


def by_target(found: api.Tried, model: str) -> dict[str | None, api.Answered]:
    """Return a model's rows by target; None is the float model."""
    assert found.exit_code == 0, found
    return {row.target: row for row in found.rows if row.model == model}


def test_a_picture_goes_through_every_target(project: Path, tmp_path: Path) -> None:
    """By hand: the box from the letterbox's pixels to the picture's, and its score."""
    drawn = tmp_path / "drawn"
    found = tried(project, "red.png", pictures=drawn)
    boxes = by_target(found, "finder")
    assert list(boxes) == [None, "robot/ort", "linux-x86-64/openvino"]
    assert len(found.rows) == len(boxes)  # the other model takes no pictures
    for target, row in boxes.items():
        # 400 x 200 in 8 x 8: a fiftieth of the size, two rows from the top.
        assert row.answer is not None
        (box,) = row.answer["value"]
        assert (box["box"], box["class"]) == ([100, 50, 300, 150], 7)
        assert box["score"] == pytest.approx(RED[0] / 255, abs=1e-5)
        assert (row.verdict, row.evidence) == ("accepted" if target else "", "host-runtime")
        if target is not None:
            assert row.difference is not None and row.difference["same"] is True
        assert row.picture is not None and row.picture.parent == drawn
        pixels = np.asarray(Image.open(row.picture))
        frame = pixels[149, 100:300]
        assert (frame == frame[0]).all() and tuple(frame[0]) != RED
        assert tuple(pixels[100, 200]) == tuple(pixels[160, 350]) == RED
    assert sorted(path.name for path in drawn.iterdir()) == [
        "red.finder.float.png",
        "red.finder.linux-x86-64-openvino.png",
        "red.finder.robot-ort.png",
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


def test_the_models_answer_there(project: Path, sshd: Sshd, tmp_path: Path) -> None:
    """With the state carried there; a device that computes something else is seen to, a lost one
    says so, and neither takes another's answer along."""
    robot = sshd.device("robot-7", board="robot", python=sys.executable)
    wrong = python_with(
        tmp_path / "wrong",
        "class Wrong(real.InferenceSession):\n"
        "    def run(self, names, feed, *more):\n"
        "        return [value * 0.75 for value in super().run(names, feed, *more)]\n"
        "real.InferenceSession = Wrong\n",
    )
    devices = [
        robot,
        replace(robot, name="wrong", python=wrong),
        replace(robot, name="gone", port=1),
    ]
    sites = [site_of(device) for device in devices]
    try:
        found = tried(project, "knock.wav", sites=sites)
    finally:
        for site in sites:
            site.close()
    assert found.exit_code == ExitCode.DEVICE
    first, right, other, gone = found.rows
    assert (first.target, first.device, first.evidence) == (None, None, "host-runtime")
    for row in (right, other):
        assert row.answer is not None and row.difference is not None
        assert (row.target, row.evidence) == ("robot/ort", "device")
    # By hand: 0, .5, .5 + .25, 0 + .375, .1875; three quarters of each, carried along, are less.
    scores = [0, 0.5, 0.75, 0.375, 0.1875]
    assert right.answer["value"]["scores"] == pytest.approx(scores, abs=1e-4)
    assert right.difference["same"] is True
    less = [0, 0.375, 0.515625, 0.193359375, 0.072509765625]
    assert other.answer["value"]["scores"] == pytest.approx(less, abs=1e-4)
    assert other.difference["same"] is False and "1 of 5 frames differ" in other.difference["words"]
    assert (gone.device, gone.answer, gone.evidence) == ("gone", None, "none")
    assert gone.diagnostics and gone.exit_code == ExitCode.DEVICE
    assert not (sshd.home / ".edgedeploy/senses/current").exists()
    assert not list((sshd.home / ".edgedeploy/.scratch").iterdir())


def test_the_command_shows_them_side_by_side(project: Path, tmp_path: Path) -> None:
    """On a device of devices.yaml; the one profile of the folder is taken, and nothing of the file
    stays in the store."""

    def kept() -> list[str]:
        places = [project / "store" / name for name in ("trees", "actions", "records", "tmp")]
        return sorted(str(path) for place in places for path in place.rglob("*"))

    before = kept()
    (tmp_path / "devices.yaml").write_text(
        f"devices:\n  here: {{connection: local, board: robot, python: {sys.executable}, "
        f"root: {tmp_path}/root}}\n"
    )
    run = edgedeploy(
        "try", "knock.wav", "-d", "here", "--devices", tmp_path / "devices.yaml",
        cwd=project, EDGEDEPLOY_STORE=str(project / "store"),
    )  # fmt: skip
    assert run.code == 0, run.err
    assert "Model loud" in run.out and "Model finder" not in run.out
    (row,) = [line for line in run.out.splitlines() if line.startswith("robot/ort")]
    for word in ("float", "speech 0.01-0.03 s", "same frames", "device"):
        assert word in row
    assert "The models ran on here; reading and decoding ran here." in run.out
    assert kept() == before


def test_arrays_go_in_as_they_are(project: Path, tmp_path: Path) -> None:
    """A model with other inputs says so, and takes no other along."""
    np.savez(tmp_path / "half.npz", image=np.full((1, 3, 8, 8), 0.5, np.float32))
    found = tried(project, tmp_path / "half.npz", "robot/ort")
    *boxes, misfit = found.rows
    assert [row.target for row in boxes] == [None, "robot/ort"]
    # Without a picture nobody knows where the box lies in one.
    assert [item.code for row in boxes for item in row.diagnostics] == ["E874", "E874"]
    assert misfit.model == "loud" and [item.code for item in misfit.diagnostics] == ["E255"]
    assert found.exit_code == ExitCode.USAGE

    np.savez(tmp_path / "loud.npz", sound=np.full((1, 80), -0.75, np.float32))
    found = tried(project, tmp_path / "loud.npz", "robot/ort")
    scores = [row.answer["value"]["scores"] for row in found.rows if row.answer is not None]
    assert scores == [[0.75], [0.75]] and found.exit_code == ExitCode.DONE


def test_a_device_of_another_board_is_refused(project: Path, sshd: Sshd) -> None:
    other = site_of(sshd.device("desk", board="rpi4", python=sys.executable))
    with pytest.raises(UsageError) as error:
        tried(project, "knock.wav", sites=[other])
    assert [item.code for item in error.value.diagnostics] == ["E478"]


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
    (tmp_path / "taken").touch()
    with pytest.raises(StoreError) as full:
        tried(project, "red.png", "robot/ort", pictures=tmp_path / "taken/drawn")
    assert [item.code for item in full.value.diagnostics] == ["E602"]
    with pytest.raises(EdgedeployError) as error:
        tried(project, "knock.wav", pictures=tmp_path / "drawn")
    assert [item.code for item in error.value.diagnostics] == ["E853"]


def test_what_is_not_built_is_said(project: Path) -> None:
    with pytest.raises(BuildError) as error:
        tried(project, "red.png", sets=("quantize=fp16",))
    assert [item.code for item in error.value.diagnostics] == ["E438"]
