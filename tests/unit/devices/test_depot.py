"""What every depot does, whatever program runs on the device: transfers, versions, the lock."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedeploy.devices.depot import FRAME_BYTES, Depot, Incoming, Part, Recipe
from edgedeploy.errors import DeviceError
from tests.unit.devices.depots import (
    ABSENT,
    Box,
    content,
    frames,
    manifest,
    push,
    put,
    refused,
    sha,
)

SMALL = {"main/model.ort": content(1, 5000), "labels.txt": b"cat\ndog\n"}
OTHER = {"main/model.ort": content(2, 6000), "labels.txt": b"cat\ndog\n"}


def left(box: Box) -> list[str]:
    """Return what unfinished work left."""
    folders = (box.folder / name for name in ("tmp", "incoming"))
    return [str(path) for folder in folders for path in folder.iterdir()]


def test_a_new_depot_is_empty(box: Box) -> None:
    state = box.open().hello()
    assert state.root == str(box.folder)
    assert (state.versions, state.current, state.previous) == ((), None, None)
    assert (state.pending, state.reverted) == (None, None)
    room = os.statvfs(box.folder)
    assert abs(state.free_bytes - room.f_bavail * room.f_frsize) < 1 << 30
    assert abs(state.clock_s - time.time()) < 60
    assert stat.S_IMODE(box.folder.stat().st_mode) == 0o700
    assert (box.folder / "format").read_text().strip() == "1"


@pytest.mark.parametrize("name", ["a b", "it's", 'q"q', "$HOME", "ü→", "-n", "a;b&c", "x\\y"])
def test_any_folder_name(tmp_path: Path, box: Box, name: str) -> None:
    box.folder = tmp_path / name / "app"
    with box.locked() as depot:
        version = push(depot, SMALL)
        assert depot.hello().root == str(box.folder)
    box.check_version(version)


def test_a_folder_of_the_home(box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    box.folder = Path("~/.edgedeploy/app")
    assert box.open().hello().root == str(tmp_path / ".edgedeploy/app")


def test_a_version_is_made_of_objects(box: Box) -> None:
    with box.locked() as depot:
        version = push(depot, SMALL)
        assert version == sha(manifest(SMALL))
        state = depot.hello()
        assert (state.versions, state.current) == ((version,), None)
        assert depot.manifest(version) == manifest(SMALL)
        assert depot.stage(manifest(SMALL)) == version
        assert left(box) == []
    box.check_version(version)
    box.check()
    with refused("E425"):
        box.open().manifest(ABSENT)


def test_versions_are_listed_oldest_first(box: Box) -> None:
    with box.locked() as depot:
        names = [push(depot, {"f": content(seed, 10)}) for seed in range(4)]
        assert depot.hello().versions == tuple(names)


def test_empty_files_and_deep_paths(box: Box) -> None:
    deep = "/".join(["d" * 20] * 30) + "/f"
    with box.locked() as depot:
        version = push(depot, {"empty": b"", deep: b"x", "a b/ü'$x": b"y", "same": b"x"})
    box.check_version(version)


def test_a_stream_comes_in_frames_and_is_resumed(box: Box) -> None:
    data = content(3, 2 * FRAME_BYTES + 12345)
    name = sha(data)
    told: list[int] = []
    with box.locked() as depot:
        assert depot.incoming(name) == Incoming(length=0, frames=())
        depot.receive(name, 0, frames(data)[:2], told.append, total=len(data))
        assert told == [FRAME_BYTES, 2 * FRAME_BYTES]
        held = depot.incoming(name)
        assert held.length == 2 * FRAME_BYTES
        assert held.frames == tuple(sha(frame) for frame in frames(data)[:2])
    with box.locked() as depot:  # another connection goes on, a frame earlier
        depot.receive(name, FRAME_BYTES, frames(data)[1:], told.append, total=len(data))
        assert told[2:] == [FRAME_BYTES, FRAME_BYTES + 12345]
        assert depot.incoming(name).frames == tuple(map(sha, frames(data)))
        depot.receive(name, FRAME_BYTES, ())
        assert depot.incoming(name).length == FRAME_BYTES
        with refused("E432"):
            depot.receive(name, 2 * FRAME_BYTES, frames(data)[2:])
        depot.receive(name, FRAME_BYTES, frames(data)[1:])
        whole = (Part(source=None, offset=0, length=len(data)),)
        depot.assemble(Recipe(sha256=name, size=len(data), stream=name, parts=whole))
    assert box.object(name).read_bytes() == data


@pytest.mark.parametrize("make", [bytes, lambda size: b"text \x00\xff" * (size // 7)])
def test_what_compresses_arrives_as_it_was(box: Box, make: Callable[[int], bytes]) -> None:
    data = make(FRAME_BYTES + 7000)
    with box.locked() as depot:
        name = put(depot, data)
    assert box.object(name).read_bytes() == data


def test_a_stream_that_cannot_fit_is_refused_before_it_travels(box: Box) -> None:
    def never() -> bytes:
        pytest.fail("a frame was asked for")

    with box.locked() as depot:
        free = depot.hello().free_bytes
        with refused("E423") as caught:
            depot.receive(ABSENT, 0, iter(never, None), total=free + (1 << 40))
        assert str(free + (1 << 40)) in str(caught.value)
        push(depot, SMALL)  # the conversation goes on
    assert left(box) == []


def test_a_frame_that_cannot_be_read_here_ends_the_transfer_alone(box: Box) -> None:
    def failing() -> object:
        yield content(4, FRAME_BYTES)
        raise OSError("the file is gone")

    with box.locked() as depot, pytest.raises(OSError, match="gone"):
        depot.receive(ABSENT, 0, failing())
    with box.locked() as depot:
        assert push(depot, SMALL)


def test_a_byte_flipped_on_the_disk_is_found(box: Box) -> None:
    data = content(5, 3 * FRAME_BYTES)
    name = sha(data)
    whole = (Part(source=None, offset=0, length=len(data)),)
    recipe = Recipe(sha256=name, size=len(data), stream=name, parts=whole)
    with box.locked() as depot:
        depot.receive(name, 0, frames(data))
        with open(box.folder / f"incoming/{name}.part", "r+b") as file:
            file.seek(FRAME_BYTES + 5)
            file.write(bytes([data[FRAME_BYTES + 5] ^ 1]))
        right = [
            frame == sha(own)
            for frame, own in zip(depot.incoming(name).frames, frames(data), strict=True)
        ]
        assert right == [True, False, True]
        with refused("E720"):
            depot.assemble(recipe)
        assert not box.object(name).exists()
        assert depot.incoming(name).length == 0
        put(depot, data)
    assert box.object(name).read_bytes() == data


def test_objects_are_put_together_of_others(box: Box) -> None:
    first, second, new = content(6, 70_000), content(7, 50_000), content(8, 9_000)
    goal = first[100:60_000] + new + second + first[:100]
    with box.locked() as depot:
        one, two = put(depot, first), put(depot, second)
        depot.receive(sha(new), 0, frames(new), total=len(new))
        parts = (
            Part(source=one, offset=100, length=59_900),
            Part(source=None, offset=0, length=9_000),
            Part(source=two, offset=0, length=50_000),
            Part(source=one, offset=0, length=100),
        )
        recipe = Recipe(sha256=sha(goal), size=len(goal), stream=sha(new), parts=parts)
        depot.assemble(recipe)
        assert left(box) == []
        depot.assemble(recipe)  # it is there: nothing to do, though the stream is gone
        assert depot.have([sha(goal), one, ABSENT]) == {sha(goal), one}
    assert box.object(sha(goal)).read_bytes() == goal
    box.check()


def test_an_object_of_objects_alone(box: Box) -> None:
    first = content(9, 1000)
    with box.locked() as depot:
        one = put(depot, first)
        parts = (Part(source=one, offset=500, length=500), Part(source=one, offset=0, length=500))
        goal = first[500:] + first[:500]
        depot.assemble(Recipe(sha256=sha(goal), size=1000, stream=None, parts=parts))
    assert box.object(sha(goal)).read_bytes() == goal


def test_a_source_that_rotted_is_removed_and_named_missing(box: Box) -> None:
    first, second = content(10, 4000), content(11, 4000)
    with box.locked() as depot:
        one, two = put(depot, first), put(depot, second)
        spoil(box.object(one))
        parts = tuple(Part(source=name, offset=0, length=4000) for name in (one, two))
        goal = first + second
        recipe = Recipe(sha256=sha(goal), size=8000, stream=None, parts=parts)
        with refused("E720"):
            depot.assemble(recipe)
        assert depot.have([one, two, sha(goal)]) == {two}
        with refused("E433"):
            depot.assemble(recipe)
        put(depot, first)
        depot.assemble(recipe)
    box.check()


def test_recipes_that_ask_for_more_than_there_is(box: Box) -> None:
    with box.locked() as depot:
        one = put(depot, content(12, 100))
        long = (Part(source=one, offset=50, length=51),)
        with refused("E433"):
            depot.assemble(Recipe(sha256=ABSENT, size=51, stream=None, parts=long))
        none = (Part(source=None, offset=0, length=5),)
        with refused("E433"):
            depot.assemble(Recipe(sha256=ABSENT, size=5, stream=ABSENT, parts=none))
        assert left(box) == []


def spoil(path: Path) -> None:
    """Flip a bit in a file as a failing disk does."""
    path.chmod(0o644)
    with open(path, "r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    path.chmod(0o444)


def test_a_shortened_object_is_not_had(box: Box) -> None:
    with box.locked() as depot:
        push(depot, SMALL)
        name = sha(SMALL["main/model.ort"])
        os.truncate(box.object(name), 17)
        assert depot.have([name, sha(SMALL["labels.txt"])]) == {sha(SMALL["labels.txt"])}
        assert depot.hello().versions == ()
        version = push(depot, SMALL)
        assert depot.hello().versions == (version,)
    box.check_version(version)


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/x", "a/../../x", "a//b", "", ".", "a/.", "x\ny", "x\x1b[2J", "manifest.json"],
)
def test_a_manifest_with_a_path_outside_is_refused(box: Box, path: str) -> None:
    with box.locked() as depot:
        put(depot, b"data")
        with refused("E434"):
            depot.stage(manifest({path: b"data"}))
        assert depot.hello().versions == ()
    assert not (box.folder.parent / "x").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no json",
        b"[]",
        b'{"schema":2,"files":[]}',
        b'{"schema":1}',
        b'{"schema":1,"files":[{"path":"a"}]}',
        manifest({"a": b"data", "a/b": b"data"}),
    ],
)
def test_what_is_no_manifest_is_refused(box: Box, text: bytes) -> None:
    with box.locked() as depot:
        put(depot, b"data")
        with refused("E434"):
            depot.stage(text)


def test_a_version_needs_its_objects(box: Box) -> None:
    with box.locked() as depot:
        put(depot, SMALL["labels.txt"])
        with refused("E433"):
            depot.stage(manifest(SMALL))
        assert depot.hello().versions == ()
        assert left(box) == []


NEED_LOCK: dict[str, Callable[[Depot], object]] = {
    "receive": lambda depot: depot.receive(ABSENT, 0, [b"x"]),
    "assemble": lambda depot: depot.assemble(Recipe(sha256=ABSENT, size=0, stream=None, parts=())),
    "stage": lambda depot: depot.stage(manifest({})),
    "activate": lambda depot: depot.activate(ABSENT, 10),
    "confirm": lambda depot: depot.confirm(),
    "revert": lambda depot: depot.revert(),
    "rollback": lambda depot: depot.rollback(),
    "fsck": lambda depot: depot.fsck(repair=True),
    "collect": lambda depot: depot.collect(0),
    "note": lambda depot: depot.note("event", "details"),
}


@pytest.mark.parametrize("operation", NEED_LOCK)
def test_changes_need_the_lock(box: Box, operation: str) -> None:
    depot = box.open()
    depot.hello()
    with refused("E422"):
        NEED_LOCK[operation](depot)
    depot.lock()
    depot.unlock()
    with refused("E422"):
        NEED_LOCK[operation](depot)
    assert depot.hello().versions == ()
    assert left(box) == []


def test_one_holds_the_lock(box: Box) -> None:
    first, second = box.open(), box.open()
    first.lock()
    start = time.monotonic()
    with refused("E421") as caught:
        second.lock()
    assert time.monotonic() - start < 6  # it does not wait
    assert isinstance(caught.value, DeviceError) and caught.value.retryable
    assert "@" in str(caught.value)  # who
    assert "UTC" in str(caught.value)  # since when
    with refused("E422"):
        second.note("event", "details")
    first.unlock()
    second.lock()
    second.unlock()


def test_waiting_for_the_lock(box: Box) -> None:
    first, second = box.open(), box.open()
    first.lock()
    timer = threading.Timer(0.7, first.unlock)
    timer.start()
    second.lock(wait_s=30)
    timer.join()
    with refused("E421"):
        first.lock(wait_s=0.3)


def test_the_lock_ends_with_the_connection(box: Box) -> None:
    first = box.open()
    first.lock()
    first.close()
    first.close()
    box.open().lock(wait_s=5)


def test_a_lock_that_went_to_another_changes_nothing(box: Box) -> None:
    """Fencing: the token in ``lock.owner`` is another's, whatever flock says."""
    with box.locked() as depot:
        version = push(depot, SMALL)
        (box.folder / "lock.owner").write_text('{"token":"%s"}' % ("0" * 32))
        for name in ("activate", "rollback", "note", "collect"):
            with refused("E422"):
                NEED_LOCK[name](depot)
    assert box.current() is None
    box.check_version(version)


