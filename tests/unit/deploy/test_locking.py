"""The lock of a run that was cut off is waited for; that of anybody else is not."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgedeploy.deploy.locking import take_lock
from edgedeploy.devices.depot import Depot
from edgedeploy.devices.holder import holder
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.opening import open_depot
from edgedeploy.devices.shell_depot import ShellDepot
from edgedeploy.errors import DeviceError

# Holds the lock as the program of a lost connection does until its lease ends.
HOLD = """
import fcntl, sys, time
file = open(sys.argv[1] + "/lock", "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def gone() -> str:
    """Return the number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return str(process.pid)


@pytest.fixture(params=["python", "sh"])
def depot(request: pytest.FixtureRequest, tmp_path: Path) -> Depot:
    folder = str(tmp_path / "depot")
    opened = (
        open_depot(LocalRemote(), folder)
        if request.param == "python"
        else ShellDepot(LocalRemote(), folder)
    )
    opened.hello()
    request.addfinalizer(opened.close)
    return opened


def held(folder: Path, who: str, seconds: float) -> subprocess.Popen[str]:
    """Hold the depot's lock in another process, under a name."""
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    owner = {"pid": 1, "since": int(time.time()), "token": "0" * 32, "who": who}
    (folder / "lock.owner").write_text(json.dumps(owner) + "\n")
    return process


def test_what_a_dead_run_of_ours_holds_is_waited_for(depot: Depot, tmp_path: Path) -> None:
    who, told = holder().replace(f".pid{os.getpid()}", f".pid{gone()}"), []
    process = held(tmp_path / "depot", who, 1.5)
    take_lock(depot, 0, told.append)
    assert process.poll() is not None or process.wait(5) == 0
    assert told == ["waiting until the device lets go of an earlier run that was cut off"]
    depot.unlock()


@pytest.mark.parametrize("who", ["ours", "somebody@else.pid{gone}", "nonsense", "x" * 5000])
def test_what_another_holds_is_not(depot: Depot, tmp_path: Path, who: str) -> None:
    named, told = holder() if who == "ours" else who.format(gone=gone()), []
    process = held(tmp_path / "depot", named, 60)
    try:
        with pytest.raises(DeviceError, match=r"is (locked|held)|locked") as caught:
            take_lock(depot, 0, told.append)
        assert caught.value.diagnostics[0].code == "E421" and told == []
    finally:
        process.kill()
        process.wait()


def test_the_name_is_plain() -> None:
    assert shlex.quote(holder()) == holder()
