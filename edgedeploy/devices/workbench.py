"""A private folder on a device for one run: nothing of it outlives the link to this host.

A program on the device (``workbench.sh``) holds a lock beside the folder and hears from here every
few seconds. When it does not any more, it kills whatever works in the folder and removes it; what
a run left that was killed itself is cleared away by the next, before it starts.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote

from edgedeploy.devices.holder import holder
from edgedeploy.errors import DeviceError
from edgedeploy.remote import STALL_S, Pipe, Reader, Remote, printable

LEASE_S = 30
"""How long the device waits for a sign of life before it clears the folder away."""

BEAT_S = 5.0
"""How often it gets one."""

CLEAR_S = 20.0
"""The longest that clearing away may take: a process in a driver's call dies late."""

_AGAIN_S = 1.0
_KIB = 1024
_PATH_BYTES = 4096
_COMMENT = re.compile(r"^ *#.*\n|^ +", re.MULTILINE)


@functools.cache
def program() -> str:
    """Return the program that holds a folder, without what only its readers need."""
    text = Path(__file__).with_name("workbench.sh").read_text(encoding="ascii")
    return _COMMENT.sub("", text)


class Workbench:
    """A folder on a device that is there while this object lives.

    Attributes:
        path: Absolute path on the device.
        free_bytes: What its file system has left, when the folder was made.
    """

    def __init__(self, remote: Remote, pipe: Pipe, reader: Reader, path: str, free: int) -> None:
        self._remote = remote
        self._pipe = pipe
        self._reader = reader
        self._ending = threading.Event()
        self._writing = threading.Lock()
        self._lost = False
        self.path = path
        self.free_bytes = free
        threading.Thread(target=self._beats, daemon=True).start()

    def check(self) -> None:
        """Make sure that the device still guards the folder.

        Raises:
            DeviceError: It does not: its program was ended (E484).
        """
        if self._lost:
            raise _failed(self._remote, "what guards the run there was ended")

    def clear(self) -> bool:
        """Let the device end and remove everything; return whether it says that it did.

        Never raises: where the link is gone, the device does it by itself.
        """
        self._ending.set()
        try:
            with self._writing:
                self._pipe.end_input()
            end = time.monotonic() + CLEAR_S
            while self._reader.line(max(0.0, end - time.monotonic())) != b"cleared":
                pass
        except (DeviceError, EOFError, OSError):
            return False
        finally:
            self._pipe.close()
        return True

    def _beats(self) -> None:
        while not self._ending.wait(BEAT_S):
            try:
                with self._writing:
                    self._pipe.write(b"here\n")
            except (DeviceError, OSError, ValueError):
                self._lost = True
                return


@contextlib.contextmanager
def workbench(
    remote: Remote, place: str, busy: Callable[[str, float], None]
) -> Iterator[Workbench]:
    """Hold a new folder below ``place`` on a device while the block runs.

    One run at a time: who comes second waits.

    Args:
        remote: The device, connected.
        place: Folder in which to make it, absolute or below ``~/``; made when missing, 0700.
        busy: Called while another run is at work there, with who that is, as far as it says so,
            and the seconds waited so far; may raise to give up.

    Raises:
        DeviceError: The device lacks a tool (E480), cannot make the folder (E476) or cannot get rid
            of what an earlier run left (E484); or the connection fails.
    """
    started = time.monotonic()
    while True:
        held = _take(remote, place)
        if not isinstance(held, str):
            break
        busy(held, time.monotonic() - started)
        time.sleep(_AGAIN_S)
    try:
        yield held
    finally:
        if not held.clear():
            _sweep(remote, place)


def _sweep(remote: Remote, place: str) -> None:
    """Clear away what a run left whose guard was killed; a broken link leaves it to the next."""
    with contextlib.suppress(DeviceError):
        held = _take(remote, place)
        if not isinstance(held, str):
            held.clear()


def _take(remote: Remote, place: str) -> Workbench | str:
    """Return the new folder, or who is at work there already.

    Raises:
        DeviceError: As :func:`workbench`.
    """
    home = '"$HOME"/' if place.startswith("~/") else ""
    folder = home + quote(place.removeprefix("~/") if home else place)
    token = os.urandom(8).hex()
    pipe = remote.open(
        f"exec sh -c {quote(program())} hold {folder} {token} {quote(holder())} {LEASE_S}"
    )
    reader = Reader(pipe)
    try:
        try:
            said = printable(reader.line(STALL_S + CLEAR_S)).strip()
            if said.startswith("busy"):
                pipe.close()
                return said[5:].strip()[:200]
            if said.startswith("! "):
                raise _refused(remote, place, said[2:], pipe)
            path = said.removeprefix("at ")
            right = path.startswith("/") and path.endswith(f"/run-{token}")
            if not right or len(path) > _PATH_BYTES:
                raise _failed(remote, "it does not name a folder for the run")
            free = _free_bytes(printable(reader.line(STALL_S)))
        except EOFError:
            raise _failed(remote, _last(pipe)) from None
    except BaseException:
        pipe.end_input()
        pipe.close()
        raise
    return Workbench(remote, pipe, reader, path, free)


def _free_bytes(line: str) -> int:
    """Return the free bytes that a line of ``df -kP`` tells, 0 where it tells none."""
    words = line.split()[1:]
    place = next((at for at, word in enumerate(words) if word.endswith("%")), 0)
    text = words[place - 1] if place else ""
    return int(text) * _KIB if text.isdecimal() and len(text) < 16 else 0


def _refused(remote: Remote, place: str, why: str, pipe: Pipe) -> DeviceError:
    kind, _, tool = why.partition(" ")
    if kind == "tool":
        return DeviceError(
            f"{remote.name} lacks the tool {tool[:40]}",
            code="E480",
            subject=remote.name,
            hint="install it on the device (coreutils and util-linux have it, busybox too)",
        )
    if kind == "left":
        return _failed(remote, "what an earlier run left there can be neither ended nor removed")
    return DeviceError(
        f"{remote.name}: no folder can be made in {place}: {_last(pipe)}",
        code="E476",
        subject=remote.name,
        hint="check `root:` in devices.yaml, its permissions and the free space there",
    )


def _last(pipe: Pipe) -> str:
    """Return the end of what a command said on standard error once its output has ended."""
    with contextlib.suppress(DeviceError):
        while pipe.read(stall_s=1.0):
            pass
    lines = printable(pipe.errors()).strip().splitlines()
    return lines[-1][:200] if lines else "it does not say why"


def _failed(remote: Remote, what: str) -> DeviceError:
    error = DeviceError(
        f"{remote.name}: {what}",
        code="E484",
        subject=remote.name,
        hint="see what ends programs there (`dmesg`, its limits on memory), and run it again",
    )
    error.retryable = True
    return error
