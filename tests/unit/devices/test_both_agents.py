"""A device whose Python comes or goes: both agents work on one depot."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedeploy.devices.depot import FRAME_BYTES
from tests.unit.devices.depots import KINDS, Box, content, frames, push, refused, sha
from tests.unit.devices.shells import SHELL, open_with
from tests.unit.devices.trials import FILES, OTHER, pid, trial, until


@pytest.fixture(params=["python first", "shell first"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Box, Box]]:
    """Two boxes of one folder: a device that loses or gets its Python."""
    python, shell = (
        Box(tmp_path / "d", opener)
        for opener in (KINDS["agent"], lambda folder: open_with(SHELL, folder))
    )
    yield (python, shell) if request.param == "python first" else (shell, python)
    python.close()
    shell.close()


def test_a_depot_goes_on_with_the_other_agent(pair: tuple[Box, Box]) -> None:
    first, second = pair
    data = content(8, FRAME_BYTES + 1000)
    with first.locked() as depot:
        one, two = push(depot, FILES), push(depot, OTHER)
        depot.activate(one, 60)
        depot.confirm()
        depot.receive(sha(data), 0, frames(data)[:1])
    with second.locked() as depot:
        state = depot.hello()
        assert (state.versions, state.current) == ((one, two), one)
        assert sha(depot.manifest(two)) == two
        assert depot.incoming(sha(data)).frames == (sha(frames(data)[0]),)
        depot.receive(sha(data), FRAME_BYTES, frames(data)[1:])
        three = push(depot, {"f": data, "labels.txt": FILES["labels.txt"]})
        depot.activate(two, 60)
        depot.confirm()
        assert depot.fsck(repair=False) == ()
    with first.locked() as depot:
        assert depot.hello().versions == (one, two, three)
        assert depot.rollback() == one
        assert depot.fsck(repair=True) == ()
        depot.collect(0)
        assert depot.hello().versions == (one, two)
        events = [json.loads(line)["event"] for line in depot.journal(100)]
        assert events[-3:] == ["confirm", "rollback", "remove"]
    second.check()


def test_each_agent_sees_the_lock_and_the_trial_of_the_other(pair: tuple[Box, Box]) -> None:
    first, second = pair
    depot, one, two = trial(first)
    other = second.open()
    state = other.hello()
    assert (state.current, state.pending, state.reverted) == (two, two, None)
    with refused("E421") as caught:
        other.lock()
    assert "@" in str(caught.value) and "UTC" in str(caught.value)
    os.kill(pid(first), signal.SIGKILL)
    until(lambda: other.hello().pending is None)
    assert first.current() == one
    other.lock(wait_s=10)
    with refused("E422") if hasattr(depot, "_agent") else refused("E420"):
        depot.confirm()
    first.check()
