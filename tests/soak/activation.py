"""Killing and cutting a running activation over real SSH, and looking at what it left.

Run as a program it is the command that gets killed: it activates one version on one device.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgedeploy.deploy.activate import Wanted, activate_version
from edgedeploy.deploy.fleet import Answer, Link, run_on
from edgedeploy.devices.connect import connect
from edgedeploy.devices.inventory import Device, Hooks
from edgedeploy.devices.opening import open_depot
from tests.lab.proxy import Proxy
from tests.lab.sshd import Sshd
from tests.unit.deploy.robot import APP, Robot, Runs

ROOT = Path(__file__).parents[2]
END_S = 90.0
"""No activation takes longer, whatever is done to it: a lease, and waiting for a lost device."""


@dataclass(frozen=True, kw_only=True)
class Blow:
    """What was done to one activation, and how its command ended (None: killed)."""

    kind: str
    after_s: float
    status: int | None
    state: str


class World:
    """A device behind a real SSH server, two versions on it, and the command that switches.

    Args:
        base: Everything of it.
        device: How the device is reached.
        connections: Returns how many were made to it so far.
    """

    def __init__(self, base: Path, device: Device, connections: Callable[[], int]) -> None:
        self._connections = connections
        self.robot = Robot(base / "device")
        # Long enough to be hit in, short enough for many rounds.
        self.versions = [
            self.robot.push(name, health="sleep 0.2", restart="sleep 0.1") for name in ("a", "b")
        ]
        hooks = replace(self.robot.unit.hooks, timeout_s=10.0)
        self.device = replace(device, root=self.robot.unit.root, hooks=hooks)
        self._file = base / "device.json"
        self._scratch = base / "scratch"  # what a killed command leaves goes with the test
        self._scratch.mkdir()
        self._tell(self.device.port)
        self.robot.activate(self.versions[0])

    def _tell(self, port: int | None) -> None:
        device = self.device
        self._file.write_text(
            json.dumps(
                {
                    "name": device.name,
                    "host": device.host,
                    "port": port,
                    "user": device.user,
                    "ssh_config": str(device.ssh_config),
                    "root": device.root,
                    "restart": device.hooks.restart,
                    "health": device.hooks.health,
                    "timeout_s": device.hooks.timeout_s,
                }
            )
        )

    def goal(self) -> tuple[str, str]:
        """Return the version that is active and the other one."""
        old = self.robot.active()
        (new,) = set(self.versions) - {old}
        return str(old), new

    def start(self, version: str) -> subprocess.Popen[str]:
        """Start the command that activates a version."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.soak.activation", str(self._file), version],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self._scratch)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def undisturbed(self) -> float:
        """Activate the other version; return how long that takes from the connection on."""
        _, new = self.goal()
        process = self.connected(new)
        started = time.monotonic()
        process.communicate(timeout=END_S)
        assert process.returncode == 0 and self.robot.active() == new
        return time.monotonic() - started

    def connected(self, version: str) -> subprocess.Popen[str]:
        """Start the command and wait until it connects: nothing before that can go wrong."""
        before = self._connections()
        process = self.start(version)
        while self._connections() == before and process.poll() is None:
            time.sleep(0.01)
        return process

    def succeeds(self, version: str) -> None:
        """Run the command to its end; it must succeed with nothing cleaned by hand."""
        process = self.start(version)
        out, err = process.communicate(timeout=END_S)
        assert process.returncode == 0, out + err
        assert self.robot.active() == self.robot.running() == version

    def strike(
        self,
        kind: str,
        after_s: float,
        cut: Callable[[], None],
        mend: Callable[[], None] = lambda: None,
    ) -> Blow:
        """Disturb one activation some seconds after it connects and look at what is left.

        Args:
            kind: ``kill`` ends the command, anything else calls ``cut``.
            after_s: When.
            cut: What is done to the connection.
            mend: Takes the cause away before the same command must succeed.
        """
        old, new = self.goal()
        process = self.connected(new)
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            if kind == "kill":
                process.kill()
            else:
                cut()
        out, err = process.communicate(timeout=END_S)
        status = process.returncode
        state = json.loads(out)["state"] if out else ""
        if status >= 0:
            assert status in (0, 1, 4), out + err
            assert "Traceback" not in err
        found = self.robot.active()
        assert found in (old, new), found
        if status == 0:
            assert found == new
        self.robot.check()  # waits for the lock; a trial that nobody holds is reverted by then
        assert self.robot.active() in (old, new)
        assert status != 1 or self.robot.active() == old
        mend()
        self.succeeds(new)
        return Blow(kind=kind, after_s=after_s, status=None if status < 0 else status, state=state)


def behind(server: Sshd, proxy: Proxy) -> Device:
    """Return the device behind a proxy; its key is known by that name too."""
    server.know_at(proxy.port)
    return replace(server.device(), port=proxy.port)


def moments(seed: int, count: int, whole_s: float) -> list[float]:
    """Return random moments of a run that takes ``whole_s``, and a little behind its end."""
    generator = random.Random(seed)
    return [generator.uniform(0.0, 1.1 * whole_s) for _ in range(count)]


def main(file: str, version: str) -> int:
    """Activate a version on the device that a file tells; print the row as JSON."""
    words = json.loads(Path(file).read_text())
    hooks = Hooks(**{name: words.pop(name) for name in ("restart", "health", "timeout_s")})
    words["ssh_config"] = Path(words["ssh_config"])
    device = Device(kind="ssh", hooks=hooks, **words)

    def work(unit: Device, link: Link) -> Answer:
        # A lock that a killed run held is free when its connection's end has got there.
        wanted = Wanted(app=APP, version=version, wait_s=40.0)
        return activate_version(link, unit, wanted, opener=open_depot, runs=Runs())

    result = run_on([device], work, connect=connect)
    print(json.dumps(result.rows[0].to_json()))
    return int(result.exit_code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
