"""One file with the models on a device over real SSH; reading and decoding run here."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgedeploy.errors import ExitCode, UsageError
from tests.device.bench_project import BOARD, python_with, site_of
from tests.flow.running import edgedeploy
from tests.flow.senses import tried, write_project
from tests.lab.sshd import Sshd

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project for a board that is not this machine."""
    folder = tmp_path_factory.mktemp("senses")
    board = folder / "targets/boards/robot.yaml"
    board.parent.mkdir(parents=True)
    board.write_text(BOARD.format(arch="x86-64"))
    return write_project(folder, "robot/ort")


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


def test_the_command_line(project: Path, tmp_path: Path) -> None:
    """`try -d` with a device of devices.yaml."""
    (tmp_path / "devices.yaml").write_text(
        f"devices:\n  here: {{connection: local, board: robot, python: {sys.executable}, "
        f"root: {tmp_path}/root}}\n"
    )
    run = edgedeploy(
        "try", "red.png", "-d", "here", "--devices", tmp_path / "devices.yaml", "--set",
        "bench=off", cwd=project, EDGEDEPLOY_STORE=str(project / "store"),
    )  # fmt: skip
    assert run.code == 0, run.err
    assert run.out.count("on here") == 3  # the two models that see, and the last line
    assert "The models ran on here; reading and decoding ran here." in run.out
    assert "red 0." in run.out and "7 0.980 (100 50 300 150)" in run.out


def test_a_device_of_another_board_is_refused(project: Path, sshd: Sshd) -> None:
    other = site_of(sshd.device("desk", board="rpi4", python=sys.executable))
    with pytest.raises(UsageError) as error:
        tried(project, "knock.wav", sites=[other])
    assert [item.code for item in error.value.diagnostics] == ["E478"]
