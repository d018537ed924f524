"""The device agent itself: starting it, leases, signals, deaths, failing disks, wrong clocks."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedeploy.devices import agent_depot, opening
from edgedeploy.devices.agent_depot import IN_FLIGHT, AgentDepot
from edgedeploy.devices.depot import FRAME_BYTES
from edgedeploy.devices.local import LocalPipe, LocalRemote
from edgedeploy.devices.opening import open_depot
from edgedeploy.errors import DeviceError, EdgedeployError
from tests.unit.devices.depots import Box, content, frames, push, refused, sha
from tests.unit.devices.odd import LEASE, lease, odd_box, odd_python, orders
from tests.unit.devices.trials import FILES, OTHER, pid, trial, until


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = odd_box(tmp_path)
    yield made
    made.close()


class Through(LocalRemote):
    """This machine behind a login shell that does something first."""

    def __init__(self, before: str) -> None:
        super().__init__()
        self._before = before

    def open(self, command: str) -> LocalPipe:
        return super().open(f"{self._before}\n{command}")


class Counted(LocalRemote):
    """This machine, with what goes over the line counted."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.turns = 0

    def open(self, command: str) -> LocalPipe:
        pipe = super().open(command)
        self.bytes += len(command)
        writing = False
        real_write, real_read = pipe.write, pipe.read

        def write(data: bytes | memoryview) -> None:
            nonlocal writing
            self.turns += not writing
            writing = True
            self.bytes += len(data)
            real_write(data)

        def read(*arguments: object, **named: object) -> bytes:
            nonlocal writing
            writing = False
            data = real_read(*arguments, **named)  # type: ignore[arg-type]
            self.bytes += len(data)
            return data

        pipe.write, pipe.read = write, read  # type: ignore[method-assign]
        return pipe


def test_a_push_with_nothing_to_do_costs_little(tmp_path: Path, box: Box) -> None:
    with box.locked() as depot:
        version = push(depot, FILES)
    remote = Counted()
    depot = open_depot(remote, str(box.folder), python=sys.executable)
    assert depot.hello().versions == (version,)
    depot.close()
    assert remote.turns == 1  # and two to open the channel and to start the command
    assert remote.bytes < 32 << 10


@pytest.mark.parametrize(
    "noise",
    [
        "echo 'Welcome to the board'",
        "printf 'no line end'",
        "printf '\\033[31mred\\n\\377\\000\\n'",
        "echo edgedeploy-agent 1 0123456789abcdef",
        "seq 500",
    ],
)
def test_what_the_login_shell_prints_is_passed_over(tmp_path: Path, noise: str) -> None:
    depot = open_depot(Through(noise), str(tmp_path / "d"), python=sys.executable)
    assert depot.hello().versions == ()
    depot.close()


@pytest.mark.parametrize("noise", ["yes", "cat /dev/zero"])
def test_a_shell_that_prints_without_end(tmp_path: Path, noise: str) -> None:
    with refused("E420" if noise == "yes" else "E405"):
        open_depot(Through(noise), str(tmp_path / "d"), python=sys.executable)


def test_a_named_python_must_run(tmp_path: Path) -> None:
    for name in ("/nowhere/python3", "/bin/false", "/bin/true"):
        with refused("E428"):
            open_depot(LocalRemote(), str(tmp_path / "d"), python=name)
    with (
        orders(replace={"sys.version_info < (3, 6)": "sys.version_info < (9, 6)"}),
        refused("E428") as caught,
    ):
        open_depot(LocalRemote(), str(tmp_path / "d"), python=odd_python(tmp_path))
    assert "3.6" in str(caught.value)


def test_a_device_without_python_is_served_by_its_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = object()
    monkeypatch.setattr(opening, "_shell_depot", lambda *_: shell)
    for names in (("no-python",), ("false",), ("no-python", odd_python(tmp_path))):
        monkeypatch.setattr(opening, "CANDIDATES", names)
        with orders(replace={"sys.version_info < (3, 6)": "sys.version_info < (9, 6)"}):
            assert open_depot(LocalRemote(), str(tmp_path / "d")) is shell
    assert not (tmp_path / "d").exists()
    monkeypatch.setattr(opening, "CANDIDATES", ("no-python", sys.executable))
    depot = open_depot(LocalRemote(), str(tmp_path / "d"))
    assert depot.hello().agent == "python"
    depot.close()


def test_a_program_that_arrives_damaged_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = bytearray(opening.payload())
    command = opening.command(bytes(program), "0123456789abcdef", sys.executable)
    program[100] ^= 1
    run = LocalRemote().run(command, stdin=bytes(program))
    assert (run.status, run.stdout) == (1, b"")
    assert b"damaged" in run.stderr