def test_the_journal_tells_what_happened(box: Box) -> None:
    import json

    with box.locked() as depot:
        assert depot.journal(10) == ()
        push(depot, SMALL)
        depot.note("health", 'latency 3 ms "quoted" \x1b[31m ü\n')
        lines = [json.loads(line) for line in depot.journal(2)]
    assert [line["event"] for line in lines] == ["stage", "health"]
    assert "latency 3 ms" in lines[1]["details"]
    assert all(abs(line["clock"] - time.time()) < 60 for line in lines)
    assert box.open().journal(0) == ()


def test_a_torn_line_of_the_journal_is_passed_over(box: Box) -> None:
    with box.locked() as depot:
        depot.note("one", "")
        with open(box.folder / "journal.jsonl", "ab") as file:
            file.write(b'{"event":"to')
        depot.note("two", "")
        assert len(depot.journal(10)) == 2
        assert '"two"' in depot.journal(1)[0]


def test_a_long_journal_keeps_its_newer_half(box: Box) -> None:
    with box.locked() as depot:
        line = b'{"event":"old","details":"%s"}\n' % (b"x" * 970)
        (box.folder / "journal.jsonl").write_bytes(line * 1100)
        depot.note("new", "")
        size = (box.folder / "journal.jsonl").stat().st_size
        assert 400_000 < size < 600_000
        assert '"new"' in depot.journal(1)[0]


