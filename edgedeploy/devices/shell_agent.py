"""The shell agent from outside: its program, the command that runs an operation, what it answers.

The program is joined of ``ondevice/*.sh`` and ``agent.sh`` and kept on the device under its digest,
beside the depots: a command may be no longer than 9000 bytes there (dropbear).
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from urllib.parse import unquote_to_bytes

from edgedeploy.devices.refusals import no_answer, refused
from edgedeploy.errors import DeviceError, EdgedeployError
from edgedeploy.remote import LIMIT_BYTES, Finished, Pipe, Reader, Remote, printable, too_much

ANSWER_S = 300.0
"""The longest that an operation may take whose work does not depend on sizes: a slow disk syncs."""

_GREETING = b"edgedeploy-sh 1"
_ABSENT = b"edgedeploy-sh absent"
_PARTS = ("disk", "lock", "layout", "transfer", "admission", "versions", "switch", "care")
_SYNCS = ("fsync", "sync", "sync_all")
_FULL = "No space left on device"


@functools.cache
def program() -> bytes:
    """Return the agent's program."""
    here = Path(__file__).parent
    parts = [here / "ondevice" / f"{name}.sh" for name in _PARTS]
    return b"\n".join(part.read_bytes() for part in (*parts, here / "agent.sh"))


class ShellAgent:
    """Runs operations on one depot.

    Args:
        remote: The device, connected.
        folder: Absolute path of the depot there, or one that starts with ``~/``.
    """

    def __init__(self, remote: Remote, folder: str) -> None:
        self._remote = remote
        self._folder = folder
        self._digest = hashlib.sha256(program()).hexdigest()
        beside = folder.rstrip("/").rpartition("/")[0]
        self._home = _shell_path(f"{beside}/.agents")
        self._path = f"{self._home}/{self._digest}.sh"
        self._sync = "-"

    def begin(self) -> list[bytes]:
        """Return the answer to ``hello``; put the program on the device if it is not there.

        Raises:
            DeviceError: The device lacks a tool (E480, E481), as :class:`Depot.hello`, or the
                program cannot be put there (E423, E424).
        """
        tool = "command -v sha256sum >/dev/null || "
        tool += f"{{ echo {quote(_GREETING.decode())}; echo '! E480 sha256sum'; exit 1; }}; "
        same = f'case "$([ -f {self._path} ] && sha256sum < {self._path})" in {self._digest}*) '
        start = f"exec {self._command('hello')};; esac; echo {quote(_ABSENT.decode())}"
        command = tool + same + start
        finished = self._remote.run(command, timeout_s=ANSWER_S)
        if _ABSENT in finished.stdout.splitlines():
            self._upload()
            finished = self._remote.run(command, timeout_s=ANSWER_S)
        lines = _body(finished).splitlines()
        for tool in _SYNCS:
            if f"sync {tool}".encode() in lines:
                self._sync = tool
        return lines

    def ask(
        self,
        operation: str,
        *arguments: object,
        stdin: bytes = b"",
        timeout_s: float = ANSWER_S,
        limit_bytes: int = LIMIT_BYTES,
    ) -> bytes:
        """Run an operation to its end and return what it answered.

        Raises:
            EdgedeployError: What the device refused, or E420 for an answer that is none.
        """
        command = self._command(operation, *arguments)
        finished = self._remote.run(
            command, stdin=stdin, timeout_s=timeout_s, limit_bytes=limit_bytes
        )
        return _body(finished)

    def start(self, operation: str, *arguments: object) -> Running:
        """Start an operation that is talked to while it runs."""
        return Running(self._remote.open(self._command(operation, *arguments)))

    def _command(self, operation: str, *arguments: object) -> str:
        words = (self._folder, self._sync, operation, *map(str, arguments))
        return f"sh {self._path} {' '.join(map(quote, words))}"

    def _upload(self) -> None:
        part = f"{self._home}/{self._digest}.part.$$"
        command = (
            f"umask 077; mkdir -p {self._home} && cat > {part} && "
            f'case "$(sha256sum < {part})" in {self._digest}*) '
            f"chmod 0500 {part} && mv -f {part} {self._path};; *) false;; esac "
            f"|| {{ rm -f {part}; exit 1; }}"
        )
        finished = self._remote.run(command, stdin=program(), timeout_s=ANSWER_S)
        if finished.status != 0:
            raise _refusal("E424", "cannot keep the agent beside the depot", finished.stderr)


