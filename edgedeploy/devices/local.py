"""This machine as a device: commands run in a shell here."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from edgedeploy.devices.link import failure, stalled
from edgedeploy.errors import DeviceError
from edgedeploy.remote import CHUNK_BYTES, LIMIT_BYTES, STALL_S, Finished, Pipe, too_much

_ERRORS_BYTES = 64 << 10
_SLICE_S = 0.25


class LocalPipe:
    """A command that runs on this machine, in a session of its own.

    Args:
        command: For ``sh``.
        home: Where it starts, and what HOME is; None for the user's own.

    Raises:
        DeviceError: No further process can be started (E406).
    """

    def __init__(self, command: str, home: Path | None = None) -> None:
        # A file, not a pipe: a command that prints much there must not block on it.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the pipe
        folder = Path(os.environ.get("HOME", "/")) if home is None else home
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
                bufsize=0,
                cwd=folder if folder.is_dir() else "/",  # as over SSH
                env=None if home is None else {**os.environ, "HOME": str(home)},
            )
        except OSError as error:
            self._errors.close()
            raise failure(
                f"this machine starts no further process: {error.strerror or error}",
                "E406",
                "end other programs, or raise the limits of this user (`ulimit -u`, `ulimit -n`)",
                retryable=True,
            ) from error
        # Each end is used and closed under its lock: a number that was closed may be another file.
        self._input = self._process.stdin
        self._input_lock = threading.Lock()
        self._output = self._process.stdout
        self._output_lock = threading.Lock()
        if self._input is not None:
            os.set_blocking(self._input.fileno(), False)

    def write(self, data: bytes | memoryview) -> None:
        """Write all of ``data``; see :class:`edgedeploy.remote.Pipe`."""
        view = memoryview(data)
        moved = time.monotonic()
        while view:
            with self._input_lock:
                if self._input is None:
                    raise BrokenPipeError
                count = 0
                if _is_ready(self._input, select.POLLOUT):
                    with contextlib.suppress(BlockingIOError):
                        count = os.write(self._input.fileno(), view[:CHUNK_BYTES])
            if count:
                view = view[count:]
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_S:
                raise stalled("took nothing", STALL_S)

    def end_input(self) -> None:
        """Close the command's standard input."""
        with self._input_lock:
            if self._input is not None:
                self._input.close()
                self._input = None

    def read(self, limit: int = CHUNK_BYTES, stall_s: float | None = STALL_S) -> bytes:
        """Return the next bytes of its output; see :class:`edgedeploy.remote.Pipe`."""
        started = time.monotonic()
        while True:
            with self._output_lock:
                if self._output is None:
                    return b""
                if _is_ready(self._output, select.POLLIN):
                    return os.read(self._output.fileno(), limit)
            if stall_s is not None and time.monotonic() - started >= stall_s:
                raise stalled("said nothing", stall_s)

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
            raise stalled("still runs", timeout_s) from None
        return 128 - status if status < 0 else status

    def close(self) -> None:
        """End the command and what it started; what a command left behind that ended may live."""
        self.end_input()
        if self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)  # as over SSH, the end of its input may be all it needs
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        with self._output_lock:
            if self._output is not None:
                self._output.close()
                self._output = None
        self._errors.close()


class LocalRemote:
    """This machine.

    Args:
        name: The device's name.
        home: HOME of the commands; None for the user's own.
    """

    def __init__(self, name: str = "local", *, home: Path | None = None) -> None:
        self._name = name
        self._home = home

    @property
    def name(self) -> str:
        """The device's name."""
        return self._name

    @property
    def pretended(self) -> bool:
        """This machine is what it is."""
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

    def open(self, command: str) -> LocalPipe:
        """Start a shell command; see :class:`edgedeploy.remote.Remote`."""
        return LocalPipe(command, self._home)

    def close(self) -> None:
        """Do nothing: there is no connection."""


def run_in_pipe(pipe: Pipe, stdin: bytes, timeout_s: float, limit_bytes: int) -> Finished:
    """Feed a pipe, collect its output and return how it ended.

    Raises:
        DeviceError: As :meth:`edgedeploy.remote.Remote.run`.
    """
    deadline = time.monotonic() + timeout_s
    unfed: list[DeviceError] = []

    def feed() -> None:
        try:
            pipe.write(stdin)
        except BrokenPipeError:
            pass  # it ended without reading all; its status says whether that is well
        except DeviceError as error:
            unfed.append(error)  # half of its input may give any output
        pipe.end_input()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    output = bytearray()
    try:
        while data := _read_until(pipe, deadline, timeout_s):
            output += data
            if len(output) > limit_bytes:
                raise too_much("an output", limit_bytes)
        status = pipe.wait(max(0.1, deadline - time.monotonic()))
        if unfed:
            raise unfed[0]
        return Finished(status=status, stdout=bytes(output), stderr=pipe.errors())
    finally:
        pipe.close()
        feeder.join(STALL_S)


def _read_until(pipe: Pipe, deadline: float, timeout_s: float) -> bytes:
    try:
        return pipe.read(stall_s=max(0.0, deadline - time.monotonic()))
    except DeviceError as error:
        if error.diagnostics[0].code == "E404":
            raise stalled("did not end", timeout_s) from None
        raise


def _is_ready(end: IO[bytes], event: int) -> bool:
    """Wait a moment until one end of a pipe can be used, or was closed on the other side."""
    poller = select.poll()  # not select(): it fails from the 1024th open file on
    poller.register(end, event)
    return bool(poller.poll(_SLICE_S * 1000))