def test_a_silent_host_loses_lock_and_trial(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_depot, "BEAT_S", 1000)
    with orders(replace=lease(1.0)):
        depot, one, _ = trial(box)
    until(lambda: box.current() == one)
    box.open().lock(wait_s=5)
    with refused("E422") as caught:
        depot.confirm()
    assert isinstance(caught.value, DeviceError) and caught.value.retryable
    box.check()


def test_heartbeats_keep_the_lock(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_depot, "BEAT_S", 0.2)
    with orders(replace=lease(2.0)):  # ten beats: a busy machine is late with some
        depot, _, two = trial(box)
    time.sleep(3)
    depot.confirm()
    assert box.current() == two


def test_heartbeats_are_heard_during_long_work(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_depot, "BEAT_S", 0.1)
    slow = {"at": 1, "only": ["fsync"], "onwards": True, "sleep_s": 0.25}
    with orders(replace=lease(1.5, alive_s=0.1), **slow):
        depot = box.open()
        depot.lock()
        start = time.monotonic()
        version = push(depot, {str(number): content(number, 10) for number in range(3)})
        assert time.monotonic() - start > 2
    assert depot.hello().versions == (version,)


@pytest.mark.parametrize("beat_s", [5.0, 0.1])
def test_work_without_progress_is_given_up(
    box: Box, monkeypatch: pytest.MonkeyPatch, beat_s: float
) -> None:
    """However often the agent hears from us: a heartbeat that comes in is no progress."""
    monkeypatch.setattr(agent_depot, "STUCK_S", 0.5)
    monkeypatch.setattr(agent_depot, "BEAT_S", beat_s)
    depot = box.open()
    depot.close()
    stuck = orders(replace=lease(30, alive_s=0.1), at=1, only=["fsync"], sleep_s=5)
    with stuck, refused("E404") as caught:
        box.open()
    assert isinstance(caught.value, DeviceError) and caught.value.retryable


def test_waiting_for_the_lock_is_no_standstill(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_depot, "STUCK_S", 0.5)
    holder = box.open()
    holder.lock()
    with orders(replace=lease(30, alive_s=0.1)):
        other = box.open()
        with refused("E421"):
            other.lock(wait_s=1.5)


def test_an_agent_that_cannot_read_any_more_frees_the_lock(box: Box) -> None:
    """Its listening thread must not die alone: nobody would notice the end of the connection."""
    depot, one, _ = trial(box)
    assert isinstance(depot, AgentDepot)
    nested = b'{"op":' + b"[" * 100_000
    depot._pipe.write(struct.pack(">II", len(nested), 0) + nested)
    until(lambda: box.current() == one)
    box.open().lock(wait_s=5)


def test_an_agent_that_fails_reverts_its_trial(box: Box) -> None:
    broken = {LEASE: f"module.Agent._do_note = lambda *_: 1 / 0; {LEASE}"}
    with orders(replace=broken):
        depot, one, _ = trial(box)
    with refused("E420"):
        depot.note("x", "y")
    assert box.current() == one


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_signals_end_a_trial_properly(box: Box, name: str) -> None:
    depot, one, _ = trial(box)
    os.kill(pid(box), getattr(signal, name))
    until(lambda: box.current() == one)
    box.open().lock(wait_s=5)
    with refused("E420"):
        depot.confirm()
    state = box.open().hello()
    assert (state.current, state.pending) == (one, None)


def test_an_agent_that_dies_leaves_what_the_next_contact_settles(box: Box) -> None:
    depot, one, two = trial(box)
    os.kill(pid(box), signal.SIGKILL)
    with refused("E420") as caught:
        depot.confirm()
    assert isinstance(caught.value, DeviceError) and caught.value.retryable
    assert box.current() == two
    state = box.open().hello()
    assert (state.current, state.pending, state.reverted) == (one, None, two)
    box.check()


HOST = """\
import sys, time
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.opening import open_depot
depot = open_depot(LocalRemote(), sys.argv[1], python=sys.executable)
depot.lock()
depot.activate(sys.argv[2], 600)
print("active", flush=True)
time.sleep(600)
"""


def test_a_host_that_dies_frees_the_lock_and_ends_its_trial(box: Box) -> None:
    with box.locked() as depot:
        one, two = push(depot, FILES), push(depot, OTHER)
        depot.activate(one, 60)
        depot.confirm()
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(box.folder), two],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert host.stdout is not None and host.stdout.readline() == b"active\n"
    assert box.current() == two
    host.kill()
    host.wait()
    host.stdout.close()
    until(lambda: box.current() == one)
    box.open().lock(wait_s=5)
    box.check()


