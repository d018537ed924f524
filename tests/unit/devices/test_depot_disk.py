"""What every depot does on disks that are full or refuse, and when many want it at once."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgedeploy.devices.depot import FRAME_BYTES
from edgedeploy.errors import EdgedeployError
from tests.unit.devices.depots import Box, content, frames, manifest, push, put, refused, sha

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FILES = {"main/model.ort": content(1, 50_000), "labels.txt": b"cat\ndog\n"}
OTHER = {"main/model.ort": content(2, 50_000), "labels.txt": b"cat\ndog\n"}


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small file system of the given options at a folder."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "edgedeploy-test", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs root")  # root of a container that may not mount
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill the file system to so many free bytes."""
    path = folder / "ballast"
    room = os.statvfs(folder)
    with open(path, "wb") as file:
        file.write(bytes(max(0, room.f_bavail * room.f_frsize - leave)))
    return path


@needs_root
def test_a_full_disk_is_said_before_anything_travels(box: Box, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=8m") as disk:
        box.folder = disk / "depot"
        data = content(3, 20 << 20)
        with box.locked() as depot, refused("E423") as caught:
            depot.receive(sha(data), 0, frames(data), total=len(data))
        assert str(20 << 20) in str(caught.value) and "free" in str(caught.value)
        assert list((box.folder / "incoming").iterdir()) == []
        box.close()


@needs_root
def test_a_disk_that_fills_in_the_middle(box: Box, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=24m") as disk:
        box.folder = disk / "depot"
        data = content(3, 3 * FRAME_BYTES)
        with box.locked() as depot:
            old = push(depot, FILES)
            depot.activate(old, 60)
            depot.confirm()
            ballast = fill(disk, FRAME_BYTES + FRAME_BYTES // 2)
            with refused("E423"):
                depot.receive(sha(data), 0, frames(data))
            held = depot.incoming(sha(data))  # it goes on from here
            assert held.length // FRAME_BYTES == 1
            assert held.frames[0] == sha(frames(data)[0])
            box.check()
            fill_again(disk)
            ballast.unlink()
            (disk / "more").unlink()
            depot.receive(sha(data), FRAME_BYTES, frames(data)[1:])
            assert depot.incoming(sha(data)).frames == tuple(map(sha, frames(data)))
        box.close()


def fill_again(disk: Path) -> None:
    path = disk / "more"
    with open(path, "wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


@needs_root
def test_a_full_disk_keeps_nobody_from_going_back_or_cleaning(box: Box, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=8m") as disk:
        box.folder = disk / "depot"
        with box.locked() as depot:
            one, two = push(depot, FILES), push(depot, OTHER)
            depot.activate(one, 60)
            depot.confirm()
            depot.activate(two, 60)
            fill(disk, 0)
            fill_again(disk)
            depot.revert()
            assert depot.hello().current == one
            depot.unlock()
            depot.lock()
            assert depot.collect(0) > 50_000
            assert depot.hello().versions == (one,)
        box.check()
        box.close()


@needs_root
def test_no_inode_is_free(box: Box, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=8m,nr_inodes=30") as disk:
        box.folder = disk / "depot"
        with box.locked() as depot:
            old = push(depot, FILES)
            many = {str(number): content(number, 10) for number in range(30)}
            with refused("E423") as caught:
                push(depot, many)
            assert "inode" in str(caught.value)
            assert depot.hello().versions == (old,)
        box.check()
        box.close()


@needs_root
def test_a_disk_that_turns_read_only(box: Box, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=8m") as disk:
        box.folder = disk / "depot"
        with box.locked() as depot:
            old = push(depot, FILES)
            depot.activate(old, 60)
            depot.confirm()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        depot = box.open()
        state = depot.hello()  # reading goes on
        assert (state.versions, state.current) == ((old,), old)
        assert depot.manifest(old) == manifest(FILES)
        with refused("E424"):
            depot.lock()
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        with box.locked() as again:
            assert push(again, OTHER)
        box.close()


def test_pushes_rollbacks_and_cleaning_at_once(box: Box) -> None:
    """They are serialised by the lock; what is needed is never removed; all end well."""
    with box.locked() as depot:
        for seed in range(2):
            depot.activate(push(depot, {"f": content(seed, 500)}), 60)
            depot.confirm()
    failures: list[BaseException] = []

    def push_and_activate(source: random.Random) -> None:
        with box.locked_by_waiting() as depot:
            depot.activate(push(depot, {"f": content(source.randrange(6), 500)}), 60)
            depot.confirm()

    def roll_back(_: random.Random) -> None:
        with box.locked_by_waiting() as depot:
            depot.rollback()

    def clean(source: random.Random) -> None:
        with box.locked_by_waiting() as depot:
            depot.collect(source.randrange(3))

    def work(duty: Callable[[random.Random], None], seed: int) -> None:
        source = random.Random(seed)
        try:
            for _ in range(4):
                duty(source)
        except (EdgedeployError, OSError, AssertionError) as error:
            failures.append(error)

    duties = (push_and_activate, roll_back, clean)
    threads = [threading.Thread(target=work, args=(duty, seed)) for seed, duty in enumerate(duties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with box.locked() as depot:
        assert depot.fsck(repair=False) == ()
        state = depot.hello()
        assert state.current and state.previous and state.pending is None
    box.check()


def test_an_object_of_another_size_in_the_manifest(box: Box) -> None:
    with box.locked() as depot:
        put(depot, b"data")
        text = manifest({"f": b"data"}).replace(b'"size":4', b'"size":5')
        with refused("E433"):
            depot.stage(text)
