"""Fleets: rows for all, canaries, batches, the stop rule, interruptions; with real tarpits."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.deploy.fleet import (
    Answer,
    DaemonThreads,
    Interrupted,
    Link,
    Rollout,
    run_on,
)
from edgedeploy.devices.local import LocalRemote
from edgedeploy.errors import DeviceError, Diagnostic, ExitCode, IntegrityError, RefusedError

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Unit:
    name: str
    fate: str = "good"


def dead() -> DeviceError:
    error = DeviceError("no route", code="E401")
    error.retryable = True
    return error


def connect(unit: Unit) -> LocalRemote:
    if unit.fate == "dead":
        raise dead()
    return LocalRemote(unit.name)


def work(unit: Unit, link: Link) -> Answer:
    assert link.remote.name == unit.name
    if unit.fate == "rolls back":
        raise RefusedError("it was rolled back", code="E002")
    if unit.fate == "refuses":
        raise RefusedError("it answers wrong", code="E003")
    if unit.fate == "damaged":
        raise IntegrityError("damaged", code="E720")
    if unit.fate == "bug":
        raise ZeroDivisionError("ours")
    return Answer(text="well", already=unit.fate == "already", details={"a": 1})


STATES = {
    "good": ("done", 0),
    "already": ("done", 0),
    "dead": ("unreachable", 4),
    "rolls back": ("rolled back", 1),
    "refuses": ("failed", 1),
    "damaged": ("failed", 7),
    "bug": ("failed", 70),
}
GRAVEST = (70, 7, 4, 1, 0)


@given(fates=st.lists(st.sampled_from(sorted(STATES)), max_size=8), jobs=st.integers(1, 4))
def test_every_device_is_a_row_in_order(fates, jobs):
    units = [Unit(f"d{at}", fate) for at, fate in enumerate(fates)]
    result = run_on(units, work, connect=connect, jobs=jobs)
    assert [row.device for row in result.rows] == [unit.name for unit in units]
    assert [(row.state, int(row.exit_code)) for row in result.rows] == [
        STATES[fate] for fate in fates
    ]
    codes = {STATES[fate][1] for fate in fates} | {0}
    assert result.exit_code == next(code for code in GRAVEST if code in codes)
    data = result.to_json()
    assert sum(data["counts"].values()) - data["counts"]["already"] == len(units)
    assert data["counts"]["already"] == fates.count("already")
    bad = [fate for fate in fates if STATES[fate][1]]
    assert data["retryable"] == (bool(bad) and set(bad) == {"dead"})


@given(
    fates=st.lists(st.sampled_from(["good", "dead", "refuses"]), max_size=10),
    canary=st.integers(0, 3),
)
def test_canaries_go_first_and_must_succeed(fates, canary):
    """Played through by hand: unreachable ones are replaced, a failure stops everything."""
    order: list[str] = []

    def noted(unit: Unit, link: Link) -> Answer:
        order.append(unit.name)
        return work(unit, link)

    units = [Unit(f"d{at}", fate) for at, fate in enumerate(fates)]
    result = run_on(units, noted, connect=connect, jobs=1, rollout=Rollout(canary=canary))
    good, expected, left = 0, [], list(fates)
    while left and good < canary:
        group, left = left[: canary - good], left[canary - good :]
        expected += [STATES[fate][0] for fate in group]
        good += group.count("good")
        if "refuses" in group:
            expected += ["skipped"] * len(left)
            left = []
    expected += [STATES[fate][0] for fate in left]
    assert [row.state for row in result.rows] == expected
    skipped = [row for row in result.rows if row.state == "skipped"]
    assert all(row.diagnostics[0].code == "E447" and row.retryable for row in skipped)
    # In a group all run at once, so what ran is known, not its order within the group.
    tried = ["done", "failed"]
    assert set(order) == {row.device for row in result.rows if row.state in tried}


def test_batches_stop_at_a_failure_rate_of_those_that_answered():
    fates = ["good"] * 4 + ["dead", "dead", "good", "refuses"] + ["good"] * 4
    units = [Unit(f"d{at}", fate) for at, fate in enumerate(fates)]
    at_half = run_on(units, work, connect=connect, rollout=Rollout(batch=4, stop_ratio=0.5))
    assert [row.state for row in at_half.rows][8:] == ["done"] * 4
    below = run_on(units, work, connect=connect, rollout=Rollout(batch=4, stop_ratio=0.49))
    assert [row.state for row in below.rows][8:] == ["skipped"] * 4
    assert "1 of 2 devices" in below.rows[8].text
    assert below.exit_code == ExitCode.DEVICE  # of the dead ones; the skipped have none


@pytest.mark.parametrize(("devices", "canaries"), [(1, 0), (3, 0), (4, 1), (50, 1)])
def test_defaults_where_the_active_version_changes(devices, canaries):
    assert Rollout.careful(devices) == Rollout(canary=canaries, batch=10, stop_ratio=0.2)
    assert Rollout.careful(devices, 0, 3, 1.0) == Rollout(canary=0, batch=3, stop_ratio=1.0)


def test_a_device_fakes_no_row():
    """Rows are lines; what a device says stands in one of them."""

    def work(unit: Unit, link: Link) -> Answer:
        raise DeviceError("it said: no\nother  done    1.0 s  active", code="E460")

    told = []
    run = {"connect": connect, "told": told.append}
    (row,) = run_on([Unit("liar", "well")], work, **run).rows
    assert "\n" not in row.text + "".join(told) and "no other done" in row.text


def test_an_answer_that_is_no():
    def says_no(unit: Unit, link: Link) -> Answer:
        note = Diagnostic(code="E449", message="damage")
        return Answer(text="damage", exit_code=ExitCode.INTEGRITY, diagnostics=(note,))

    result = run_on([Unit("a")], says_no, connect=connect)
    assert (result.rows[0].state, result.exit_code) == ("failed", ExitCode.INTEGRITY)


def test_it_runs_on_any_executor():
    threads = set()

    def noted(unit: Unit, link: Link) -> Answer:
        threads.add(threading.current_thread().name)
        return work(unit, link)

    with ThreadPoolExecutor(2, "own") as pool:
        units = [Unit(f"d{at}") for at in range(5)]
        result = run_on(units, noted, connect=connect, executor=pool)
    assert result.exit_code == 0 and all(name.startswith("own") for name in threads)


def test_no_more_at_once_than_asked_for():
    at_once = most = 0
    mutex = threading.Lock()

    def call() -> None:
        nonlocal at_once, most
        with mutex:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with mutex:
            at_once -= 1

    pool = DaemonThreads(3)
    for future in [pool.submit(call) for _ in range(12)]:
        future.result(30)
    assert most == 3


@pytest.fixture
def tarpit():
    """A server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()