def test_a_transfer_goes_on_where_a_dead_agent_left_it(box: Box) -> None:
    data = content(3, (IN_FLIGHT + 3) * FRAME_BYTES)
    with box.locked() as depot:

        def broken() -> Iterator[bytes]:
            yield from frames(data)[: IN_FLIGHT + 2]  # the second is acknowledged by now
            os.kill(pid(box), signal.SIGKILL)
            yield from frames(data)[IN_FLIGHT + 2 :]

        with refused("E420"):
            depot.receive(sha(data), 0, broken())
    with box.locked() as depot:
        held = depot.incoming(sha(data))
        assert held.length >= 2 * FRAME_BYTES
        good = held.length // FRAME_BYTES * FRAME_BYTES
        assert held.frames[0] == sha(frames(data)[0])
        depot.receive(sha(data), good, frames(data)[good // FRAME_BYTES :], total=len(data))
        assert depot.incoming(sha(data)).frames == tuple(map(sha, frames(data)))


def work(box: Box) -> None:
    """Push and activate two versions, and go back."""
    with box.locked() as depot:
        for files in (FILES, OTHER):
            version = push(depot, files)
            if depot.hello().current != version:
                depot.activate(version, 60)
                depot.confirm()


@pytest.mark.parametrize("only", [["fsync"], ["rename"], ["write", "pwrite"], ["link", "symlink"]])
def test_each_call_that_fails_is_told_and_nothing_of_it_is_used(
    box: Box, tmp_path: Path, only: list[str]
) -> None:
    """A sample of all calls; a failing sync is not written, and not tried again as if it was."""
    with orders(only=only, count=str(tmp_path / "count")):
        work(box)
        box.close()
    total = len(json.loads((tmp_path / "count").read_text()))
    assert total >= 6
    failed = 0
    for number in sorted(random.Random(1).sample(range(1, total + 1), min(total, 10))):
        box.folder = tmp_path / f"depot-{number}"
        with orders(at=number, only=only, errno=errno.EIO):
            try:
                work(box)  # the journal alone may fail
            except EdgedeployError as error:
                assert error.diagnostics[0].code == "E424", error
                assert "EIO" in str(error)
                failed += 1
            box.close()
        if (box.folder / "format").exists():
            box.check()
        work(box)
        with box.locked() as depot:
            assert depot.fsck(repair=False) == ()
            assert len(depot.hello().versions) == 2
    assert failed >= 4


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.EROFS, "E424"), (errno.EDQUOT, "E424"), (errno.ENOSPC, "E423"), (errno.EIO, "E424")],
)
def test_what_the_file_system_says_is_told(box: Box, number: int, code: str) -> None:
    data = content(4, 1000)
    with box.locked() as depot:
        push(depot, FILES)
    with orders(at=3, only=["write"], errno=number, onwards=True), box.locked() as depot:
        with refused(code) as caught:
            depot.receive(sha(data), 0, [data])
            push(depot, OTHER)
        assert errno.errorcode[number] in str(caught.value) or "free" in str(caught.value)
    work(box)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links(box: Box, number: int) -> None:
    no_links = orders(at=1, only=["link"], onwards=True, errno=number)
    with no_links, box.locked() as depot, refused("E424") as caught:
        push(depot, FILES)
    assert "hard links" in str(caught.value)


@pytest.mark.parametrize("years", [-56, 10])
def test_a_wrong_clock_changes_nothing(box: Box, years: int) -> None:
    off_s = -time.time() if years < 0 else years * 365.25 * 86400
    with orders(clock_s=off_s), box.locked() as depot:
        names = [push(depot, {"f": content(seed, 10)}) for seed in range(3)]
        depot.activate(names[0], 60)
        depot.confirm()
        depot.activate(names[1], 0.3)
        time.sleep(0.4)
        with refused("E426"):
            depot.confirm()
        assert "UTC" in lock_error(box)
    with box.locked() as depot:
        names.append(push(depot, {"f": content(4, 10)}))
        assert depot.hello().versions == tuple(names)
        depot.collect(1)
        assert depot.hello().versions == (names[0], names[3])


def lock_error(box: Box) -> str:
    with refused("E421") as caught:
        box.open().lock()
    return str(caught.value)


def test_a_stream_of_which_an_object_was_being_made_goes_on(box: Box) -> None:
    """An agent that died had made it read-only: not only root can go on with it."""
    data = content(8, 300)
    part = box.folder / "incoming" / f"{sha(data)}.part"
    with box.locked() as depot:
        depot.receive(sha(data), 0, [data], total=len(data))
        part.chmod(0o444)
        depot.receive(sha(data), 0, [data], total=len(data))
        assert part.stat().st_mode & 0o777 == 0o600 and part.read_bytes() == data
