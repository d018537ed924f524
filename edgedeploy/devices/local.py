"""This machine as a device: commands run in a shell here."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from typing import IO

from edgedeploy.errors import DeviceError
from edgedeploy.remote import CHUNK_BYTES, LIMIT_BYTES, STALL_S, Finished, too_much

_ERRORS_BYTES = 64 << 10


class LocalPipe:
    """A command that runs on this machine, in a session of its own."""

    def __init__(self, command: str) -> None:
        # A file, not a pipe: a command that prints much there must not block on it.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the pipe
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            bufsize=0,
        )

    def write(self, data: bytes | memoryview) -> None:
        """Write all of ``data``; see :class:`edgedeploy.remote.Pipe`."""
        stdin = self._process.stdin
        view = memoryview(data)
        while view:
            if stdin is None or stdin.closed:
                raise BrokenPipeError
            _, ready, _ = select.select([], [stdin], [], STALL_S)
            if not ready:
                raise _stalled("took nothing", STALL_S)
            # A pipe that select() calls writable takes PIPE_BUF bytes without blocking.
            view = view[os.write(stdin.fileno(), view[: select.PIPE_BUF]) :]

    def end_input(self) -> None:
        """Close the command's standard input."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def read(self, limit: int = CHUNK_BYTES, stall_s: float | None = STALL_S) -> bytes:
        """Return the next bytes of its output; see :class:`edgedeploy.remote.Pipe`."""
        stdout = self._process.stdout
        if stdout is None or stdout.closed:
            return b""
        ready, _, _ = select.select([stdout], [], [], stall_s)
        if not ready:
            raise _stalled("said nothing", stall_s or 0)
        return os.read(stdout.fileno(), limit)

    def errors(self) -> bytes:
        """Return the end of what it printed on standard error so far."""
        if self._errors.closed:
            return b""
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), _ERRORS_BYTES, max(0, size - _ERRORS_BYTES))

    def wait(self, timeout_s: float) -> int:
        """Return the exit status; see :class:`edgedeploy.remote.Pipe`."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise _stalled("still runs", timeout_s) from None
        return 128 - status if status < 0 else status

    def close(self) -> None:
        """End the command and what it started."""
        self.end_input()
        if self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)  # as over SSH, the end of its input may be all it needs
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


class LocalRemote:
    """This machine (or, with ``name``, a device that it stands for)."""

    def __init__(self, name: str = "local") -> None:
        self._name = name

    @property
    def name(self) -> str:
        """The device's name."""
        return self._name

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

    def open(self, command: str) -> LocalPipe:
        """Start a shell command; see :class:`edgedeploy.remote.Remote`."""
        return LocalPipe(command)

    def close(self) -> None:
        """Do nothing: there is no connection."""


def run_in_pipe(pipe: LocalPipe, stdin: bytes, timeout_s: float, limit_bytes: int) -> Finished:
    """Feed a pipe, collect its output and return how it ended."""
    import threading

    deadline = time.monotonic() + timeout_s

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError, DeviceError, OSError, ValueError):
            pipe.write(stdin)
        pipe.end_input()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    output = bytearray()
    try:
        while data := pipe.read(stall_s=max(0.0, deadline - time.monotonic())):
            output += data
            if len(output) > limit_bytes:
                raise too_much("an output", limit_bytes)
        status = pipe.wait(max(0.1, deadline - time.monotonic()))
        return Finished(status=status, stdout=bytes(output), stderr=pipe.errors())
    finally:
        pipe.close()
        feeder.join(STALL_S)


def _stalled(what: str, seconds: float) -> DeviceError:
    error = DeviceError(
        f"the command {what} for {seconds:g} s",
        code="E404",
        hint="see whether the device is overloaded or out of memory, and try again",
    )
    error.retryable = True
    return error
