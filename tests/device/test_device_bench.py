"""Measuring on a device over real SSH: records, gates, and what goes wrong there."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.cli.main import main
from edgedeploy.deploy.bench import check_boards
from edgedeploy.devices.inventory import Device
from edgedeploy.errors import ExitCode, UsageError
from tests.device.bench_project import (
    FLOAT_MS,
    INT8_MS,
    Project,
    gates,
    outcome,
    python_with,
    site_of,
    write_project,
)
from tests.lab.sshd import Sshd

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project, built once; nothing of it is measured."""
    folder = tmp_path_factory.mktemp("robot")
    write_project(folder / "project")
    project = Project(folder)
    result = project.build()
    assert gates(result)["latency_p50"] == ("not_judged", "none")
    return project


@pytest.fixture
def project(built: Project, tmp_path: Path) -> Project:
    """One model of it."""
    return built.copy(tmp_path / "project").only("eyes")


@pytest.fixture
def two_models(built: Project, tmp_path: Path) -> Project:
    return built.copy(tmp_path / "project")


@pytest.fixture
def robot(sshd: Sshd) -> Device:
    return sshd.device("robot-7", board="robot", python=sys.executable)


@pytest.fixture
def quiet_tree(tmp_path: Path) -> Iterator[Path]:
    """A sysfs with one cooling device, at rest."""
    cooling = tmp_path / "sys/class/thermal/cooling_device0"
    cooling.mkdir(parents=True)
    (cooling / "type").write_text("cpufreq-cpu0\n")
    (cooling / "cur_state").write_text("0\n")
    yield tmp_path / "sys"


