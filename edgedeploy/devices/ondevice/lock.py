# Runs on devices: Python 3.6, standard library alone.
"""The depot's lock, who holds it, and the journal of what its holders did."""

import contextlib
import errno
import fcntl
import os
import time
from typing import Any, Dict, List

from edgedeploy.devices.ondevice import disk
from edgedeploy.devices.ondevice.disk import RefusalError, progress
from edgedeploy.devices.ondevice.layout import OWNER_BYTES

JOURNAL_BYTES = 1 << 20
_POLL_S = 0.1


def boot_id() -> str:
    """Return the name of this boot of the device, empty where the kernel tells none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        return ""


class Lock:
    """The flock on ``lock``; ``token`` (32 hex digits) names its holder while it is held."""

    def __init__(self) -> None:
        self._descriptor = -1
        self.token = ""

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        return self._descriptor >= 0

    def take(self, who: str, wait_s: float) -> None:
        """Take the lock, name its holder and sweep what earlier holders left unfinished.

        Raises:
            RefusalError: Somebody else holds it for longer than ``wait_s`` (E421).
        """
        end = time.monotonic() + wait_s
        while not self.seize():
            if time.monotonic() >= end:
                raise RefusalError("E421", "the depot is locked " + _described(_owner()))
            time.sleep(_POLL_S)
            progress(1)  # waiting as asked is no standstill
        try:
            token = disk.random_name() + disk.random_name()
            self._tell({"pid": os.getpid(), "since": int(time.time()), "token": token, "who": who})
            self.token = token
            for name in os.listdir("tmp"):
                disk.remove_tree("tmp/" + name)
        except BaseException:
            self.free()
            raise

    def seize(self) -> bool:
        """Take the flock if it is free; ``free`` gives it back."""
        descriptor = disk.open_file("lock", os.O_RDWR | os.O_CREAT)
        try:
            with disk.told_as("lock"):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held, named = os.fstat(descriptor), os.lstat("lock")
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.ENOENT):
                raise
            return False
        if held.st_ino != named.st_ino:  # somebody took the file away and made another
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def check(self) -> None:
        """Make sure that the lock is still this process's (E422)."""
        if not self.held:
            raise RefusalError("E422", "the depot's lock is not held")
        if _owner().get("token") != self.token:
            raise RefusalError("E422", "the depot's lock went to another " + _described(_owner()))

    def free(self) -> None:
        """Give the lock back; nothing to do when it is not held."""
        if not self.held:
            return
        if self.token and _owner().get("token") == self.token:
            with contextlib.suppress(OSError):
                self._tell({})
        os.close(self._descriptor)
        self._descriptor = -1
        self.token = ""

    @staticmethod
    def _tell(owner: Dict[str, Any]) -> None:
        """Overwrite in place: that needs no space, so a full disk can still be cleaned."""
        content = disk.one_line(owner).rstrip().ljust(OWNER_BYTES - 1) + b"\n"
        descriptor = disk.open_file("lock.owner", os.O_RDWR | os.O_CREAT)
        try:
            with disk.told_as("lock.owner"):
                os.pwrite(descriptor, content, 0)
                os.ftruncate(descriptor, len(content))
        finally:
            os.close(descriptor)


def _owner() -> Dict[str, Any]:
    try:
        return disk.parsed(disk.read_file("lock.owner", 1 << 14)) or {}
    except FileNotFoundError:
        return {}


def _described(owner: Dict[str, Any]) -> str:
    since = owner.get("since")
    if not isinstance(since, int):
        return "(nobody says by whom)"
    try:
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(since))
    except (ValueError, OverflowError, OSError):
        when = str(since)
    return "by %.200s since %s (device's clock)" % (owner.get("who"), when)


def write_journal(event: str, **more: Any) -> None:
    """Add a line to the journal, cut to its newer half when it is long.

    Raises:
        OSError: The disk refuses.
    """
    line = disk.one_line(dict(more, event=event, clock=int(time.time()), boot=boot_id()))
    descriptor = disk.open_file("journal.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        with disk.told_as("journal.jsonl"):
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # after a line that a power cut tore
            disk.write_all(descriptor, line)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if size + len(line) > JOURNAL_BYTES:
        newer = _tail(JOURNAL_BYTES // 2)
        disk.replace("journal.jsonl", b"".join(newer), 0o644, lambda: None)


def try_journal(event: str, **more: Any) -> None:
    """Add a line to the journal; a full disk must not keep a switch back from being done."""
    with contextlib.suppress(OSError, RefusalError):
        write_journal(event, **more)


def read_journal(count: int) -> List[str]:
    """Return the last lines that are whole, oldest first."""
    lines = _tail(JOURNAL_BYTES + (64 << 10))
    good = [line.decode().rstrip() for line in lines if disk.parsed(line) is not None]
    return good[-count:] if count > 0 else []


def _tail(limit: int) -> List[bytes]:
    """Return the lines in the last ``limit`` bytes of the journal."""
    try:
        descriptor = disk.open_file("journal.jsonl")
    except FileNotFoundError:
        return []
    try:
        start = max(0, os.fstat(descriptor).st_size - limit)
        content = b""
        while len(content) <= limit:
            data = os.pread(descriptor, disk.CHUNK_BYTES, start + len(content))
            if not data:
                break
            content += data
    finally:
        os.close(descriptor)
    lines = content.splitlines(True)
    return lines[1:] if start else lines
