"""Killing pushes at random moments, and looking at what that leaves on the device."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from edgedeploy.devices.connect import connect
from edgedeploy.devices.opening import open_depot
from tests.device import pusher
from tests.lab.sshd import Sshd

TENSORS, TENSOR_BYTES = 40, 256 << 10
CHANGED = 8


class Target:
    """A server on which one version is active, and pushes of others die."""

    def __init__(self, server: Sshd, folder: Path, seed: int) -> None:
        self._server = server
        self._folder = folder
        self._random = random.Random(seed)
        self._tensors = [self._random.randbytes(TENSOR_BYTES) for _ in range(TENSORS)]
        self._count = 0
        self._whole_s: float | None = None  # the last push that ended; other work comes and goes
        self.depot = server.home / ".edgedeploy" / "app"
        self.active = self._push(self.next_version())
        self._activate()

    def next_version(self) -> Path:
        """Write another version, some of whose tensors are new; return its folder."""
        for at in self._random.sample(range(TENSORS), CHANGED):
            self._tensors[at] = self._random.randbytes(TENSOR_BYTES)
        self._count += 1
        folder = self._folder / f"v{self._count}"
        (folder / "files" / "main").mkdir(parents=True)
        (folder / "files" / "main" / "model").write_bytes(b"".join(self._tensors))
        (folder / "files" / "labels").write_text(f"label {self._count}\n")
        cuts = {"main/model": [(at * TENSOR_BYTES, TENSOR_BYTES) for at in range(TENSORS)]}
        (folder / "cuts.json").write_text(json.dumps(cuts))
        return folder

    def _push(self, folder: Path) -> str:
        return pusher.push(self._server.port, self._server.client, folder)

    def _activate(self) -> None:
        remote = connect(self._server.device())
        depot = open_depot(remote, "~/.edgedeploy/app")
        depot.hello()
        depot.lock()
        depot.activate(self.active, 60.0)
        depot.confirm()
        depot.close()
        remote.close()

    def command(self, folder: Path) -> "subprocess.Popen[bytes]":
        """Start a push in a process of its own."""
        arguments = [str(self._server.port), str(self._server.client), str(folder)]
        root = Path(__file__).parents[2]
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("pusher.py")), *arguments],
            env={**os.environ, "PYTHONPATH": str(root)},
            stdout=subprocess.DEVNULL,
        )

    def kill_one(self) -> bool:
        """Kill a push after a random time, look at the device, push again; whether it was cut."""
        if self._whole_s is None:
            self._push_again(self.next_version())
        folder = self.next_version()
        process = self.command(folder)
        try:
            process.wait(self._random.uniform(0.0, 1.1 * self._whole_s))
            cut = False
        except subprocess.TimeoutExpired:
            cut = True
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
        self.check()
        name = self._push_again(folder)
        self.check()
        assert (self.depot / "versions" / name / "manifest.json").is_file()
        return cut

    def _push_again(self, folder: Path) -> str:
        """Run the same push to its end; the lock of the killed one goes with its session."""
        deadline = time.monotonic() + 30.0
        while True:
            started = time.monotonic()
            if self.command(folder).wait(120) == 0:
                self._whole_s = time.monotonic() - started
                return pusher.contents_of(folder).version.name
            assert time.monotonic() < deadline, "the same command does not succeed"

    def check(self) -> None:
        """The active version is what it was, and everything that has a name is whole."""
        link = (self.depot / "current").readlink()
        assert link.name == self.active
        for path in self.depot.glob("objects/*/*"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        for version in (self.depot / "versions").iterdir():
            manifest = (version / "manifest.json").read_bytes()
            assert hashlib.sha256(manifest).hexdigest() == version.name
            for file in json.loads(manifest)["files"]:
                content = (version / file["path"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == file["sha256"]