def test_a_folder_of_something_else_is_left_alone(box: Box) -> None:
    box.folder.mkdir(mode=0o700)
    (box.folder / "thesis.tex").write_text("x")
    with refused("E429"):
        box.open().hello()
    assert [path.name for path in box.folder.iterdir()] == ["thesis.tex"]


def test_another_format_is_refused(box: Box) -> None:
    box.open().hello()
    (box.folder / "format").chmod(0o644)
    (box.folder / "format").write_text("2\n")
    with refused("E429"):
        box.open().hello()


@pytest.mark.parametrize("name", ["", "objects", "versions", "incoming", "tmp"])
def test_a_file_or_link_in_the_place_of_a_folder_is_refused(box: Box, name: str) -> None:
    if name:
        box.open().hello()
        (box.folder / name).rmdir()
    path = box.folder / name if name else box.folder
    path.write_text("x")
    with refused("E429"):
        box.open().hello()
    if name:
        path.unlink()
        path.symlink_to(box.folder.parent)
        with refused("E429"):
            box.open().hello()


def test_links_in_the_place_of_objects_are_not_followed(box: Box) -> None:
    secret = box.folder.parent / "secret"
    secret.write_bytes(SMALL["labels.txt"])
    name = sha(SMALL["labels.txt"])
    with box.locked() as depot:
        box.object(name).parent.mkdir()
        box.object(name).symlink_to(secret)
        assert depot.have([name]) == frozenset()
        version = push(depot, SMALL)
        assert depot.hello().versions == (version,)
    box.check_version(version)
    assert secret.read_bytes() == SMALL["labels.txt"]


