"""The seam to a device: run a command, talk to one while it runs, put and get files.

``devices/`` makes remotes (over SSH, on this machine, pretended); everything else sees this
protocol alone. What comes back is a stranger's: every read is bounded in bytes and in time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from edgedeploy.errors import DeviceError

CHUNK_BYTES = 1 << 17
"""How much is read or written at a time."""

LIMIT_BYTES = 16 << 20
"""The most that one command may print, unless its caller expects more."""

LINE_BYTES = 64 << 10
"""The longest line that is read."""

SLOWEST_BYTES_PER_S = 1024
"""What comes in more slowly than this is no transfer: a trickle must not keep anybody waiting."""

STALL_S = 15.0
"""How long a remote may stay silent when an answer is due."""

_GRACE_S = 1.0  # what came in while nobody read shall be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a remote command ended.

    Attributes:
        status: Exit status; a shell reports a signal as 128 + its number.
        stdout: What it printed.
        stderr: The end of what it printed there (64 KiB at most).
    """

    status: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRuntime:
    """How a device runs artifacts of one family.

    Attributes:
        family: Id of the runtime, such as ``ort``.
        kind: ``python`` (its Python package), ``native`` (our runner and its C library) or
            ``trtexec`` (that program of TensorRT's).
        version: Of the runtime.
        command: Start of a shell command, quoted, with the environment it needs: the interpreter
            that has the package, the runner, or trtexec.
        provisioned: Name of what we installed (64 hex digits); None for what the device had.
        simulated: It says of itself that it only stands in for the runtime.
    """

    family: str
    kind: Literal["python", "native", "trtexec"]
    version: str
    command: str
    provisioned: str | None
    simulated: bool = False


class Pipe(Protocol):
    """A remote command that runs: its standard input and output.

    Not for two threads in the same direction; one may write while another reads.
    """

    def write(self, data: bytes | memoryview) -> None:
        """Write all of ``data``.

        Raises:
            DeviceError: The connection is lost (E403), or nothing was taken for ``STALL_S``
                (E404).
            BrokenPipeError: The command ended or closed its input; read on to learn why.
        """

    def end_input(self) -> None:
        """Close the command's standard input."""

    def read(self, limit: int = CHUNK_BYTES, stall_s: float | None = STALL_S) -> bytes:
        """Return the next bytes of its output, at most ``limit``; ``b""`` at its end.

        Args:
            limit: Bytes.
            stall_s: The longest wait for the first of them; None waits as long as the connection
                is alive, for commands that work silently.

        Raises:
            DeviceError: The connection is lost (E403), or ``stall_s`` passed (E404).
        """

    def errors(self) -> bytes:
        """Return the end of what it printed on standard error so far (64 KiB at most)."""

    def wait(self, timeout_s: float) -> int:
        """Return the exit status once the output has ended.

        Raises:
            DeviceError: The connection is lost (E403), or it still runs after ``timeout_s``
                (E404).
        """

    def close(self) -> None:
        """End the command (its input closes, then its connection); allowed twice, never raises."""


class Remote(Protocol):
    """One device, connected."""

    @property
    def name(self) -> str:
        """The device's name in the inventory."""

    @property
    def pretended(self) -> bool:
        """Whether no device is behind it: figures measured on it say nothing about one."""

    def run(
        self,
        command: str,
        *,
        stdin: bytes = b"",
        timeout_s: float = 60.0,
        limit_bytes: int = LIMIT_BYTES,
    ) -> Finished:
        """Run a POSIX shell command to its end.

        Args:
            command: For ``sh``, whatever the login shell is; quote with :func:`shlex.quote`.
            stdin: All of its input.
            timeout_s: For the whole command.
            limit_bytes: Of its output.

        Raises:
            DeviceError: The connection is lost (E403), it took too long (E404) or printed too much
                (E405).
        """

    def open(self, command: str) -> Pipe:
        """Start a POSIX shell command and return its ends.

        Raises:
            DeviceError: The connection is lost (E403) or refuses another command (E406).
        """

    def close(self) -> None:
        """Disconnect; allowed twice, never raises."""


