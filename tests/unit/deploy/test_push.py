"""A push against a depot in memory: order, resuming, damage, space and giving up."""

import hashlib
import random
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.artifact import scan_tree
from edgedeploy.deploy import patience as patience_module
from edgedeploy.deploy.push import Contents, Pushed, push_version
from edgedeploy.devices.depot import FRAME_BYTES
from edgedeploy.devices.version import Version
from edgedeploy.errors import DeviceError, IntegrityError, StoreError
from edgedeploy.events import Event, EventLog, Note, PushProgress, PushStarted
from edgedeploy.report.figures import size
from tests.unit.deploy.memory_depot import MemoryDevice, lost

MB = 1 << 20


def contents(folder: Path, tensors: dict[str, list[bytes]]) -> Contents:
    """Return a version of files made of tensors."""
    cuts: dict[str, list[tuple[int, int]]] = {}
    for path, parts in tensors.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"".join(parts))
        at = 0
        for part in parts:
            cuts.setdefault(path, []).append((at, len(part)))
            at += len(part)
    tree = scan_tree(folder, cuts)
    version = Version(app="app", board="rpi5", models=(), files=tree.files)
    return Contents(
        version=version, places={file.sha256: folder / file.path for file in tree.files}
    )


def noise(seed: int, size: int) -> bytes:
    """Return bytes that compress to nothing."""
    return random.Random(seed).randbytes(size)


def push(device: MemoryDevice, what: Contents, **more: Any) -> Pushed:
    """Push without waiting between attempts."""
    more.setdefault("sleep", lambda seconds: None)
    return push_version(device.reach, "~/.edgedeploy/app", what, opener=device.open, **more)


def check(device: MemoryDevice, what: Contents) -> None:
    """Every file of the version is an object of that content, and the version is there."""
    for file in what.version.files:
        assert hashlib.sha256(device.objects[file.sha256]).hexdigest() == file.sha256
    assert device.versions[what.version.name] == what.version.manifest
    assert device.streams == {}