def test_a_folder_that_others_may_write_is_refused(box: Box) -> None:
    box.open().hello()
    box.folder.chmod(0o770)
    with refused("E430"):
        box.open().hello()
    box.folder.chmod(0o755)  # others may read: an application of another user
    assert box.open().hello().versions == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_folder_of_another_user_is_refused(box: Box) -> None:
    box.folder.mkdir(mode=0o700)
    os.chown(box.folder, 65534, -1)
    with refused("E430"):
        box.open().hello()
    assert list(box.folder.iterdir()) == []


def test_an_interrupted_beginning_is_gone_on_with(box: Box) -> None:
    (box.folder / "objects").mkdir(parents=True, mode=0o700)
    (box.folder / "tmp").mkdir()
    box.folder.chmod(0o700)
    (box.folder / "tmp" / "format").write_text("1")
    (box.folder / "lock").touch()
    assert box.open().hello().versions == ()
    with box.locked() as depot:
        assert push(depot, SMALL)


def test_the_lock_sweeps_what_was_left(box: Box) -> None:
    box.open().hello()
    folder = box.folder / "tmp" / "1234" / "deep"
    folder.mkdir(parents=True)
    (folder / "file").touch()
    (folder / "link").symlink_to(box.folder.parent)
    with box.locked():
        assert left(box) == []
    assert box.folder.parent.exists()
