"""The folder of one run on a device: nothing of it outlives the link, whatever is cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote

import pytest

from edgedeploy.devices import workbench as module
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.workbench import Workbench, workbench
from edgedeploy.errors import DeviceError
from edgedeploy.remote import Pipe, Remote
from tests.unit.devices.shells import SHELLS, remote, tools_of
from tests.unit.devices.shells import ShellRemote as Device

SOON_S = 15.0


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Return the folder on the device in which runs get theirs."""
    return str(tmp_path / "on the device" / ".tensorrt")


def never(who: str, waited_s: float) -> None:
    raise AssertionError(f"nobody else is at work, and {who} is waited for")


def soon(true: Callable[[], bool]) -> None:
    """Wait until something holds; far longer than it takes."""
    end = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.02)


def runs(place: str) -> list[Path]:
    return list(Path(place).glob("run-*"))


def working_in(folder: str) -> list[int]:
    """Return the processes whose working folder is one of a device's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "cwd").readlink()).startswith(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def start_work(device: Remote, bench: Workbench) -> Pipe:
    """Start what does not end by itself, with a child of its own."""
    pipe = device.open(f"cd {quote(bench.path)} && echo ready && {{ sleep 300; }} & wait")
    assert pipe.read() == b"ready\n"
    return pipe


@pytest.mark.parametrize("shell", SHELLS)
def test_the_folder_is_there_for_the_block_alone(shell: str, place: str) -> None:
    """What works in it then is killed with its children; lock and owner's name stay, empty."""
    device = remote(shell)
    with workbench(device, place, never) as bench:
        assert Path(bench.path).is_dir() and Path(bench.path).stat().st_mode & 0o777 == 0o700
        assert bench.free_bytes > 0
        Path(bench.path, "half-written").write_bytes(b"x")
        start_work(device, bench)
        assert working_in(bench.path)
    assert not runs(place) and not working_in(f"{place}/run-")
    assert {file.name for file in Path(place).iterdir()} == {"lock", "owner"}
    assert not Path(place, "owner").read_bytes()


@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_killed_guard_left_goes_first(shell: str, place: str) -> None:
    """Not after a day: before the next run starts."""
    device = remote(shell)
    left = Path(place, "run-0123456789abcdef")
    left.mkdir(parents=True)
    worker = subprocess.Popen(["sleep", "300"], cwd=left)
    with workbench(device, place, never) as bench:
        assert runs(place) == [Path(bench.path)]
        assert worker.wait(SOON_S) == -signal.SIGKILL


def test_a_guard_that_is_killed_is_noticed_and_made_up_for(place: str) -> None:
    """The run learns of it at the next beat; the folder goes all the same."""
    device = remote(next(iter(SHELLS)))
    with workbench(device, place, never) as bench:
        start_work(device, bench)
        for guard in set(working_in(place)) - set(working_in(bench.path)):
            os.kill(guard, signal.SIGKILL)
    assert not runs(place) and not working_in(place)


def test_a_lost_guard_is_told(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    with workbench(LocalRemote("desk"), place, never) as bench:
        for guard in set(working_in(place)) - set(working_in(bench.path)):
            os.kill(guard, signal.SIGKILL)

        def told() -> bool:
            try:
                bench.check()
            except DeviceError as error:
                return error.diagnostics[0].code == "E484" and error.retryable
            return False

        soon(told)


def test_silence_ends_a_run(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is cut without a word: no beat comes, and the lease ends."""
    monkeypatch.setattr(module, "LEASE_S", 1)
    monkeypatch.setattr(module, "BEAT_S", 3600.0)
    device = LocalRemote("desk")
    with workbench(device, place, never) as bench:
        start_work(device, bench)
        soon(lambda: not runs(place) and not working_in(bench.path))


def test_beats_keep_a_run(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_S", 1)
    monkeypatch.setattr(module, "BEAT_S", 0.2)
    with workbench(LocalRemote("desk"), place, never) as bench:
        time.sleep(2.5)
        assert runs(place) == [Path(bench.path)]


HOLDING = """
import sys, time
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.workbench import workbench
device = LocalRemote("desk")
with workbench(device, sys.argv[1], print) as bench:
    pipe = device.open(f"cd '{bench.path}' && echo ready && sleep 300")
    print(pipe.read().decode(), end="", flush=True)
    time.sleep(300)
"""


def test_a_host_that_is_killed_takes_its_run_along(place: str) -> None:
    """Nobody is left here to say so: the end of the guard's input does."""
    host = subprocess.Popen([sys.executable, "-c", HOLDING, place], stdout=subprocess.PIPE)
    assert host.stdout is not None and host.stdout.readline() == b"ready\n"
    assert runs(place) and working_in(place)
    host.kill()
    host.wait()
    soon(lambda: not runs(place) and not working_in(place))


def test_the_second_waits_and_knows_for_whom(place: str) -> None:
    device, waited = LocalRemote("desk"), []
    entered, ready = threading.Event(), threading.Event()

    def busy(who: str, waited_s: float) -> None:
        waited.append(who)
        ready.set()

    def second() -> None:
        with workbench(device, place, busy):
            entered.set()

    with workbench(device, place, never):
        thread = threading.Thread(target=second)
        thread.start()
        assert ready.wait(SOON_S) and not entered.is_set()
    thread.join(SOON_S)
    assert entered.is_set() and f".pid{os.getpid()}" in waited[0]


def test_who_waits_may_give_up(place: str) -> None:
    class GivenUpError(Exception):
        pass

    def busy(who: str, waited_s: float) -> None:
        raise GivenUpError

    device = LocalRemote("desk")
    with workbench(device, place, never) as bench:
        with pytest.raises(GivenUpError), workbench(device, place, busy):
            pass
        assert runs(place) == [Path(bench.path)]


def test_a_failing_block_cleans_up(place: str) -> None:
    with pytest.raises(KeyError), workbench(LocalRemote("desk"), place, never):
        raise KeyError
    assert not runs(place)


@pytest.mark.parametrize("tool", ["flock", "timeout"])
def test_a_missing_tool_is_named(tool: str, place: str) -> None:
    shell = next(iter(SHELLS))
    with (
        pytest.raises(DeviceError) as error,
        workbench(Device(tools_of(shell, without=[tool])), place, never),
    ):
        pass
    assert error.value.diagnostics[0].code == "E480" and tool in str(error.value)


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(DeviceError) as error,
        workbench(LocalRemote("desk"), str(tmp_path / "file" / "x"), never),
    ):
        pass
    assert error.value.diagnostics[0].code == "E476"
    assert "Not a directory" in str(error.value) or "not a directory" in str(error.value)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Remote]]:
    """Return what makes a device whose guard answers something else."""

    class Liar(LocalRemote):
        def __init__(self, said: str) -> None:
            super().__init__("desk")
            self.said = said

        def open(self, command: str) -> Pipe:
            return super().open(f"printf %s {quote(self.said)}")  # type: ignore[return-value]

    yield Liar


@pytest.mark.parametrize(
    "said",
    ["", "at /etc\n", "at relative/run-x\n", "\n", "\x1b[2J\n", "! other\n", "at " + "/x" * 9000],
)
def test_an_answer_that_is_none_is_refused(
    said: str, answering: Callable[[str], Remote], place: str
) -> None:
    with pytest.raises(DeviceError) as error, workbench(answering(said), place, never):
        pass
    assert error.value.diagnostics[0].code in ("E484", "E476")
    assert "\x1b" not in str(error.value)
