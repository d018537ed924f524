"""Pushing to a real OpenSSH server through a link that is cut, silent, slow or lying.

Cited by docs/faults.md. Times are bounds against hanging, not speeds.
"""

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgedeploy.artifact import scan_tree
from edgedeploy.deploy import patience
from edgedeploy.deploy.fleet import Link
from edgedeploy.deploy.push import Contents, push_to
from edgedeploy.devices.connect import connect
from edgedeploy.devices.depot import FRAME_BYTES
from edgedeploy.devices.opening import open_depot
from edgedeploy.devices.version import Version
from edgedeploy.errors import DeviceError
from edgedeploy.events import Event, EventLog, PushProgress
from tests.lab.proxy import Proxy
from tests.lab.sshd import Sshd

APP = "app"


def version_of(folder: Path, size: int, seed: int = 0) -> Contents:
    """Return a version of one file of noise."""
    folder.mkdir()
    (folder / "main").mkdir()
    (folder / "main" / "model").write_bytes(random.Random(seed).randbytes(size))
    tree = scan_tree(folder)
    version = Version(app=APP, board="rpi5", models=(), files=tree.files)
    return Contents(
        version=version, places={file.sha256: folder / file.path for file in tree.files}
    )


@dataclass
class Board:
    """The server behind a proxy, and what lies on it."""

    server: Sshd
    proxy: Proxy

    @property
    def depot(self) -> Path:
        """The depot's folder, seen from here."""
        return self.server.home / ".edgedeploy" / APP

    def push(
        self, contents: Contents, at_bytes: int = 0, fault: Callable[[], None] | None = None
    ) -> dict[str, object]:
        """Push; when the device has ``at_bytes``, do ``fault`` once."""
        left = [fault] if fault else []
        self.progress: list[PushProgress] = []

        def heard(event: Event) -> None:
            if isinstance(event, PushProgress):
                self.progress.append(event)
                if left and event.done_bytes >= at_bytes:
                    left.pop()()

        device = self.server.device(port=self.proxy.port)
        link = Link(device.name, lambda: connect(device))
        try:
            answer = push_to(link, device, contents, opener=open_depot, events=EventLog(heard))
        finally:
            link.close()
        return dict(answer.details)

    def check(self, contents: Contents) -> None:
        """The version is staged whole, every object is its name, and nothing is left over."""
        place = self.depot / "versions" / contents.version.name
        assert (place / "manifest.json").read_bytes() == contents.version.manifest
        for file in contents.version.files:
            assert hashlib.sha256((place / file.path).read_bytes()).hexdigest() == file.sha256
        for path in self.depot.glob("objects/*/*"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        assert not list(self.depot.glob("incoming/*")) and not list(self.depot.glob("tmp/*"))
        assert not (self.depot / "current").exists()


@pytest.fixture
def board(sshd: Sshd) -> Iterator[Board]:
    """Return a server whose every byte passes through a proxy."""
    with Proxy(sshd.host, sshd.port) as proxy:
        sshd.know_at(proxy.port)
        yield Board(sshd, proxy)


def test_link_that_stays_silent_is_an_error_in_time(board: Board, tmp_path: Path) -> None:
    """Row 1: nothing passes any more and nobody says so; what arrived is kept."""
    contents = version_of(tmp_path / "v", 12 * FRAME_BYTES)
    cut = []

    def silence() -> None:
        board.proxy.silent = True
        cut.append(time.monotonic())

    with pytest.raises(DeviceError) as caught:
        board.push(contents, 2 * FRAME_BYTES, silence)
    took_s = time.monotonic() - cut[0]
    assert caught.value.retryable
    assert took_s < 15.0

    board.proxy.cut()
    board.proxy.silent = False
    before = board.proxy.sent
    kept = sum(path.stat().st_size for path in board.depot.glob("incoming/*"))
    assert kept >= 2 * FRAME_BYTES
    board.push(contents)
    board.check(contents)
    assert board.proxy.sent - before < contents.version.size_bytes - kept + 2 * FRAME_BYTES


def test_link_that_is_back_after_three_seconds(board: Board, tmp_path: Path) -> None:
    """Row 2: the push ends by itself and sends next to nothing twice."""
    contents = version_of(tmp_path / "v", 6 * FRAME_BYTES)
    board.proxy.rate_bytes_s = 16e6
    ends = []

    def silence() -> None:
        board.proxy.silent = True
        timer = threading.Timer(3.0, lambda: setattr(board.proxy, "silent", False))
        timer.start()
        ends.append(timer)

    done = board.push(contents, 2 * FRAME_BYTES, silence)
    board.check(contents)
    assert board.proxy.sent <= 1.05 * contents.version.size_bytes + 2 * FRAME_BYTES
    assert done["sent_bytes"] == contents.version.size_bytes


def test_link_that_is_reset_again_and_again(board: Board, tmp_path: Path) -> None:
    """Row 3: as long as something arrives each time, the push goes on; nothing piles up."""
    contents = version_of(tmp_path / "v", 12 * FRAME_BYTES)
    board.proxy.rate_bytes_s = 40e6
    seen = [0]

    def heard(event: Event) -> None:
        if isinstance(event, PushProgress) and event.done_bytes >= seen[0] + 3 * FRAME_BYTES:
            seen[0] = event.done_bytes
            board.proxy.cut()

    device = board.server.device(port=board.proxy.port)
    link = Link(device.name, lambda: connect(device))
    answer = push_to(link, device, contents, opener=open_depot, events=EventLog(heard))
    link.close()
    board.check(contents)
    assert answer.details["retries"] >= 3
    # Up to four frames are under way when a connection dies; at this rate the device has them.
    assert board.proxy.sent <= 2.3 * contents.version.size_bytes


def test_session_that_is_killed_is_made_again(board: Board, tmp_path: Path) -> None:
    """Row 4: sshd's process for the connection dies; the lock is free at once."""
    contents = version_of(tmp_path / "v", 6 * FRAME_BYTES)
    done = board.push(contents, 2 * FRAME_BYTES, board.server.kill_sessions)
    board.check(contents)
    assert done["retries"] == 1


def test_server_that_is_gone_says_how(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 5: the retries end, and the message says that it refuses, not that it is silent."""
    monkeypatch.setattr(patience, "AWAY_S", 1.0)
    contents = version_of(tmp_path / "v", 6 * FRAME_BYTES)

    def stop() -> None:
        board.server.kill_sessions()
        board.server.stop()
        board.proxy.close()

    started = time.monotonic()
    with pytest.raises(DeviceError) as caught:
        board.push(contents, 2 * FRAME_BYTES, stop)
    assert caught.value.diagnostics[0].code == "E402" and caught.value.retryable
    assert time.monotonic() - started < 20.0


def test_slow_link_is_no_fault(board: Board, tmp_path: Path) -> None:
    """Row 8: at 1 Mbit a push takes its time and tells how far it is."""
    contents = version_of(tmp_path / "v", 250_000)
    board.proxy.rate_bytes_s = 125e3
    done = board.push(contents)
    board.check(contents)
    assert done["retries"] == 0
    assert board.progress[-1].done_bytes == contents.version.size_bytes


def test_bit_that_flips_on_the_wire(board: Board, tmp_path: Path) -> None:
    """Row 23: SSH finds it and ends the connection; the push makes another."""
    contents = version_of(tmp_path / "v", 4 * FRAME_BYTES)
    spoiled = []

    def spoil(data: bytes, offset: int) -> bytes:
        if offset > 6 << 20 and not spoiled:
            spoiled.append(offset)
            return bytes([data[0] ^ 1]) + data[1:]
        return data

    board.proxy.spoil = spoil
    done = board.push(contents)
    board.check(contents)
    assert spoiled and done["retries"] == 1


def test_bytes_that_rot_on_the_device_while_they_come_in(board: Board, tmp_path: Path) -> None:
    """Row 23: the object is made of wrong bytes once; it is sent again and is right."""
    contents = version_of(tmp_path / "v", 4 * FRAME_BYTES)

    def rot() -> None:
        (part,) = board.depot.glob("incoming/*.part")
        with open(part, "r+b") as file:
            file.seek(FRAME_BYTES // 2)
            file.write(b"rotten")

    done = board.push(contents, 2 * FRAME_BYTES, rot)
    board.check(contents)
    assert done["retries"] == 0
    assert done["sent_bytes"] == 2 * contents.version.size_bytes


def test_resumed_prefix_is_compared(board: Board, tmp_path: Path) -> None:
    """Row 25: a partial that changed is good up to the last frame that is right."""
    contents = version_of(tmp_path / "v", 8 * FRAME_BYTES)

    def gone() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        board.push(contents, 4 * FRAME_BYTES, gone)
    (part,) = board.depot.glob("incoming/*.part")
    assert part.stat().st_size >= 4 * FRAME_BYTES
    with open(part, "r+b") as file:
        file.seek(2 * FRAME_BYTES + 100)
        file.write(b"rotten")

    done = board.push(contents)
    board.check(contents)
    assert done["sent_bytes"] == 6 * FRAME_BYTES


def test_object_that_rots_later_is_healed_by_a_push(board: Board, tmp_path: Path) -> None:
    """Row 24: a check takes it away, and the next push of the version brings it alone."""
    contents = version_of(tmp_path / "v", 1000)
    two = tmp_path / "v2"
    (two / "files").mkdir(parents=True)
    (two / "files" / "a").write_bytes(b"a" * 3000)
    (two / "files" / "b").write_bytes(b"b" * 5000)
    tree = scan_tree(two)
    contents = Contents(
        version=Version(app=APP, board="rpi5", models=(), files=tree.files),
        places={file.sha256: two / file.path for file in tree.files},
    )
    board.push(contents)
    (rotten,) = board.depot.glob(f"objects/*/{tree.file('files/a').sha256}")
    rotten.chmod(0o644)
    rotten.write_bytes(b"x" * 3000)
    remote = connect(board.server.device())
    depot = open_depot(remote, f"~/.edgedeploy/{APP}")
    depot.hello()
    depot.lock()
    damage = depot.fsck(repair=True)
    depot.close()
    remote.close()
    assert {item.what for item in damage} >= {"bad-object"}

    done = board.push(contents)
    board.check(contents)
    assert done["sent_bytes"] == 3000