class Reader:
    """Buffered reading of a pipe by lines and by counts."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._buffer = bytearray()

    def line(self, stall_s: float | None = STALL_S) -> bytes:
        """Return the next line without its end; ``b""`` may be a line.

        Raises:
            EOFError: The output ended before a whole line.
            DeviceError: Over ``LINE_BYTES`` (E405), or as :meth:`Pipe.read`.
        """
        at, started = 0, time.monotonic()
        while (end := self._buffer.find(b"\n", at)) < 0:
            at = len(self._buffer)
            if at > LINE_BYTES:
                raise too_much("a line", LINE_BYTES)
            self._buffer += self._some(stall_s, started, at)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if len(line) > LINE_BYTES:
            raise too_much("a line", LINE_BYTES)
        return line

    def exactly(self, count: int, stall_s: float | None = STALL_S) -> bytes:
        """Return the next ``count`` bytes.

        Raises:
            EOFError: The output ended before.
            DeviceError: As :meth:`Pipe.read`.
        """
        started = time.monotonic()
        while len(self._buffer) < count:
            self._buffer += self._some(stall_s, started, len(self._buffer))
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    def _some(self, stall_s: float | None, started: float, got: int) -> bytes:
        data = _read(self._pipe, stall_s, started, got)
        if not data:
            raise EOFError
        return data


def _read(pipe: Pipe, stall_s: float | None, started: float, got: int) -> bytes:
    """Return the next bytes of what is waited for since ``started`` and has ``got`` bytes so far.

    Raises:
        DeviceError: As :meth:`Pipe.read`; also for a trickle (E404).
    """
    if stall_s is None:
        return pipe.read(CHUNK_BYTES, None)
    left_s = stall_s + got / SLOWEST_BYTES_PER_S - (time.monotonic() - started)
    if left_s < -_GRACE_S:
        error = DeviceError(
            f"the device sends less than {SLOWEST_BYTES_PER_S} bytes a second",
            code="E404",
            hint="see whether the device is overloaded or its link all but dead, and try again",
        )
        error.retryable = True
        raise error
    return pipe.read(CHUNK_BYTES, max(0.0, min(stall_s, left_s)))


def too_much(what: str, limit_bytes: int) -> DeviceError:
    """Return the error of a device that sends more than it may (E405)."""
    return DeviceError(
        f"the device sent {what} of more than {limit_bytes} bytes",
        code="E405",
        hint="see what the login shell prints on the device; a healthy one is not that talkative",
    )


def put_file(
    remote: Remote, source: Path, goal: str, told: Callable[[int], None] | None = None
) -> None:
    """Copy a file to a device, replacing ``goal`` at once when it is complete.

    Not durable and not resumable: for job files and tools; artifacts go through the depot.

    Args:
        remote: The device.
        source: File here.
        goal: Absolute path there; its folder must exist.
        told: Called with the number of bytes sent so far; may raise to give up.

    Raises:
        DeviceError: The connection fails, or the device cannot write (E407).
        OSError: ``source`` cannot be read.
    """
    from shlex import quote

    part = quote(f"{goal}.part-{os.urandom(6).hex()}")
    pipe = remote.open(f"cat > {part} && mv -f {part} {quote(goal)} || {{ rm -f {part}; exit 1; }}")
    try:
        sent = 0
        with open(source, "rb") as file:
            try:
                while chunk := file.read(CHUNK_BYTES):
                    pipe.write(chunk)
                    sent += len(chunk)
                    if told is not None:
                        told(sent)
                pipe.end_input()
            except BrokenPipeError:
                pass  # the status says why
        while pipe.read():
            pass
        if pipe.wait(STALL_S) != 0:
            raise _not_copied(f"cannot write {goal}", pipe)
    finally:
        pipe.close()


def get_file(
    remote: Remote,
    source: str,
    goal: Path,
    limit_bytes: int,
    told: Callable[[int], None] | None = None,
) -> None:
    """Copy a file from a device; ``goal`` exists afterwards only if it is complete.

    Args:
        remote: The device.
        source: Absolute path there.
        goal: Path here.
        limit_bytes: The most that is accepted.
        told: Called with the number of bytes that came so far; may raise to give up.

    Raises:
        DeviceError: The connection fails, the device cannot read the file (E407), or it is larger
            (E405).
        OSError: ``goal`` cannot be written.
    """
    from shlex import quote

    pipe = remote.open(f"cat < {quote(source)}")
    part = goal.with_name(f"{goal.name}.part-{os.urandom(6).hex()}")
    try:
        pipe.end_input()
        got, started = 0, time.monotonic()
        with open(part, "wb") as file:
            while data := _read(pipe, STALL_S, started, got):
                got += len(data)
                if got > limit_bytes:
                    raise too_much("a file", limit_bytes)
                file.write(data)
                if told is not None:
                    told(got)
        if pipe.wait(STALL_S) != 0:
            raise _not_copied(f"cannot read {source}", pipe)
        part.replace(goal)
    finally:
        pipe.close()
        part.unlink(missing_ok=True)


def _not_copied(what: str, pipe: Pipe) -> DeviceError:
    said = printable(pipe.errors())[-200:].strip()
    return DeviceError(
        f"{what}: {said or 'the device does not say why'}",
        code="E407",
        hint="check the path, its permissions and the free space on the device",
    )


def printable(data: bytes) -> str:
    """Return what a device printed as text that cannot steer a terminal: no control characters."""
    text = data.decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
