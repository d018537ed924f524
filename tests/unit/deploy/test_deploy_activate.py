"""Activation and roll-back with the real agent: whatever goes wrong, the old version is active."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgedeploy.deploy import activate, hooks
from edgedeploy.deploy.fleet import Interrupted
from edgedeploy.devices.depot import Depot
from edgedeploy.devices.local import LocalPipe, LocalRemote
from edgedeploy.devices.shell_depot import ShellDepot
from edgedeploy.errors import DeviceError, EdgedeployError, ExitCode, RefusedError, UsageError
from edgedeploy.remote import CHUNK_BYTES, STALL_S, Remote
from tests.unit.deploy.robot import Robot


@pytest.fixture
def robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Robot:
    monkeypatch.setattr(hooks, "POLL_S", 0.1)
    return Robot(tmp_path / "device")


def by_shell(remote: Remote, folder: str, *, python: str | None = None) -> Depot:
    """Open a depot as on a device without Python."""
    return ShellDepot(remote, folder)


def test_a_device_without_python(tmp_path, monkeypatch):
    """All of it once with the shell's agent: both keep the same contract."""
    monkeypatch.setattr(hooks, "POLL_S", 0.1)
    robot = Robot(tmp_path / "device", opener=by_shell)
    first, bad = robot.push("one"), robot.push("bad", health="exit 1")
    second = robot.push("two")
    robot.with_hooks(timeout_s=2.0)
    with pytest.raises(RefusedError):
        robot.activate(bad)
    assert robot.active() is None
    robot.with_hooks(timeout_s=30.0)
    robot.activate(first)
    robot.activate(second)
    assert (robot.active(), robot.before(), robot.running()) == (second, first, second)
    robot.with_hooks(timeout_s=2.0)
    with pytest.raises(RefusedError):
        robot.activate(bad)
    robot.with_hooks(timeout_s=30.0)
    assert (robot.active(), robot.before(), robot.running()) == (second, first, second)
    robot.roll_back()
    assert (robot.active(), robot.before(), robot.running()) == (first, second, first)
    robot.check()


def codes(error: EdgedeployError) -> list[str]:
    return [item.code for item in error.diagnostics]


def test_a_version_that_is_well_becomes_active_and_the_one_before_is_kept(robot):
    first, second = robot.push("one"), robot.push("two")
    assert robot.active() is None
    answer = robot.activate(first)
    assert (robot.active(), robot.before(), robot.running()) == (first, None, first)
    checks = {check["name"]: check["state"] for check in answer.details["checks"]}
    assert checks == {"golden": "passed", "restart": "passed", "health": "passed"}
    answer = robot.activate(second[:10])
    assert (robot.active(), robot.before(), robot.running()) == (second, first, second)
    assert (answer.details["version"], answer.details["before"]) == (second, first)
    robot.check()
    robot.loaded.unlink()
    again = robot.activate(second)
    assert again.already and robot.running() is None  # nothing was restarted
    assert '"vouched"' in (robot.depot / "journal.jsonl").read_text()


UNWELL = {
    "says no": ({"health": "echo queue full; exit 3"}, "ended with 3"),
    "hangs": ({"health": "sleep 60"}, "did not end"),
    "dies": ({"health": "kill -SEGV $$"}, "ended with 139"),
    "prints garbage": ({"health": "printf '\\033[2J\\033]0;x\\007'; exit 1"}, "?[2J?]0;x?"),
    "restart fails": ({"restart": "exit 5"}, "`restart` ended with 5"),
    "restart hangs": ({"restart": "sleep 60"}, "`restart` did not end"),
    "prints without end": ({"health": "yes"}, "more than"),
}


@pytest.mark.parametrize("how", UNWELL)
def test_a_version_that_is_not_well_is_rolled_back(robot, how):
    """Row 30, by the operator's hooks."""
    words, said = UNWELL[how]
    good = robot.push("good")
    robot.activate(good)
    bad = robot.push("bad", **words)
    robot.with_hooks(timeout_s=2.0)
    with pytest.raises(RefusedError) as caught:
        robot.activate(bad)
    assert codes(caught.value)[0] == "E002" and caught.value.exit_code == ExitCode.REFUSED
    text = " ".join(item.message for item in caught.value.diagnostics)
    assert said in text and text.isprintable()
    assert (robot.active(), robot.before(), robot.running()) == (good, None, good)
    robot.check()
    assert bad in robot.state().versions  # it stays, staged
    # Once what is wrong is mended, the same command succeeds.
    loads = f"readlink {robot.depot}/current > {robot.loaded}"
    robot.with_hooks(restart=loads, health="true", timeout_s=30.0)
    robot.activate(bad)
    assert (robot.active(), robot.before(), robot.running()) == (bad, good, bad)


