"""Builds of engines on a device, killed at random moments, and what that leaves behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

from edgedeploy.deploy.enginebuild import CACHE, PLACE
from edgedeploy.devices.workbench import LEASE_S
from edgedeploy.errors import ExitCode
from edgedeploy.store import Store
from edgedeploy.store_care import verify
from tests.lab.device import LabDevice, write_inventory
from tests.lab.tensorrt.machines import Machine, change
from tests.unit.deploy.engine_desk import write_model

Kind = Literal["build", "trtexec", "session", "link", "silence"]

KINDS: tuple[Kind, ...] = ("build", "trtexec", "session", "link")
"""What dies: the build here; trtexec there; the server's processes for us; the link, and then the
build, as when a laptop is closed. ``silence`` is a link that says nothing any more, to its end."""

BUILD_S = 0.4
"""What the stand-in takes for an engine."""

CLEAN_S = 20.0
"""The longest that a device may take to be clean; a silent link's lease comes first."""

PROFILE = """\
edgedeploy: 1
name: small
model: {{source: small.onnx}}
quantize: none
targets: [{board}/tensorrt]
"""


class Target:
    """A project with one device, on which builds die.

    Args:
        device: Of the lab, playing `machine`.
        machine: What it plays.
        board: Its board.
        folder: For the project, new.
        seed: Of all that is random.
    """

    def __init__(
        self, device: LabDevice, machine: Machine, board: str, folder: Path, seed: int
    ) -> None:
        self._device, self._machine, self._folder = device, machine, folder
        self._board = board
        self._random = random.Random(seed)
        self._drivers = 0
        self._at_rest = set(device.network.pids())
        self.counts: Counter[str] = Counter()
        folder.mkdir()
        write_model(folder / "small.onnx")
        (folder / "small.yaml").write_text(PROFILE.format(board=board))
        write_inventory(folder, [device], {"board": board})
        self._maker = subprocess.Popen(
            [sys.executable, "-m", "tests.device.engine_maker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.build()
        self.new_driver()
        self._whole_s = self.build()

    def close(self) -> None:
        """End what builds."""
        self._maker.communicate()

    def new_driver(self) -> None:
        """Let the device be another platform, for which no engine was built."""
        self._drivers += 1
        self._machine = replace(self._machine, driver=f"540.{self._drivers}")
        change(self._machine, self._device.root, build_s=BUILD_S, run_s=0)

    def _start(self) -> int:
        assert self._maker.stdin is not None and self._maker.stdout is not None
        self._maker.stdin.write(f"{self._folder}\n")
        self._maker.stdin.flush()
        return int(self._maker.stdout.readline())

    def _ended(self) -> int:
        assert self._maker.stdout is not None
        return int(self._maker.stdout.readline())

    def build(self) -> float:
        """Build to the end; return the seconds."""
        started = time.monotonic()
        self._start()
        assert self._ended() == ExitCode.DONE
        return time.monotonic() - started

    def kill_one(self, kind: Kind) -> None:
        """Kill a build at a random moment, look at what is left, and build to the end."""
        self.new_driver()
        pid = self._start()
        self._wait_for_moment(kind)
        try:
            cut = self._strike(kind, pid)
        finally:
            self._device.restore_link()
        self.counts[f"{kind}: {'cut' if cut else 'had ended'}"] += 1
        self.check_device(CLEAN_S + (LEASE_S if kind in ("link", "silence") else 0))
        self.check_store()
        self.build()
        self.check_device(CLEAN_S)
        self.check_store()
        self.check_engine()

    def _wait_for_moment(self, kind: Kind) -> None:
        """Wait for a random moment of what is to be struck: of a build, or of its work there."""
        deadline = time.monotonic() + 2 * self._whole_s
        if kind == "build":
            time.sleep(self._random.uniform(0.15, 1.0) * self._whole_s)
            return
        while time.monotonic() < deadline:
            if self._programs("trtexec", "--onnx=") if kind == "trtexec" else self._on_device():
                break
            time.sleep(0.03)
        time.sleep(self._random.uniform(0.0, BUILD_S if kind == "trtexec" else 0.5 * self._whole_s))

    def _strike(self, kind: Kind, pid: int) -> bool:
        """Kill what is to die; return whether the build died of it."""
        match kind:
            case "build":
                _kill(pid)
            case "trtexec":
                for process in self._programs("trtexec"):
                    _kill(process)
            case "session":
                self._device.kill_sessions()
            case "link":
                self._device.cut_link()
                time.sleep(0.3)
                _kill(pid)
            case "silence":
                self._device.cut_link()
        status = self._ended()
        # A build whose device fails ends with that; one that lost nothing ends well.
        assert status in (ExitCode.DONE, ExitCode.DEVICE, ExitCode.BUILD, -signal.SIGKILL), status
        return status != ExitCode.DONE

    # -- looking -------------------------------------------------------------------------------

    def _on_device(self) -> set[int]:
        return set(self._device.network.pids()) - self._at_rest

    def _programs(self, name: str, argument: str = "") -> list[int]:
        found = []
        for pid in self._on_device():
            with contextlib.suppress(OSError):
                words = Path("/proc", str(pid), "cmdline").read_text(errors="replace").split("\0")
                named = any(word.endswith(f"/{name}") for word in words[:2])
                if named and any(word.startswith(argument) for word in words):
                    found.append(pid)
        return found

    def left_on_device(self) -> list[str]:
        """Return processes and files that nobody should find there."""
        found = []
        for pid in self._on_device():
            with contextlib.suppress(OSError):
                words = Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ")
                found.append(f"process {pid}: {words.decode(errors='replace')[:200]}")
        place = self._device.home / ".edgedeploy" / PLACE
        for path in place.rglob("*"):
            if path.is_file() and path.name not in ("lock", "owner", CACHE):
                found.append(str(path.relative_to(place)))
        found += [str(path) for path in place.glob("run-*")]
        found += [str(path) for path in self._device.home.glob(".stand-in-*")]
        return found

    def check_device(self, limit_s: float) -> None:
        """Nothing of ours is left there: no process, no file but timing caches."""
        deadline = time.monotonic() + limit_s
        while left := self.left_on_device():
            assert time.monotonic() < deadline, left
            time.sleep(0.05)

    def check_store(self) -> None:
        """Every tree is what its name says, and every record has its trees."""
        found = verify(Store(self._folder / "store"))
        assert (found.damaged, found.dangling) == ((), ())

    def check_engine(self) -> None:
        """What was published is the engine of this platform, whole and marked."""
        engines = self._folder / "build/small/main" / self._board / "tensorrt/engines"
        (folder,) = engines.iterdir()
        said = json.loads((folder / "engine.json").read_bytes())
        content = (folder / "model.engine").read_bytes()
        assert said["platform"]["driver"] == self._machine.driver
        assert said["sha256"] == hashlib.sha256(content).hexdigest()
        assert said["simulated"] and content.startswith(b"edgedeploy stand-in engine")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
