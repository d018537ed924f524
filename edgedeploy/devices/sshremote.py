"""A device over SSH: commands in channels of one connection."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from edgedeploy.devices.link import failure, one_line, stalled
from edgedeploy.devices.local import run_in_pipe
from edgedeploy.errors import DeviceError
from edgedeploy.remote import CHUNK_BYTES, LIMIT_BYTES, STALL_S, Finished, too_much

COMMAND_BYTES = 8000
"""The longest command line that is sent; dropbear takes 9000 bytes, the wrapping included."""

NOISE_BYTES = 64 << 10
"""The most that a login shell's start files may print before a command's own output."""

_ERRORS_BYTES = 64 << 10
_PARTING_S = 0.3  # how long a command has to end by itself when it is closed
_SLICE_S = 0.25
_UNSAFE = re.compile(rb"[^A-Za-z0-9 ,./:;=@_+<>()\[\]{}|&*?~^#%-]")


def wrapped(command: str, marker: str) -> str:
    """Return a line that runs ``command`` under ``sh``, whatever the login shell is.

    The line prints ``marker`` on both outputs first: what came before was the login shell. What
    means something to sh, csh or fish inside quotes (csh: line ends and ``!``; fish: backslashes)
    travels as octal, which ``printf %b`` undoes.

    Raises:
        ValueError: The line would be longer than ``COMMAND_BYTES``, or ``command`` holds a NUL.
    """
    if "\0" in command:
        raise ValueError("a command holds a NUL")
    coded = _UNSAFE.sub(lambda found: b"\\0%03o" % found[0][0], command.encode()).decode()
    line = f'exec sh -c \'echo {marker};echo {marker} >&2;eval "$(printf %b "{coded}")"\''
    if len(line) > COMMAND_BYTES:
        raise ValueError(f"a command line of {len(line)} bytes; at most {COMMAND_BYTES} travel")
    return line


class SshPipe:
    """A command that runs on the device; see :class:`edgedeploy.remote.Pipe`.

    Args:
        channel: The SSH library's channel, with the command started.
        alive: Whether the connection is.
        lost: Makes the error of a lost connection.
        marker: What the command prints before anything else, on both outputs.
    """

    def __init__(
        self,
        channel: Any,
        alive: Callable[[], bool],
        lost: Callable[[], DeviceError],
        marker: str,
    ) -> None:
        self._channel = channel
        self._alive = alive
        self._lost = lost
        self._marker = marker.encode() + b"\n"
        self._noise: bytearray | None = bytearray()  # None once the marker was seen
        self._ready = b""
        self._errors = bytearray()
        self._errors_lock = threading.Lock()
        channel.settimeout(_SLICE_S)

    def write(self, data: bytes | memoryview) -> None:
        """Write all of ``data``; see :class:`edgedeploy.remote.Pipe`."""
        view = memoryview(data)
        moved = time.monotonic()
        while view:
            try:
                count = self._channel.send(view[:CHUNK_BYTES])
            except TimeoutError:
                self._drain_errors()
                if time.monotonic() - moved > STALL_S:
                    raise stalled("took nothing", STALL_S) from None
                continue
            except (OSError, EOFError):  # the channel is closed, or the connection broke in here
                count = 0
            # On a dead connection the library drops what it is given and says that it was sent.
            if count == 0 or not self._alive():
                if self._is_lost():
                    raise self._lost()
                raise BrokenPipeError
            view = view[count:]
            moved = time.monotonic()

    def end_input(self) -> None:
        """Close the command's standard input."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def read(self, limit: int = CHUNK_BYTES, stall_s: float | None = STALL_S) -> bytes:
        """Return the next bytes of its output; see :class:`edgedeploy.remote.Pipe`."""
        started = time.monotonic()
        while self._noise is not None:
            data = self._receive(CHUNK_BYTES, stall_s, started)
            if not data:
                raise self._no_shell(bytes(self._noise))
            self._skip_noise(self._noise, data)
        if self._ready:
            data, self._ready = self._ready[:limit], self._ready[limit:]
            return data
        return self._receive(limit, stall_s, started)

    def errors(self) -> bytes:
        """Return the end of what it printed on standard error so far."""
        self._drain_errors()
        with self._errors_lock:
            before, marker, after = bytes(self._errors).partition(self._marker)
        return after if marker else before

    def wait(self, timeout_s: float) -> int:
        """Return the exit status; see :class:`edgedeploy.remote.Pipe`."""
        deadline = time.monotonic() + timeout_s
        while not self._channel.status_event.wait(_SLICE_S):
            self._drain_errors()
            if time.monotonic() > deadline:
                raise stalled("still runs", timeout_s)
        status: int = self._channel.exit_status
        if status >= 0:
            return status
        if self._is_lost():
            raise self._lost()
        return 255  # its shell was killed by a signal; the library does not tell which

    def close(self) -> None:
        """End the command: its input and the channel close."""
        self.end_input()
        # That is all most commands need to end. Dropbear (2022.83) may end the next session along
        # with one that is closed while its command runs: 3 of 40 on the lab's devices.
        deadline = time.monotonic() + _PARTING_S
        while not self._channel.closed and time.monotonic() < deadline:
            time.sleep(0.005)
        with contextlib.suppress(OSError, EOFError):
            self._channel.close()

    def _receive(self, limit: int, stall_s: float | None, started: float) -> bytes:
        while True:
            try:
                data: bytes = self._channel.recv(limit)
            except TimeoutError:
                self._drain_errors()
                if stall_s is not None and time.monotonic() - started >= stall_s:
                    raise stalled("said nothing", stall_s) from None
                continue
            except (OSError, EOFError):
                data = b""
            if not data and not self._channel.eof_received and self._is_lost():
                raise self._lost()
            return data

    def _skip_noise(self, noise: bytearray, data: bytes) -> None:
        noise += data
        at = noise.find(self._marker)
        if at >= 0:
            self._ready = bytes(noise[at + len(self._marker) :])
            self._noise = None
        elif len(noise) > NOISE_BYTES:
            raise too_much("a greeting of its login shell", NOISE_BYTES)

    def _no_shell(self, noise: bytes) -> DeviceError:
        with contextlib.suppress(DeviceError):
            self.wait(_SLICE_S)  # what it says on the other output may come a moment later
        said = one_line((noise + self.errors())[-300:])
        return failure(
            f"the device's login shell runs no commands: {said or 'it says nothing'}",
            "E406",
            "log in with `ssh` and run `sh -c true`; give the user a shell (`chsh`) if it fails",
            retryable=False,
        )

    def _drain_errors(self) -> None:
        """Collect what came on standard error; what is left there would block the command."""
        with self._errors_lock:
            while self._channel.recv_stderr_ready():
                self._errors += self._channel.recv_stderr(CHUNK_BYTES)
                del self._errors[:-_ERRORS_BYTES]

    def _is_lost(self) -> bool:
        """Whether the connection ended, not the command alone; its thread may just be ending."""
        deadline = time.monotonic() + _SLICE_S
        while self._alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