def edgedeploy(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as error:
        main([str(item) for item in arguments])
    return int(error.value.code or 0)


def test_a_board_elsewhere_is_judged_by_its_device(
    project: Project, robot: Device, sshd: Sshd, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [project.profile, "-o", project.build_folder, "--store", project.store]
    assert edgedeploy("build", *command) == 0  # leaves the snapshot of an unchanged build
    assert "not measured" in capsys.readouterr().out
    wanted = [
        "--require",
        "latency:device",
        "--require",
        "metric:device",
        "--require",
        "parity:device",
    ]
    assert edgedeploy("accept", *command, *wanted) == 1

    result = project.build(site_of(robot))
    assert result.exit_code == ExitCode.DONE
    assert gates(result) == {
        "parity": ("passed", "host-runtime"),
        "metric": ("passed", "host-runtime"),
        "latency_p50": ("passed", "device"),
        "memory": ("passed", "device"),
        "not_slower": ("passed", "device"),
        "parity_on_device": ("passed", "device"),
        "metric_on_device": ("passed", "device"),
    }
    record = outcome(result).records["w8a8"]
    assert record["latency"]["p50_ms"]["value"] == INT8_MS
    assert record["comparison"]["ratio"]["value"] == INT8_MS / FLOAT_MS
    about = record["device"]
    assert (about["name"], about["board"], about["emulated"]) == ("robot-7", "robot", "")
    assert about["machine"] == "x86-64" and len(about["facts"]) == 64

    capsys.readouterr()
    assert edgedeploy("build", *command) == 0
    shown = capsys.readouterr().out
    assert "on robot-7" in shown and "device, quick" in shown and "not measured" not in shown
    assert edgedeploy("accept", *command, *wanted) == 0
    assert edgedeploy("accept", *command, "--set", "gates.latency.p50=0.5 ms") == 1
    for page in ("report.html", "report.txt", "build.json"):
        assert "robot-7" in (project.build_folder / "robot-eyes" / page).read_text()

    depot = sshd.home / ".edgedeploy/robot-eyes"
    assert not (depot / "current").exists() and len(list((depot / "versions").iterdir())) == 1
    assert not list((sshd.home / ".edgedeploy/.scratch").iterdir())


def test_the_newest_valid_record_counts(project: Project, robot: Device, quiet_tree: Path) -> None:
    """A throttled measurement is kept and shown by nothing while a valid one is there."""
    (quiet_tree / "class/thermal/cooling_device0/cur_state").write_text("2\n")
    throttled = project.build(site_of(robot, sysfs=quiet_tree))
    assert gates(throttled)["latency_p50"] == ("not_judged", "device")
    assert "throttled" in outcome(throttled).records["w8a8"]["validity"]["reasons"][0]
    assert gates(throttled)["parity_on_device"] == ("passed", "device")

    (quiet_tree / "class/thermal/cooling_device0/cur_state").write_text("0\n")
    valid = project.build(site_of(robot, samples=0, sysfs=quiet_tree))
    assert gates(valid)["latency_p50"] == ("passed", "device")
    assert gates(valid)["parity_on_device"] == ("passed", "device")  # of the run before

    (quiet_tree / "class/thermal/cooling_device0/cur_state").write_text("2\n")
    again = project.build(site_of(robot, sysfs=quiet_tree))
    assert gates(again)["latency_p50"] == ("passed", "device")


def test_wrong_on_the_board_is_refused(project: Project, robot: Device, tmp_path: Path) -> None:
    """Right here, wrong there: the device's runtime computes something else."""
    wrong = (
        "class Wrong(real.InferenceSession):\n"
        "    def run(self, names, feed, *more):\n"
        "        return [-value for value in super().run(names, feed, *more)]\n"
        "real.InferenceSession = Wrong\n"
    )
    robot = replace(robot, python=python_with(tmp_path / "wrong", wrong))
    result = project.build(site_of(robot))
    assert result.exit_code == ExitCode.REFUSED
    found = gates(result)
    assert found["parity"] == ("passed", "host-runtime")
    assert found["metric_on_device"] == ("refused", "device")
    assert project.build().exit_code == ExitCode.REFUSED  # and it stays so
    chosen = outcome(result).chosen
    assert chosen is not None and "metric_on_device" in chosen.reason


def test_one_that_dies_there_fails_alone(
    two_models: Project, robot: Device, sshd: Sshd, tmp_path: Path
) -> None:
    """The process of one model is killed there; the other is measured, and exit status 4 tells."""
    deadly = (
        "class Deadly(real.InferenceSession):\n"
        "    def __init__(self, path, *more, **options):\n"
        "        import os\n"
        "        os.kill(os.getpid(), 9) if '/ears.' in str(path) else None\n"
        "        super().__init__(path, *more, **options)\n"
        "real.InferenceSession = Deadly\n"
    )
    robot = replace(robot, python=python_with(tmp_path / "deadly", deadly))
    current = sshd.home / ".edgedeploy/robot-eyes/current"
    result = two_models.build(site_of(robot))
    assert result.exit_code == ExitCode.DEVICE
    assert gates(result, "eyes")["latency_p50"] == ("passed", "device")
    assert gates(result, "ears")["latency_p50"] == ("not_judged", "none")
    (told,) = outcome(result, "ears").unmeasured
    assert told.code == "E470" and "out of memory" in told.message and "robot-7" in told.message
    assert "E470" in (two_models.build_folder / "robot-eyes/report.txt").read_text()
    assert not current.exists()


def test_a_fake_device_proves_nothing(project: Project, tmp_path: Path) -> None:
    toy = Device(name="toy", kind="fake", board="robot", python=sys.executable)
    result = project.build(site_of(toy))
    found = gates(result)
    assert found["latency_p50"] == ("not_judged", "simulated")
    assert found["parity_on_device"] == ("passed", "simulated")
    assert "fake device" in (project.build_folder / "robot-eyes/report.txt").read_text()


def test_another_architecture_than_the_boards(project: Project, robot: Device) -> None:
    """Figures of this x86 machine are never taken for a Raspberry Pi's."""
    text = project.profile.read_text().replace("[robot/ort]", "[rpi5/ort]")
    project.profile.write_text(text)
    result = project.build(site_of(replace(robot, board="rpi5")))
    assert result.exit_code == ExitCode.DEVICE
    assert {item.code for item in outcome(result).unmeasured} == {"E477"}
    assert gates(result)["latency_p50"] == ("not_judged", "none")


def test_a_device_that_the_profile_has_nothing_for(project: Project, robot: Device) -> None:
    plan = project.build().plan
    check_boards(plan, [robot])
    for board in (None, "rpi4"):
        with pytest.raises(UsageError) as error:
            check_boards(plan, [robot, replace(robot, board=board)])
        assert error.value.diagnostics[0].code == "E478"


def test_the_command_line(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bench -d` with a device of devices.yaml, in the short plan of these tests."""
    from edgedeploy.bench import job
    from tests.device.bench_project import PLAN

    monkeypatch.setattr(job, "PLANS", {"quick": PLAN, "full": PLAN})
    devices = project.folder / "devices.yaml"
    devices.write_text(
        f"devices:\n  here: {{connection: local, board: robot, python: {sys.executable}, "
        f"root: {project.folder}/root}}\n"
    )
    common = [project.profile, "-o", project.build_folder, "--store", project.store]
    # Whether so small a model is slower in 8 bits is the machine's affair.
    common += ["--set", "gates.not_slower_than_float=false"]
    status = edgedeploy("bench", *common, "-d", "here", "--devices", devices, "--parity", "all")
    assert status == 0
    shown = capsys.readouterr()
    assert "device, quick" in shown.out and "on here" in shown.out
    assert "20 samples" in str((project.build_folder / "robot-eyes/build.json").read_text())
    assert edgedeploy("bench", *common, "-d", "here", "--devices", devices, "--parity", "x") == 2


def test_an_interruption_ends_the_run_on_the_device(project: Project) -> None:
    """Ctrl-C in the middle of measuring: exit status 130, nothing runs on, nothing is left."""
    root = project.folder / "root"
    devices = project.folder / "devices.yaml"
    devices.write_text(
        f"devices:\n  here: {{connection: local, board: robot, python: {sys.executable}, "
        f"root: {root}}}\n"
    )
    where = ["--devices", devices, "-o", project.build_folder, "--store", project.store]
    command = [sys.executable, "-m", "edgedeploy", "bench", project.profile, "-d", "here", *where]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        runs = wait_for(lambda: on_device(root), "the measuring process")
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
    finally:
        run.kill()
        run.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in runs), "its end")
    wait_for(lambda: not list((root / ".scratch").iterdir()), "the removal of its folder")
    assert not (root / "robot-eyes/current").exists()


def on_device(root: Path) -> list[int]:
    """Return the processes that run in a folder of a run on the device."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(root / ".scratch"):
                found.append(int(process.name))
    return found


def wait_for(look: Callable[[], Any], what: str) -> Any:
    """Wait until something is there and return it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    pytest.fail(f"{what} did not come")