class Running:
    """An operation that runs, read line by line."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self._reader = Reader(pipe)
        self._greeted = False
        self._got_bytes = 0

    def line(self, stall_s: float | None) -> bytes:
        """Return the next line of the answer.

        Raises:
            EOFError: There is none any more and the operation was done.
            EdgedeployError: What the device refused, or E420 for an answer that is none.
        """
        try:
            while not self._greeted:
                self._greeted = self._next(stall_s) == _GREETING
            line = self._next(stall_s)
        except EOFError:
            if self._greeted and self.pipe.wait(ANSWER_S) == 0:
                raise
            raise _unexplained(self.pipe.errors()) from None
        if line.startswith(b"! "):
            raise _told(line, self._errors())
        return line

    def lines(self, stall_s: Callable[[], float | None]) -> Iterator[bytes]:
        """Yield the lines of the answer; each may take ``stall_s()`` seconds."""
        while True:
            try:
                yield self.line(stall_s())
            except EOFError:
                return

    def close(self) -> None:
        """End it; allowed twice, never raises."""
        self.pipe.close()

    def _next(self, stall_s: float | None) -> bytes:
        line = self._reader.line(stall_s)
        self._got_bytes += len(line) + 1
        if self._got_bytes > LIMIT_BYTES:
            raise too_much("an answer", LIMIT_BYTES)
        return line

    def _errors(self) -> bytes:
        """Return what it said to its refusal; over SSH that may come after the answer."""
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            try:
                if not self.pipe.read(stall_s=1.0):
                    break
            except DeviceError:
                break
        return self.pipe.errors()


def _shell_path(path: str) -> str:
    """Return a path as a word of a shell command, with the home folder put in for ``~``."""
    return f'"$HOME"/{quote(path[2:])}' if path.startswith("~/") else quote(path)


def _body(finished: Finished) -> bytes:
    """Return an answer without what a login shell printed before it."""
    lines = finished.stdout.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.rstrip(b"\n") != _GREETING:
            continue
        rest = lines[number + 1 :]
        if finished.status == 0:
            return b"".join(rest)
        for told in rest:
            if told.startswith(b"! "):
                raise _told(told, finished.stderr)
    raise _unexplained(finished.stderr)


def _told(line: bytes, errors: bytes) -> EdgedeployError:
    """Return the error of a refusal: ``! CODE MESSAGE``."""
    code, _, message = printable(line)[2:].strip().partition(" ")
    return _refusal(code, message[:500], errors)


def _refusal(code: str, message: str, errors: bytes) -> EdgedeployError:
    if code == "E421":
        message = f"the depot is locked {_holder(message)}"
    if code == "E424":  # with what a tool said
        said = printable(errors)[-1000:].strip()
        code = "E423" if _FULL in said else code
        message = f"{message}: {said.splitlines()[-1] if said else 'it does not say why'}"
    if code in ("E480", "E481"):
        return _lacks(code, message)
    if message.startswith("%20"):  # of the native runner: what is no plain letter is %XX
        message = printable(unquote_to_bytes(message)).strip()
    return refused(code, message) or no_answer("refused with a code that there is not")


def _holder(text: str) -> str:
    """Return who holds the lock, as far as ``lock.owner`` says so."""
    try:
        owner = json.loads(text)
        who, since = owner["who"], int(owner["since"])
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(since))
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return "(nobody says by whom)"
    return f"by {str(who)[:200]} since {when} (device's clock)"


def _lacks(code: str, message: str) -> DeviceError:
    if code == "E480":
        return DeviceError(
            f"the device lacks the tool {message[:40]}",
            code="E480",
            hint="install it (busybox has it), or Python 3.6 or newer, on the device",
        )
    return DeviceError(
        f"the device's tools cannot switch versions safely: {message}",
        code="E481",
        hint="install the mv of busybox or coreutils, or Python 3.6 or newer, on the device",
    )


def _unexplained(errors: bytes) -> DeviceError:
    said = printable(errors)[-300:].strip()
    return no_answer(
        f"ended its program in the middle: {said or 'it does not say why'}", retryable=True
    )