def swallowed(address: tuple[str, int], wait_s: float) -> None:
    """Wait for a greeting as a connection does, then give up as one must."""
    with socket.create_connection(address, timeout=wait_s) as client:
        try:
            client.recv(1)
        except TimeoutError:
            raise dead() from None


def test_a_tarpit_and_the_dead_do_not_hold_up_the_others(tarpit):
    """Row 58: 50 devices, 10 % dead, one tarpit: the rest is done meanwhile."""
    wait_s = 4.0
    fates = {3: "tarpit", **dict.fromkeys((7, 17, 27, 37, 47), "dead")}
    units = [Unit(f"d{at}", fates.get(at, "good")) for at in range(50)]
    ended: dict[str, float] = {}
    started = time.monotonic()

    def reach(unit: Unit) -> LocalRemote:
        if unit.fate == "tarpit":
            swallowed(tarpit, wait_s)
        return connect(unit)

    def noted(unit: Unit, link: Link) -> Answer:
        assert link.remote.run("echo well").stdout == b"well\n"
        ended[unit.name] = time.monotonic() - started
        return Answer(text="well")

    result = run_on(units, noted, connect=reach, jobs=8)
    took = time.monotonic() - started
    assert result.counts["done"] == 44 and result.counts["unreachable"] == 6
    assert result.exit_code == ExitCode.DEVICE
    # Slowest live device + the tarpit's own limit, with three times the slack.
    assert took < 3 * (max(ended.values()) + wait_s)
    assert result.rows[3].seconds >= wait_s * 0.9


def test_the_second_run_does_only_what_is_missing(tmp_path):
    def once(unit: Unit, link: Link) -> Answer:
        place = tmp_path / unit.name
        already = place.exists()
        place.touch()
        return Answer(text="well", already=already)

    units = [Unit("a"), Unit("b", "dead"), Unit("c")]
    first = run_on(units, once, connect=connect)
    assert [row.already for row in first.rows] == [False, False, False]
    mended = [Unit("a"), Unit("b"), Unit("c")]
    second = run_on(mended, once, connect=connect)
    assert [row.already for row in second.rows] == [True, False, True]
    assert second.exit_code == 0


_INTERRUPTED = """
import sys, time
from pathlib import Path
from edgedeploy.deploy.fleet import Answer, Interrupted, run_on
from edgedeploy.devices.local import LocalRemote
from tests.unit.deploy.test_deploy_fleet import Unit, swallowed

folder, host, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def connect(unit):
    if unit.fate == "tarpit":
        swallowed((host, port), 60)
    return LocalRemote(unit.name)

def work(unit, link):
    if unit.fate == "in a trial":
        with link.settling():
            (folder / unit.name).touch()
            try:
                link.wait(60)
            except Interrupted:
                link.remote.run(f"touch {folder}/reverted")
                raise
    link.remote.run("sleep 60")
    return Answer(text="never")

units = [Unit("a", "in a trial"), Unit("b", "tarpit"), Unit("c", "good")]
try:
    run_on(units, work, connect=connect)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interruption_ends_all_within_three_seconds(tmp_path, tarpit):
    """A device in a trial is put right; a tarpit and a command that hangs are left."""
    process = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED, tmp_path, tarpit[0], str(tarpit[1])],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "a").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert process.wait(30) == 130
    assert time.monotonic() - started < 3 * 3  # a hang bound, with slack for a busy machine
    assert (tmp_path / "reverted").exists()


def test_what_waits_learns_of_an_interruption():
    link = Link("a", LocalRemote)
    link.interrupt()
    assert link.interrupted
    with pytest.raises(Interrupted):
        link.wait(60)
    with pytest.raises(Interrupted), link.settling():
        raise AssertionError("never reached")


def test_a_connection_that_comes_too_late_is_closed():
    closed = threading.Event()

    class Late(LocalRemote):
        def close(self) -> None:
            closed.set()

    link = Link("a", lambda: (link.close(), Late())[1])
    with pytest.raises(Interrupted):
        _ = link.remote
    assert closed.is_set()