@pytest.fixture
def big(tmp_path: Path) -> Contents:
    """Return a version with one file of two and a half frames, and a small and an empty one."""
    return contents(
        tmp_path / "big",
        {
            "main/model": [noise(seed, FRAME_BYTES // 2) for seed in range(5)],
            "files/labels.txt": [b"cat\ndog\n"],
            "files/empty": [],
        },
    )


def test_first_push_and_the_second_that_finds_it_there(big: Contents) -> None:
    """The second says hello and nothing else."""
    device = MemoryDevice()
    first = push(device, big)
    check(device, big)
    assert not first.already
    assert first.sent_bytes == first.total_bytes == big.version.size_bytes
    assert first.reused_bytes == 0

    device.calls.clear()
    second = push(device, big)
    assert second.already and second.sent_bytes == 0
    assert second.reused_bytes == second.total_bytes
    assert device.calls == ["open", "hello"]


def test_only_changed_tensors_travel(tmp_path: Path, big: Contents) -> None:
    """The rest comes from the version that is there, and a file that is there is not sent."""
    device = MemoryDevice()
    push(device, big)
    parts = [noise(seed, FRAME_BYTES // 2) for seed in range(5)]
    parts[2] = noise(99, FRAME_BYTES // 2)
    new = contents(tmp_path / "new", {"main/model": parts, "files/labels.txt": [b"cat\ndog\n"]})

    done = push(device, new)

    check(device, new)
    assert done.sent_bytes == FRAME_BYTES // 2
    assert done.reused_bytes == done.total_bytes - done.sent_bytes


def test_cut_connection_goes_on_where_it_was(big: Contents) -> None:
    """One frame at most is sent twice."""
    device = MemoryDevice()
    cuts = iter([2, 3])
    at = [next(cuts)]

    def before(name: str) -> None:
        if name == "frame" and device.frames == at[0]:
            at[0] = next(cuts, -1)
            raise lost()

    device.before = before
    done = push(device, big)
    check(device, big)
    assert done.retries == 2
    assert done.sent_bytes <= done.total_bytes + 2 * FRAME_BYTES


@pytest.mark.parametrize(
    "operation", ["hello", "lock", "have", "incoming", "receive", "assemble", "stage", "unlock"]
)
def test_connection_lost_at_any_operation(big: Contents, operation: str) -> None:
    """The push ends well, and what it says of itself is true."""
    device = MemoryDevice()
    left = [1]

    def before(name: str) -> None:
        if name == operation and left:
            left.pop()
            raise lost()

    device.before = before
    done = push(device, big)
    check(device, big)
    assert done.retries == 1 and not done.already


def test_link_that_brings_nothing_is_given_up(
    big: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections come about and die at once: not for ever."""
    monkeypatch.setattr(patience_module, "AWAY_S", 0.3)
    device = MemoryDevice()

    def before(name: str) -> None:
        if name == "frame":
            raise lost()

    device.before = before
    with pytest.raises(DeviceError) as caught:
        push(device, big, sleep=patience_module.time.sleep)
    assert caught.value.diagnostics[0].code == "E403" and caught.value.retryable
    assert 2 <= device.calls.count("open") <= 5


def test_link_that_comes_and_goes_is_used_while_it_brings_something(tmp_path: Path) -> None:
    """Ten frames, the connection dies after each."""
    what = contents(tmp_path, {"m": [noise(0, 10 * FRAME_BYTES)]})
    device = MemoryDevice()
    seen = [0]

    def before(name: str) -> None:
        if name == "frame" and device.frames > seen[0]:
            seen[0] = device.frames
            raise lost()

    device.before = before
    done = push(device, what)
    check(device, what)
    assert done.retries == 9
    assert done.sent_bytes <= 1.3 * done.total_bytes + 10 * FRAME_BYTES


def test_device_that_stays_away_is_given_up(big: Contents, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what was lost, and what arrived is kept."""
    monkeypatch.setattr(patience_module, "AWAY_S", 0.3)
    monkeypatch.setattr(patience_module, "FIRST_PAUSE_S", 0.01)
    device = MemoryDevice()
    away = []

    def before(name: str) -> None:
        if name == "frame" and device.frames == 3:
            away.append(name)
        if away:
            raise lost()

    device.before = before
    with pytest.raises(DeviceError) as caught:
        push(device, big, sleep=patience_module.time.sleep)
    assert caught.value.diagnostics[0].code == "E403"
    assert len(next(iter(device.streams.values()))) == 2 * FRAME_BYTES

    device.before = lambda name: None
    done = push(device, big)
    check(device, big)
    assert done.sent_bytes < FRAME_BYTES  # the half frame that was left, and the labels


def test_device_that_refuses_is_not_asked_again(big: Contents) -> None:
    """A full disk does not get better by asking."""
    device = MemoryDevice()

    def before(name: str) -> None:
        if name == "receive":
            raise DeviceError("the disk is full", code="E423")

    device.before = before
    with pytest.raises(DeviceError) as caught:
        push(device, big)
    assert caught.value.diagnostics[0].code == "E423"
    assert device.calls.count("open") == 1


def test_lock_of_the_lost_connection_is_waited_for(big: Contents) -> None:
    """Its lease may outlive it; somebody else's lock is not waited for unless asked."""
    device = MemoryDevice()
    waits = []
    opened = device.open

    def before(name: str) -> None:
        if name == "frame" and device.frames == 1 and device.calls.count("open") == 1:
            raise lost()

    def opener(*arguments: Any, **more: Any) -> Any:
        depot = opened(*arguments, **more)
        lock = depot.lock
        depot.lock = lambda wait_s: (waits.append(wait_s), lock(wait_s))  # type: ignore[method-assign,func-returns-value]
        return depot

    device.before = before
    push_version(device.reach, "app", big, opener=opener, sleep=lambda seconds: None)
    assert waits[0] == 0.0 and waits[1] > 30.0


def test_damaged_base_is_done_without(tmp_path: Path, big: Contents) -> None:
    """The device takes a rotten object away; the segments it was to give travel after all."""
    device = MemoryDevice()
    push(device, big)
    old = big.version.files[-1]
    assert old.path == "main/model"
    device.objects[old.sha256] = bytes(old.size)
    parts = [noise(seed, FRAME_BYTES // 2) for seed in (0, 1, 2, 3, 77)]
    new = contents(tmp_path / "new", {"main/model": parts})

    push(device, new)

    assert len(device.streams) == 1  # of the first plan; it goes when it is a week old
    device.streams.clear()
    check(device, new)
    assert old.sha256 not in device.objects


def test_frame_that_is_damaged_once_is_sent_again(big: Contents) -> None:
    """And nothing before it is."""
    device = MemoryDevice()
    spoiled = []

    def spoil(frame: bytes) -> bytes:
        if device.frames == 3 and not spoiled:
            spoiled.append(1)
            return bytes(len(frame))
        return frame

    device.spoil = spoil
    notes: list[Event] = []
    done = push(device, big, events=EventLog(notes.append))
    check(device, big)
    assert done.sent_bytes <= done.total_bytes + 2 * FRAME_BYTES
    assert [event for event in notes if isinstance(event, Note)]


def test_frames_that_are_always_damaged_end_in_an_error(big: Contents) -> None:
    """Not in a loop."""
    device = MemoryDevice()
    device.spoil = lambda frame: bytes(len(frame))
    with pytest.raises(IntegrityError):
        push(device, big)
    assert not device.versions
    assert device.calls.count("assemble") <= 3 * len(big.version.files)


def test_manifest_that_lies_about_segments_cannot_stop_a_push(tmp_path: Path) -> None:
    """The objects are right but not what the manifest says; the file travels whole in the end."""
    parts = [noise(seed, MB) for seed in range(3)]
    new = contents(tmp_path / "new", {"m": parts})
    other = contents(tmp_path / "other", {"m": [noise(50, MB), noise(51, MB), noise(52, MB)]})
    device = MemoryDevice()
    push(device, other)
    manifest = other.version.manifest
    for mine, theirs in zip(
        new.version.files[0].segments, other.version.files[0].segments, strict=True
    ):
        manifest = manifest.replace(theirs.sha256.encode(), mine.sha256.encode())
    device.versions = {hashlib.sha256(manifest).hexdigest(): manifest}

    done = push(device, new)

    check(device, new)
    assert done.sent_bytes == 3 * MB


def test_version_that_cannot_be_read_is_no_base(big: Contents) -> None:
    """It neither helps nor hurts."""
    device = MemoryDevice()
    device.versions["e" * 64] = b"not a manifest"
    notes: list[Event] = []
    push(device, big, events=EventLog(notes.append))
    check(device, big)
    assert "not a manifest" not in str(notes) and any(isinstance(item, Note) for item in notes)


def test_version_that_was_removed_before_we_had_the_lock_is_no_base(big: Contents) -> None:
    """Another host may clean up between the greeting and the lock."""
    device = MemoryDevice()
    device.versions["e" * 64] = b"{}"

    def before(name: str) -> None:
        if name == "manifest":
            raise DeviceError("there is no such version", code="E425")

    device.before = before
    push(device, big)
    check(device, big)


def test_space_is_looked_at_before_anything_travels(big: Contents) -> None:
    """The message says how much is needed and how much is there."""
    device = MemoryDevice()
    device.free_bytes = 10 * MB
    with pytest.raises(DeviceError) as caught:
        push(device, big)
    assert caught.value.diagnostics[0].code == "E423"
    assert f"{size(10 * MB)} are free" in caught.value.diagnostics[0].message
    assert device.frames == 0


def test_what_came_in_before_counts_as_space(big: Contents) -> None:
    """Or a disk that is just large enough would refuse to go on after a cut."""
    device = MemoryDevice()

    def before(name: str) -> None:
        if name == "assemble" and device.frames >= 3:
            raise KeyboardInterrupt

    device.before = before
    with pytest.raises(KeyboardInterrupt):
        push(device, big)
    device.before = lambda name: None
    device.free_bytes = 2 * MB
    push(device, big)
    check(device, big)


def test_progress_ends_at_what_travels(big: Contents) -> None:
    """Bars reach their end, and never run backwards without a loss."""
    heard: list[Event] = []
    push(MemoryDevice(), big, events=EventLog(heard.append))
    started = [event for event in heard if isinstance(event, PushStarted)]
    moved = [event for event in heard if isinstance(event, PushProgress)]
    assert [event.missing_bytes for event in started] == [big.version.size_bytes]
    assert moved[-1].done_bytes == moved[-1].total_bytes == big.version.size_bytes
    assert [event.done_bytes for event in moved] == sorted(event.done_bytes for event in moved)


def test_local_file_that_shrinks_is_our_failure(big: Contents) -> None:
    """Not the device's, and nothing is staged."""
    device = MemoryDevice()
    big.places[big.version.files[-1].sha256].chmod(0o644)
    big.places[big.version.files[-1].sha256].write_bytes(b"short")
    with pytest.raises(StoreError) as caught:
        push(device, big)
    assert caught.value.diagnostics[0].code == "E437"
    assert not device.versions
