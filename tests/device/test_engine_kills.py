"""Builds of engines over SSH that are cut and killed at every step: the device is clean afterwards.

And the same command again builds at once. The device is a stand-in: nothing real is built.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgedeploy.deploy.enginebuild import build_engine
from edgedeploy.deploy.engineways import order_for
from edgedeploy.devices.connect import connect
from edgedeploy.errors import EdgedeployError
from edgedeploy.events import EngineProgress, Event, EventLog
from edgedeploy.stage import Made
from tests.lab import capabilities
from tests.lab.sshd import Sshd, running
from tests.unit.deploy.engine_desk import Desk, outputs_in, program_in, provenance

pytestmark = pytest.mark.slow

SOON_S = 30.0
ROOT = Path(__file__).parents[2]
STEPS = (
    "uploading",
    "building",
    "building starting",
    "building parsing",
    "building timing",
    "building finishing",
    "pulling",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    capabilities.require("sshd")
    with running(tmp_path_factory.mktemp("server") / "sshd") as found:
        yield found


@pytest.fixture
def desk(server: Sshd, tmp_path: Path) -> Desk:
    """Return a device whose home is the server's."""
    found = Desk(tmp_path / "desk")
    found.home = server.home
    return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return program_in(tmp_path_factory.mktemp("program") / "compiled")


def build(
    desk: Desk, server: Sshd, program: Path, goal: Path, told: Callable[[Event], None] = print
) -> Made:
    """Build over a connection of its own."""
    remote = connect(server.device(desk.name))
    try:
        order, wanted = order_for(desk.survey, program), desk.wanted(program)
        wanted = replace(wanted, deadline_s=60)
        log = EventLog(told)
        return build_engine(remote, wanted, order, outputs_in(goal), log, threading.Event())
    finally:
        remote.close()


def working_in(folder: str) -> list[int]:
    """Return the processes whose working folder's path begins so."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((process / "cwd").readlink()).startswith(folder):
                found.append(int(process.name))
    return found


def builders(desk: Desk) -> list[int]:
    """Return what works in a run's folder."""
    return working_in(f"{desk.place}/run-")


def guards(desk: Desk) -> list[int]:
    """Return what watches over one."""
    at_work = builders(desk)
    return [process for process in working_in(str(desk.place)) if process not in at_work]


def kill(processes: list[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def clean(desk: Desk) -> bool:
    return not list(desk.place.glob("run-*")) and not working_in(str(desk.place))


def soon_clean(desk: Desk) -> None:
    end = time.monotonic() + SOON_S
    while not clean(desk):
        assert time.monotonic() < end, (
            f"{list(desk.place.rglob('*'))}, {working_in(str(desk.place))}"
        )
        time.sleep(0.02)


def at(step: str, do: Callable[[], None]) -> Callable[[Event], None]:
    """Return a listener that does something when a build comes to a step."""
    done = False

    def told(event: Event) -> None:
        nonlocal done
        if isinstance(event, EngineProgress) and not done:
            done = f"{event.doing} {event.detail}".strip() == step
            if done:
                do()

    return told


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("cut", ["link", "guard"])
def test_a_cut_leaves_nothing(
    cut: str, step: str, desk: Desk, server: Sshd, program: Path, tmp_path: Path
) -> None:
    """What was lost is told, or the build was through; the same build again works at once."""
    cuts = {"link": server.kill_sessions, "guard": lambda: kill(guards(desk))}
    try:
        build(desk, server, program, tmp_path / "1", at(step, cuts[cut]))
    except EdgedeployError as error:
        assert error.diagnostics[0].code in ("E403", "E484") and error.diagnostics[0].hint
        assert not list((tmp_path / "1" / "engine").glob("engine.json"))
    else:
        assert cut == "guard"  # which is noticed at a beat, and by who cleans up
    soon_clean(desk)
    made = build(desk, server, program, tmp_path / "2")
    said = provenance({"engine": tmp_path / "2" / "engine"})
    assert said["sha256"] == made.summary["sha256"] and clean(desk)
    assert desk.left == [desk.cache]


@pytest.mark.parametrize("step", STEPS[1:])
def test_a_builder_that_is_killed_is_told(
    step: str, desk: Desk, server: Sshd, program: Path, tmp_path: Path
) -> None:
    """By the kernel, say. One that was through has built."""

    try:
        build(desk, server, program, tmp_path / "1", at(step, lambda: kill(builders(desk))))
    except EdgedeployError as error:
        assert error.diagnostics[0].code in ("E484", "E339")
    assert clean(desk)


HOST = """
import os, pickle, signal, sys, threading
from pathlib import Path
from edgedeploy.deploy.enginebuild import build_engine
from edgedeploy.deploy.engineways import order_for
from edgedeploy.devices.connect import connect
from edgedeploy.events import EventLog
from tests.device.test_engine_kills import at
device, survey, wanted, step, outputs = pickle.load(sys.stdin.buffer)
log = EventLog(at(step, lambda: os.kill(os.getpid(), signal.SIGKILL)))
order = order_for(survey, wanted.program)
build_engine(connect(device), wanted, order, outputs, log, threading.Event())
"""


@pytest.mark.parametrize("step", ["uploading", "building timing", "pulling"])
def test_a_host_that_is_killed_leaves_nothing(
    step: str, desk: Desk, server: Sshd, program: Path, tmp_path: Path
) -> None:
    """As by a power cut, or by who has no patience."""
    wanted, outputs = desk.wanted(program), outputs_in(tmp_path / "1")
    given = pickle.dumps((server.device(desk.name), desk.survey, wanted, step, outputs))
    host = subprocess.run(
        [sys.executable, "-c", HOST],
        input=given,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert host.returncode == -signal.SIGKILL
    soon_clean(desk)
    build(desk, server, program, tmp_path / "2")
