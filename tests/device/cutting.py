"""Cutting the power, or killing the agent, before each call that changes the disk.

The agent runs on a small ext4 file system in a file. Before the chosen call EXT4_IOC_SHUTDOWN stops
the file system as a power cut does: ``flush`` writes the journal but no data any more (1, so that a
rename may be kept and what it names lost), ``lose`` loses the journal's tail too (2). Then it is
mounted again, and the journal replayed. ``kill`` only ends the process, on any file system.

Run as ``python -m tests.device.cutting AGENT CASE HOW COUNT`` in a mount namespace of its own: a
process that copied our mounts into another would keep the stopped file system alive there. COUNT
calls are sampled, 0 takes all. The last line of its output is the number of cuts that were made.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from edgedeploy.devices.depot import Depot, Part, Recipe
from edgedeploy.devices.shell_depot import ShellDepot
from edgedeploy.errors import EdgedeployError
from tests.device.tools import ToolCounter
from tests.unit.devices.depots import Box, content, frames, manifest, push, put, sha
from tests.unit.devices.odd import odd_box, orders
from tests.unit.devices.odd_python import EXT4_IOC_SHUTDOWN
from tests.unit.devices.shells import ShellRemote
from tests.unit.devices.trusting import (
    ACME,
    build_runner,
    files_of,
    give_runner,
    manifest_of,
    release_of,
    stage,
    trust_bytes,
)

Agent = Literal["python", "shell", "unsynced"]
How = Literal["kill", "flush", "lose"]
FLAGS = {"flush": 1, "lose": 2}
IMAGE_BYTES = 24 << 20

A = {"main/model.ort": content(1, 300_000), "main/labels.txt": b"cat\ndog\n"}
# The model of B is put together of parts of A's and a stream, its table comes whole.
_NEW = content(2, 40_000)
B = {
    "main/model.ort": A["main/model.ort"][:200_000] + _NEW + A["main/model.ort"][200_000:],
    "main/labels.txt": b"cat\ndog\n",
    "main/table.bin": content(3, 70_000),
}
NAME_A, NAME_B = sha(manifest(A)), sha(manifest(B))

# Two releases of what the depot is called, for a depot that trusts their key.
RELEASES = [files_of(release_of(counter, name="depot")) for counter in (7, 8)]
NAME_7, NAME_8 = (sha(manifest_of(files)) for files in RELEASES)


def push_b(depot: Depot) -> None:
    """Push B as a push does."""
    if NAME_B in depot.hello().versions:
        return
    depot.lock()
    model, old = B["main/model.ort"], sha(A["main/model.ort"])
    held = depot.have([sha(data) for data in B.values()])
    if sha(model) not in held:
        depot.receive(sha(_NEW), 0, frames(_NEW), total=len(_NEW))
        parts = (
            Part(source=old, offset=0, length=200_000),
            Part(source=None, offset=0, length=len(_NEW)),
            Part(source=old, offset=200_000, length=100_000),
        )
        recipe = Recipe(sha256=sha(model), size=len(model), stream=sha(_NEW), parts=parts)
        depot.assemble(recipe)
    if sha(B["main/table.bin"]) not in held:
        put(depot, B["main/table.bin"])
    depot.stage(manifest(B))


def activate_b(depot: Depot) -> None:
    """Activate and confirm B."""
    depot.lock()
    if depot.hello().current != NAME_B:
        depot.activate(NAME_B, 600)
        depot.confirm()


def roll_back_to_a(depot: Depot) -> None:
    """Go back to A."""
    depot.lock()
    if depot.hello().current != NAME_A:
        depot.rollback()


def clean(depot: Depot) -> None:
    """Remove everything that is not needed."""
    depot.lock()
    depot.collect(0)


def heal(depot: Depot) -> None:
    """Repair, and push B again."""
    depot.lock()
    depot.fsck(repair=True)
    push(depot, B)


def nothing(_: Depot) -> None:
    """Make the depot."""


def trusting(box: Box) -> None:
    """Make a depot that trusts keys, with the first release active and the second staged."""
    with box.locked() as depot:
        depot.entrust(trust_bytes(ACME))
        for files in RELEASES:
            stage(depot, files)
        depot.activate(NAME_7, 60)
        depot.confirm()


def activate_release(depot: Depot) -> None:
    """Activate and confirm the second release."""
    depot.lock()
    if depot.hello().current != NAME_8:
        depot.activate(NAME_8, 600)
        depot.confirm()


def remembered(box: Box) -> int:
    """Return the newest release that the depot remembers."""
    (names,) = json.loads((box.folder / "releases.json").read_bytes())["counters"].values()
    counter: int = names["depot"]["counter"]
    return counter


class Case(NamedTuple):
    """An operation that is cut: what is there before, and what may be active after."""

    prepare: Callable[[Box], None]
    operate: Callable[[Depot], None]
    before: str | None
    after: str | None


def prepared(*, pushed: bool, active: bool = False) -> Callable[[Box], None]:
    """Return what makes a depot with A active, B pushed or not, B active or not."""

    def prepare(box: Box) -> None:
        with box.locked() as depot:
            push(depot, A)
            depot.activate(NAME_A, 60)
            depot.confirm()
        for wanted, operate in ((pushed, push_b), (active, activate_b)):
            if wanted:
                depot = box.open()
                operate(depot)
                depot.close()

    return prepare


def rotten(box: Box) -> None:
    """B is active, and a byte of its table has flipped."""
    prepared(pushed=True, active=True)(box)
    path = box.object(sha(B["main/table.bin"]))
    path.chmod(0o644)
    path.write_bytes(b"?" + B["main/table.bin"][1:])
    path.chmod(0o444)


CASES = {
    "begin": Case(lambda _: None, nothing, None, None),
    "push": Case(prepared(pushed=False), push_b, NAME_A, NAME_A),
    "activate": Case(prepared(pushed=True), activate_b, NAME_A, NAME_B),
    "rollback": Case(prepared(pushed=True, active=True), roll_back_to_a, NAME_B, NAME_A),
    "release": Case(trusting, activate_release, NAME_7, NAME_8),
    "clean": Case(prepared(pushed=True), clean, NAME_A, NAME_A),
    "heal": Case(rotten, heal, NAME_B, NAME_B),
}


class Cutter:
    """Runs one case again and again, cut at another call each time."""

    def __init__(self, folder: Path, name: str, how: How) -> None:
        self.case = CASES[name]
        self.how = how
        self._folder = folder
        self._power = how != "kill"
        self._mount = folder / "mount"
        self._mount.mkdir(parents=True)
        self._base = folder / "base"
        if self._power:
            with open(self._base, "wb") as file:
                file.truncate(IMAGE_BYTES)
            run("mke2fs", "-q", "-t", "ext4", "-m", "0", str(self._base))
        else:
            self._base.mkdir()
        with self._disk(self._base) as disk:
            self._prepare(disk)
        self.calls = self._count()

    def _box(self, disk: Path) -> Box:
        return odd_box(self._folder, disk / "depot")

    def _orders(self, **what: Any) -> AbstractContextManager[None]:
        return orders(**what)

    def _prepare(self, disk: Path) -> None:
        box = self._box(disk)
        self.case.prepare(box)
        box.close()

    @contextmanager
    def _disk(self, image: Path) -> Iterator[Path]:
        """Give the folder that holds the depot."""
        if not self._power:
            yield image
            return
        with mounted(image, self._mount):
            yield self._mount

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        copy = self._folder / "copy"
        run("cp", "-a", "--sparse=always", str(self._base), str(copy))
        try:
            yield copy
        finally:
            shutil.rmtree(copy) if copy.is_dir() else copy.unlink()

    def _count(self) -> list[str]:
        """Return the names of the changing calls of a run that nothing cuts."""
        told = self._folder / "calls"
        with self._copy() as image, self._disk(image) as disk, self._orders(count=str(told)):
            self._run(disk)
        return list(json.loads(told.read_text()))

    def _run(self, disk: Path) -> None:
        box = self._box(disk)
        try:
            self.case.operate(box.open())
        finally:
            box.close()

    def cut(self, at: int) -> None:
        """Cut before a call (from 1; one past the last: right after the success) and check all."""
        what = {"kill": True} if not self._power else {"shutdown": FLAGS[self.how]}
        with self._copy() as image:
            with self._disk(image) as disk, self._orders(at=at, mount=str(disk), **what):
                try:
                    self._run(disk)
                    done = True
                except EdgedeployError:
                    done = False
                if self._power and at > len(self.calls):
                    cut_power(disk, FLAGS[self.how])
            assert done or at <= len(self.calls)
            with self._disk(image) as disk:
                self._check(disk, done)

    def _check(self, disk: Path, done: bool) -> None:
        box = self._box(disk)
        with contextlib.closing(box):
            if self.case is not CASES["heal"] and (box.folder / "current").is_symlink():
                box.check()  # before anything repairs
            state = box.open().hello()
            assert state.pending is None
            allowed = {self.case.after} if done else {self.case.before, self.case.after}
            assert state.current in allowed, state
            if self.case is CASES["push"] and done:
                assert NAME_B in state.versions  # what was told to be there is there
            if self.case is CASES["release"]:
                assert remembered(box) == 8 or state.current == NAME_7
        self._run(disk)  # the same command, with nothing cleaned by hand
        box.check()
        assert box.current() == self.case.after
        with box.locked() as depot:
            assert depot.fsck(repair=False) == ()


class UnsyncedCutter(Cutter):
    """The same with an agent that syncs nothing: the cuts must show that."""

    def _orders(self, **what: Any) -> AbstractContextManager[None]:
        return orders(skip=["fsync"], **what)


class ShellCutter(Cutter):
    """The same with the shell agent: it is cut before one of its tools starts."""

    @functools.cached_property
    def _counter(self) -> ToolCounter:
        return ToolCounter(self._folder / "counter")

    def _prepare(self, disk: Path) -> None:
        if self.case is CASES["release"]:
            give_runner(disk, build_runner(self._folder))
        super()._prepare(disk)

    def _box(self, disk: Path) -> Box:
        remote = ShellRemote(self._counter.tools)
        return Box(disk / "depot", lambda folder: ShellDepot(remote, folder))

    def _orders(self, **what: Any) -> AbstractContextManager[None]:
        return self._counter.orders(**what)


CUTTERS: dict[Agent, type[Cutter]] = {
    "python": Cutter,
    "shell": ShellCutter,
    "unsynced": UnsyncedCutter,
}


@contextmanager
def mounted(image: Path, mount: Path) -> Iterator[None]:
    """Mount an image on a loop device of its own."""
    device = run("losetup", "--find", "--show", str(image)).strip()
    try:
        run("mount", device, str(mount))
        try:
            yield
        finally:
            _unmount(mount)
    finally:
        run("losetup", "--detach", device)


def _unmount(mount: Path) -> None:
    """Unmount, when the last process that the test left there has ended."""
    for _ in range(50):
        if subprocess.run(["umount", str(mount)], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    run("umount", str(mount))


def cut_power(mount: Path, flag: int) -> None:
    """Stop an ext4 file system as a power cut does."""
    descriptor = os.open(mount, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", flag))
    finally:
        os.close(descriptor)


def run(*command: str) -> str:
    """Run a tool of the system; return what it printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def cuts(name: str, how: How, count: int, agent: Agent = "python") -> int:
    """Cut a case in a process with mounts of its own; return how many cuts were made."""
    command = [sys.executable, "-m", "tests.device.cutting", agent, name, how, str(count)]
    if how != "kill":
        command = ["unshare", "--mount", "--propagation", "private", *command]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stdout[-500:] + ended.stderr[-3000:]
    return int(ended.stdout.split()[-1])


@functools.cache
def can_cut_power() -> bool:
    """Whether this machine lets us make, mount and stop an ext4 file system."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("mke2fs", "losetup", "unshare"))):
        return False
    with tempfile.TemporaryDirectory() as name:
        image, mount = Path(name, "image"), Path(name, "mount")
        mount.mkdir()
        with open(image, "wb") as file:
            file.truncate(4 << 20)
        try:
            run("mke2fs", "-q", "-t", "ext4", str(image))
            with mounted(image, mount):
                cut_power(mount, FLAGS["lose"])
        except (OSError, subprocess.CalledProcessError):
            return False
    return True


def main(agent: Agent, name: str, how: How, count: int) -> None:
    """Cut a case at some calls, or at all, and once right after its success."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as at:
        cutter = CUTTERS[agent](Path(at), name, how)
        last = len(cutter.calls) + 1
        points = list(range(1, last + 1))
        if count:
            points = [*sorted(random.Random(name + how).sample(points[:-1], count - 1)), last]
        for point in points:
            print(f"{agent}, {name}, {how}, before call {point} of {last - 1}", flush=True)
            cutter.cut(point)
        print(len(points))


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))  # type: ignore[arg-type, misc]