class SshRemote:
    """A connected device; see :class:`edgedeploy.remote.Remote`.

    Args:
        name: The device's name in the inventory.
        start: Starts a command line in a channel of its own.
        alive: Whether the connection is.
        lost: Makes the error of a lost connection.
        end: Disconnects.
    """

    def __init__(
        self,
        name: str,
        *,
        start: Callable[[str], Any],
        alive: Callable[[], bool],
        lost: Callable[[], DeviceError],
        end: Callable[[], None],
    ) -> None:
        self._name = name
        self._start = start
        self._alive = alive
        self._lost = lost
        self._end = end

    @property
    def name(self) -> str:
        """The device's name."""
        return self._name

    @property
    def pretended(self) -> bool:
        """A device over SSH is one."""
        return False

    def run(
        self,
        command: str,
        *,
        stdin: bytes = b"",
        timeout_s: float = 60.0,
        limit_bytes: int = LIMIT_BYTES,
    ) -> Finished:
        """Run a shell command to its end; see :class:`edgedeploy.remote.Remote`."""
        return run_in_pipe(self.open(command), stdin, timeout_s, limit_bytes)

    def open(self, command: str) -> SshPipe:
        """Start a shell command; see :class:`edgedeploy.remote.Remote`.

        Raises:
            ValueError: The command is too long to travel; send it as a file or as input.
        """
        marker = os.urandom(12).hex()
        return SshPipe(self._start(wrapped(command, marker)), self._alive, self._lost, marker)

    def close(self) -> None:
        """Disconnect."""
        self._end()
