"""A pipeline with its models on a device over real SSH: the function runs here."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedeploy import api
from edgedeploy.devices.inventory import Device
from edgedeploy.errors import ExitCode
from tests.device.bench_project import BOARD, python_with, site_of
from tests.flow.sorter import Project, write_project
from tests.lab.sshd import Sshd

pytestmark = pytest.mark.slow

FLOAT = ("targets=['robot/ort']", "quantize=none")
"""For the robot's board, whose runtime is told by nothing but what it answers."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project for a board that is not this machine, built."""
    found = write_project(tmp_path_factory.mktemp("sorter"))
    board = found.folder / "targets/boards/robot.yaml"
    board.parent.mkdir(parents=True)
    board.write_text(BOARD.format(arch="x86-64"))
    return found


@pytest.fixture
def robot(sshd: Sshd) -> Device:
    return sshd.device("robot-7", board="robot", python=sys.executable)


def gates(result: api.BuildResult) -> dict[str, tuple[str, str, str]]:
    """Return state, evidence and value of the gates on the combination."""
    (found,) = result.combinations
    return {gate.gate: (gate.state, gate.evidence, gate.value) for gate in found.gates}


def test_the_models_answer_there(project: Project, robot: Device, tmp_path: Path) -> None:
    """Eight samples of 40 are answered with the models on the device; later builds know it.

    Then a device whose runtime computes something else: right here and wrong there is refused.
    """
    site = site_of(robot, samples=8)
    try:
        result = project.build(*FLOAT, sites=[site])
    finally:
        site.close()
    assert result.exit_code == ExitCode.DONE
    found = gates(result)
    assert found["metric"][:2] == ("passed", "host-runtime")
    assert found["metric_on_device"] == ("passed", "device", "+0 pt")
    assert gates(project.build(*FLOAT)) == found

    wrong = python_with(
        tmp_path / "wrong",
        "class Wrong(real.InferenceSession):\n"
        "    def run(self, names, feed, *more):\n"
        "        return [-value for value in super().run(names, feed, *more)]\n"
        "real.InferenceSession = Wrong\n",
    )
    other = site_of(replace(robot, python=wrong), samples=8)
    try:
        result = project.build(*FLOAT, sites=[other])
    finally:
        other.close()
    assert result.exit_code == ExitCode.REFUSED
    assert gates(result)["metric_on_device"][:2] == ("refused", "device")
    assert gates(result)["metric"][0] == "passed"


def test_one_file_is_tried_there(project: Project, robot: Device, tmp_path: Path) -> None:
    """The function runs here and its models there, and both answer what the float models do."""
    project.build(*FLOAT)
    x = np.random.default_rng(11).uniform(size=(1, 8)).astype(np.float32)
    np.savez(tmp_path / "one.npz", x=x)
    options = api.TryOptions(output=project.folder / "build", store=project.folder / "store")
    site = site_of(robot)
    try:
        found = api.try_file(tmp_path / "one.npz", project.request(*FLOAT), options, sites=[site])
    finally:
        site.close()
    first, there = found.rows
    assert first.answer is not None and there.answer is not None and there.difference is not None
    assert (there.target, there.device, there.evidence) == ("robot/ort", "robot-7", "device")
    assert there.difference["outputs"]["kind"]["max_abs"] < 1e-5
    assert there.answer["value"]["kind"]["shape"] == [1, 3]