WRONG = {
    "dies": ({"dies": True}, "SIGSEGV"),
    "answers NaN": ({"times": float("nan")}, "NaN"),
    "answers something else": ({"times": 4}, "its error is 0.33"),
    "is too slow": ({"ms": 20.0}, "p50 20 ms, limit 10 ms"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_version_that_is_wrong_is_not_even_tried(robot, how):
    """Row 30, by what the model does: nothing is switched or restarted."""
    words, said = WRONG[how]
    good = robot.push("good")
    robot.activate(good)
    robot.loaded.unlink()
    bad = robot.push("bad", **words)
    with pytest.raises(RefusedError) as caught:
        robot.activate(bad, ceilings_ms={("main", "rpi5/ort"): 10.0})
    assert codes(caught.value)[0] == "E003" and said in str(caught.value)
    assert (robot.active(), robot.running()) == (good, None)
    robot.check()


def test_a_ceiling_is_asked_only_where_there_is_one(robot):
    robot.activate(robot.push("slow", ms=1e6))
    assert robot.runs.calls == ["outputs"]


def test_golden_samples_that_are_damaged_on_the_device_are_no_evidence(robot):
    version = robot.push("one")
    file = robot.depot / "versions" / version / "golden/main/outputs/tensors.bin"
    os.chmod(file, 0o644)  # noqa: PTH101 - an object, whatever its name
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    with pytest.raises(EdgedeployError) as caught:
        robot.activate(version)
    assert codes(caught.value) == ["E720"] and caught.value.exit_code == ExitCode.INTEGRITY
    assert robot.active() is None


def test_without_golden_samples_the_hooks_vouch(robot):
    version = robot.push("one", golden=None)
    answer = robot.activate(version)
    assert answer.details["checks"][0]["state"] == "not judged"
    wrong = robot.push("two", times=99)
    answer = robot.activate(wrong, golden=False)
    assert [check["name"] for check in answer.details["checks"]] == ["restart", "health"]
    robot.with_hooks(health=None)
    with pytest.raises(UsageError):
        robot.activate(version, golden=False)
    assert robot.active() == wrong


def test_a_first_version_that_is_not_well_leaves_none(robot):
    bad = robot.push("bad", health="exit 1")
    robot.with_hooks(timeout_s=2.0)
    with pytest.raises(RefusedError) as caught:
        robot.activate(bad)
    assert "rolled back to no version" in str(caught.value)
    assert (robot.active(), robot.before(), robot.running()) == (None, None, None)
    robot.check()


def test_which_version_is_meant(robot):
    robot.push("one")
    for start in ("", "zz", "0" * 64):
        if start:
            with pytest.raises(DeviceError) as caught:
                robot.activate(start)
            assert codes(caught.value) == ["E443"]
    robot.push("two")
    with pytest.raises(DeviceError) as caught:
        robot.activate("")
    assert "2 versions begin with" in str(caught.value)
    assert robot.active() is None


# -- interruptions and cuts ----------------------------------------------------------------------


def test_an_interruption_during_the_trial_reverts_at_once(robot):
    good = robot.push("good")
    robot.activate(good)
    slow = robot.push("slow", health="sleep 60")
    robot.with_hooks(timeout_s=60)
    link = robot.link()

    def interrupt() -> None:
        while robot.running() != slow:
            time.sleep(0.02)
        link.interrupt()

    threading.Thread(target=interrupt, daemon=True).start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        robot.activate(slow, link)
    assert time.monotonic() - started < 20
    assert robot.active() == good
    deadline = time.monotonic() + 10  # the restart for the old version was only started
    while robot.running() != good and time.monotonic() < deadline:
        time.sleep(0.05)
    assert robot.running() == good
    robot.check()


class Cut(LocalRemote):
    """A connection that can be cut: the programs on the device die, and it comes back or not."""

    def __init__(self, folder: Path) -> None:
        super().__init__("robot-1")
        self.folder = folder
        self.pipes: list[CutPipe] = []
        if (folder / "away").exists():
            raise lost("E401")

    def open(self, command: str) -> CutPipe:
        self.pipes.append(CutPipe(command))
        return self.pipes[-1]

    def cut(self) -> None:
        for pipe in self.pipes:
            pipe.cut = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pipe._process.pid, signal.SIGKILL)


class CutPipe(LocalPipe):
    """Fails like one over SSH: at once when the connection is lost."""

    cut = False

    def read(self, limit: int = CHUNK_BYTES, stall_s: float | None = STALL_S) -> bytes:
        try:
            data = super().read(limit, stall_s)
        except DeviceError:
            data = b""
            if not self.cut:
                raise
        if self.cut and not data:
            raise lost("E403")
        return data

    def write(self, data: bytes | memoryview) -> None:
        if self.cut:
            raise lost("E403")
        super().write(data)


def lost(code: str) -> DeviceError:
    error = DeviceError("no route", code=code)
    error.retryable = True
    return error


def cut_in_trial(robot: Robot, version: str, *, comes_back: bool) -> None:
    """Activate a version whose health hook waits for the cut that comes then."""
    link = robot.link()

    def cut() -> None:
        while not (robot.folder / "asked").exists():
            time.sleep(0.02)
        if not comes_back:
            (robot.folder / "away").touch()
        link.remote.cut()

    threading.Thread(target=cut, daemon=True).start()
    robot.activate(version, link)


def test_a_connection_that_breaks_during_the_trial_and_comes_back(robot):
    robot.remote = lambda: Cut(robot.folder)
    good = robot.push("good")
    robot.activate(good)
    slow = robot.push("slow", health=f"touch {robot.folder}/asked; sleep 60")
    robot.with_hooks(timeout_s=60)
    with pytest.raises(RefusedError) as caught:
        cut_in_trial(robot, slow, comes_back=True)
    assert codes(caught.value)[0] == "E002"
    assert (robot.active(), robot.running()) == (good, good)
    robot.check()


def test_a_device_that_stays_away_reverts_when_it_is_reached_again(robot, monkeypatch):
    """Row 31: power is lost between switch and confirmation."""
    monkeypatch.setattr(activate, "BACK_S", 1.0)
    robot.remote = lambda: Cut(robot.folder)
    good = robot.push("good")
    robot.activate(good)
    slow = robot.push("slow", health=f"touch {robot.folder}/asked; sleep 60")
    robot.with_hooks(timeout_s=60)
    with pytest.raises(DeviceError) as caught:
        cut_in_trial(robot, slow, comes_back=False)
    assert codes(caught.value) == ["E445"] and caught.value.retryable
    assert robot.active() == slow  # the agent was killed: nobody could revert yet
    (robot.folder / "away").unlink()
    state = robot.state()
    assert (state.current, state.reverted, state.pending) == (good, slow, None)
    robot.with_hooks(health="true")
    robot.activate(slow)
    assert (robot.active(), robot.before()) == (slow, good)
    robot.check()


@pytest.mark.parametrize(("silent_s", "tried_s"), [(0.0, 5.0), (13.0, 1.0), (30.0, 0.5)])
def test_a_silent_link_is_given_up_sooner(monkeypatch, silent_s, tried_s):
    """What is cut is an error 15 s after the last that was heard of it, however it is noticed."""
    loss = DeviceError("lost", code="E403")
    loss.silent_s, loss.retryable = silent_s, True
    now = [100.0]

    class Away:
        def reconnect(self, timeout_s):
            now[0] += min(timeout_s, 0.3)
            raise loss

        def wait(self, seconds):
            now[0] += seconds

    monkeypatch.setattr(activate.time, "monotonic", lambda: now[0])
    unit = SimpleNamespace(name="desk", root="~/.edgedeploy", python=None)
    device = activate._Device(Away(), unit, "app", opener=None)
    with pytest.raises(DeviceError):
        device.reopened(loss)
    assert tried_s <= now[0] - 100 <= tried_s + 1.0


# -- roll-back -----------------------------------------------------------------------------------


def test_roll_back_exchanges_and_restarts(robot):
    first, second = robot.push("one"), robot.push("two")
    robot.activate(first)
    robot.activate(second)
    answer = robot.roll_back(source=second[:8])
    assert (robot.active(), robot.before(), robot.running()) == (first, second, first)
    assert (answer.exit_code, answer.details["version"]) == (ExitCode.DONE, first)
    assert robot.roll_back(source=second[:8]).already  # so that it can be repeated
    assert robot.active() == first
    robot.roll_back()
    assert robot.active() == second
    robot.check()
    events = [json.loads(line)["event"] for line in
              (robot.depot / "journal.jsonl").read_text().splitlines()]  # fmt: skip
    assert events.count("rolled back") == 2


def test_nothing_to_roll_back_to(robot):
    """Row 32: on a fresh device, and with one version alone."""
    for version in (None, robot.push("one")):
        if version:
            robot.activate(version)
        with pytest.raises(DeviceError) as caught:
            robot.roll_back()
        assert codes(caught.value) == ["E427"] and not caught.value.retryable
        assert robot.active() == version
        robot.check()


def test_a_roll_back_that_is_not_well_says_so_and_stands(robot):
    first, second = robot.push("one"), robot.push("two")
    robot.activate(first)
    robot.activate(second)
    robot.with_hooks(health="exit 1", timeout_s=2.0)
    answer = robot.roll_back()
    assert (robot.active(), answer.exit_code) == (first, ExitCode.REFUSED)
    assert "not well" in answer.text and answer.diagnostics[0].code == "E448"
