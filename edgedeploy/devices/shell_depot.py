"""A depot on a device that has no Python: each operation is one command of the shell agent."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.devices.answers import (
    count_of,
    damages_of,
    incoming_of,
    manifest_of,
    state_of,
    texts_of,
)
from edgedeploy.devices.depot import (
    FRAME_BYTES,
    LONGEST_S,
    NOTHING,
    Allowed,
    Damage,
    DepotState,
    Incoming,
    Part,
    Recipe,
)
from edgedeploy.devices.ondevice.disk import RefusalError
from edgedeploy.devices.ondevice.layout import files_of
from edgedeploy.devices.refusals import no_answer, refused
from edgedeploy.devices.shell_agent import ANSWER_S, Running, ShellAgent
from edgedeploy.devices.shell_lock import ShellLock
from edgedeploy.devices.squeeze import Squeeze
from edgedeploy.errors import DeviceError
from edgedeploy.manifest import canonical
from edgedeploy.remote import CHUNK_BYTES, Remote, printable

BLOCK_BYTES = 1 << 16
"""What ``dd`` copies at a time on the device; ``ondevice/transfer.sh`` has the same number."""

_SLOWEST_BYTES_PER_S = 1 << 20
_CHECK_S = 3600.0
"""The longest that a device may hash a release: its runner says nothing meanwhile."""

_GZIP = 31  # zlib's name for the format
_SETTLE = Path(__file__).with_name("settle.sh")


class ShellDepot:
    """A depot whose operations a POSIX shell does; see :class:`edgedeploy.devices.depot.Depot`.

    One thread at a time.
    """

    def __init__(self, remote: Remote, folder: str) -> None:
        """Open the depot in ``folder``, an absolute path on the device or one below ``~/``.

        Raises:
            DeviceError: The device lacks a tool (E480, E481), the folder cannot be a depot (E429,
                E430), its disk refuses (E423, E424), or the connection fails.
        """
        if not folder.startswith(("/", "~/")):
            raise _refused("E429", f"{folder} is no absolute path on the device")
        self._agent = ShellAgent(remote, folder)
        self._lock = ShellLock(self._agent)
        self._fresh: DepotState | None = _state(self._agent.begin())
        self._codecs = self._fresh.codecs
        self._trial_end = math.inf

    def hello(self) -> DepotState:
        """Return the state; the first time, the one that came when the depot was opened."""
        fresh, self._fresh = self._fresh, None
        return fresh or _state(self._agent.ask("hello").splitlines())

    def lock(self, wait_s: float = 0.0) -> None:
        """Take the depot's lock and keep it alive; see :class:`Depot`."""
        self._fresh = None
        self._lock.take(wait_s)

    def unlock(self) -> None:
        """Give the lock back; a trial that runs is reverted."""
        self._fresh = None
        self._lock.free()

    def manifest(self, version: str) -> bytes:
        """Return the canonical manifest of a complete version, checked against its name."""
        return manifest_of(self._agent.ask("manifest", version), version)

    def have(self, objects: Sequence[str]) -> frozenset[str]:
        """Return which of these objects the depot holds."""
        names = "".join(f"{name}\n" for name in objects)
        found = self._agent.ask("have", stdin=names.encode()).decode("utf-8", "replace").split()
        return frozenset(found) & frozenset(objects)

    def incoming(self, stream: str) -> Incoming:
        """Return what has been received of a stream."""
        running = self._agent.start("incoming", stream)
        try:
            running.pipe.end_input()
            told = _Fields(running.lines(lambda: ANSWER_S))
        finally:
            running.close()
        found = incoming_of({"length": told.number("length"), "frames": told.all("frame")})
        if len(found.frames) != -(-found.length // FRAME_BYTES):
            raise no_answer("sent other digests of a stream than it has frames")
        return found

    def receive(
        self,
        stream: str,
        offset: int,
        frames: Iterable[bytes],
        told: Callable[[int], None] | None = None,
        *,
        total: int | None = None,
    ) -> None:
        """* Cut a stream to ``offset`` bytes and append frames; see :class:`Depot`."""
        if offset % FRAME_BYTES:
            raise _refused("E432", f"a stream goes on at a whole frame, not at {offset}")
        need = 0 if total is None else max(0, total - offset)
        running = self._start("receive", stream, offset // FRAME_BYTES, -(-need // 1024), need)
        try:
            if running.line(ANSWER_S) != b"ready":
                raise no_answer("did not say that it is ready for a stream")
            acks = _Acks(running, offset, told)
            with contextlib.suppress(BrokenPipeError):  # its answer says why
                self._send(running, frames, acks)
            running.pipe.end_input()
            acks.finish()
        except EOFError:
            raise no_answer("ended its program instead of receiving") from None
        finally:
            running.close()

    def _send(self, running: Running, frames: Iterable[bytes], acks: _Acks) -> None:
        """Send frames, as one gzip stream if the first of them is worth that."""
        packer: Any = None
        for number, frame in enumerate(frames):
            if not 0 < len(frame) <= FRAME_BYTES:
                raise ValueError(f"a frame of {len(frame)} bytes")
            if number == 0:
                if "gzip" in self._codecs and Squeeze(("zlib",)).pack(frame)[0] == "zlib":
                    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
                running.pipe.write(b"gzip\n" if packer else b"raw\n")
            data = packer.compress(frame) + packer.flush(zlib.Z_SYNC_FLUSH) if packer else frame
            acks.expect(len(frame))
            for start in range(0, len(data), CHUNK_BYTES):
                running.pipe.write(memoryview(data)[start : start + CHUNK_BYTES])
            acks.tell()
        running.pipe.write(packer.flush() if packer else b"" if acks.expected else b"raw\n")

    def assemble(self, recipe: Recipe) -> None:
        """* Put an object together, check and sync it; see :class:`Depot`."""
        if sum(part.length for part in recipe.parts) != recipe.size:
            raise _refused("E433", "the parts are not as long as the object")
        if recipe.stream is None and any(part.source is None for part in recipe.parts):
            raise _refused("E433", "a part is of a stream that is not named")
        how = "all" if _is_all_of_stream(recipe) else "join"
        lines = [
            f"{part.source or '-'} {block} {start} {count}\n"
            for part in recipe.parts
            for block, start, count in pieces(part)
        ]
        self._change(
            "assemble",
            recipe.sha256,
            recipe.size,
            recipe.stream or "-",
            how,
            stdin="".join(lines).encode(),
            timeout_s=ANSWER_S + 3 * recipe.size / _SLOWEST_BYTES_PER_S,
        )

    def stage(self, manifest: bytes, *, downgrade: bool = False) -> str:
        """* Make a version of objects that are there; return its name."""
        _check_manifest(manifest)
        version = hashlib.sha256(manifest).hexdigest()
        self._change("stage", version, int(downgrade), stdin=manifest, timeout_s=_CHECK_S)
        return version

    def admit(self, version: str, allowed: Allowed = NOTHING) -> None:
        """Check whether a version may become active; see :class:`Depot`."""
        self._agent.ask("admit", version, *_words_of(allowed), timeout_s=_CHECK_S)

    def activate(self, version: str, trial_s: float, allowed: Allowed = NOTHING) -> None:
        """* Switch ``current`` to a version on trial; see :class:`Depot`."""
        words = (version, max(1, math.ceil(trial_s)), *_words_of(allowed))
        self._change("activate", *words, stdin=_SETTLE.read_bytes(), timeout_s=_CHECK_S)
        self._trial_end = time.monotonic() + trial_s
        self._lock.beat()  # so that the holder learns of the trial's end now

    def confirm(self) -> None:
        """* End the trial: the version stays."""
        if time.monotonic() >= self._trial_end:  # the device counts whole seconds
            self.revert()
        self._change("confirm")

    def revert(self) -> None:
        """* End the trial: the version before is active again."""
        self._change("revert")

    def rollback(self) -> str:
        """* Exchange ``current`` and ``previous``; return the new current."""
        return _Fields(self._change("rollback").splitlines()).digest("current")

    def trust(self) -> bytes | None:
        """Return the depot's trust file, None when there is none."""
        there, _, content = self._agent.ask("trust").partition(b"\n")
        return content if there else None

    def entrust(self, content: bytes) -> None:
        """* Replace the depot's trust file."""
        self._change("entrust", hashlib.sha256(content).hexdigest(), stdin=content)

    def fsck(self, repair: bool) -> tuple[Damage, ...]:
        """* Check the whole depot; see :class:`Depot`."""
        running = self._start("fsck", int(repair))
        found = []
        hashing = [0]  # bytes of what it is at, as it says
        end = time.monotonic() + LONGEST_S

        def stall_s() -> float:
            left_s = max(0.0, end - time.monotonic())
            return min(left_s, ANSWER_S + hashing[0] / _SLOWEST_BYTES_PER_S)

        try:
            running.pipe.end_input()
            for line in running.lines(stall_s):
                words = _words(line)
                if words[0] == "at" and len(words) == 2:
                    hashing[0] = _number(words[1])
                elif words[0] == "found" and len(words) == 4:
                    found.append([words[3], words[1], words[2] == "1"])
                else:
                    raise no_answer("sent no finding where one is due")
        finally:
            running.close()
        return damages_of(found)

    def collect(self, keep: int) -> int:
        """* Remove what is not needed; return the bytes freed."""
        freed = _Fields(self._change("collect", keep).splitlines()).all("freed")
        return sum(_number(size) for size in freed)

    def journal(self, count: int) -> tuple[str, ...]:
        """Return the last lines of the depot's journal, oldest first, one JSON document each."""
        lines = self._agent.ask("journal", count).split(b"\n") if count > 0 else []
        return texts_of([line.decode() for line in lines if _is_record(line)])[-count:]

    def note(self, event: str, details: str) -> None:
        """* Add a line to the journal."""
        record = {"details": details[:4000], "event": event[:100]}
        line = json.dumps(record, sort_keys=True, separators=(",", ":"))[1:-1]
        self._change("note", stdin=f"{line}\n".encode())

    def close(self) -> None:
        """Let go of lock and commands; allowed twice, never raises."""
        self._lock.close()

    def _change(self, operation: str, *arguments: object, **options: Any) -> bytes:
        return self._agent.ask(operation, self._token(), *arguments, **options)

    def _start(self, operation: str, *arguments: object) -> Running:
        return self._agent.start(operation, self._token(), *arguments)

    def _token(self) -> str:
        self._fresh = None
        if not self._lock.held:
            raise _refused("E422", "the depot's lock is not held")
        return self._lock.token

    def __enter__(self) -> ShellDepot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Acks:
    """Reads what the device says of a stream that is sent, in a thread of its own.

    Attributes:
        expected: Lengths of the stream at the ends of the frames that are sent.
    """

    def __init__(self, running: Running, offset: int, told: Callable[[int], None] | None) -> None:
        self.expected: list[int] = []
        self._running = running
        self._offset = self._length = offset
        self._told = told
        self._acknowledged = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def expect(self, count: int) -> None:
        """A frame of ``count`` bytes is going to be sent."""
        self.expected.append((self.expected or [self._offset])[-1] + count)

    def finish(self) -> None:
        """Wait until the device has everything.

        Raises:
            EdgedeployError: What went wrong on the device, or E404 when it makes no progress.
        """
        length, since = self._length, time.monotonic()
        end = since + LONGEST_S
        all_of_it = (self.expected or [self._offset])[-1]
        while self._thread.is_alive() and self._length <= all_of_it:
            self._thread.join(0.5)
            if time.monotonic() > end:
                raise _stuck()
            if self._length != length:
                length, since = self._length, time.monotonic()
                self.tell()
            elif time.monotonic() - since > ANSWER_S:
                raise _stuck()
        if self._error is not None:
            raise self._error
        if self._length != all_of_it:
            raise no_answer(f"says that it has {self._length} bytes of a stream")
        self.tell()

    def tell(self) -> None:
        """Tell of the frames that the device has by now."""
        held = self._length
        for end in self.expected[self._acknowledged :]:
            if end > held:
                break
            self._acknowledged += 1
            if self._told is not None:
                self._told(end - self._offset)

    def _read(self) -> None:
        try:
            for line in self._running.lines(lambda: None):
                words = _words(line)
                if words[0] != "at" or len(words) != 2:
                    raise no_answer("sent no length where one is due")
                self._length = _number(words[1])
        except BaseException as error:  # noqa: BLE001 - raised again by finish()
            self._error = error


class _Fields:
    """An answer of lines ``NAME VALUE``."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._pairs = []
        for line in lines:
            name, _, value = printable(line).partition(" ")
            self._pairs.append((name, value))

    def all(self, name: str) -> list[str]:
        """Return every value of that name."""
        return [value for found, value in self._pairs if found == name]

    def one(self, name: str) -> str | None:
        """Return the value of that name, None when it is not there."""
        found = self.all(name)
        if len(found) > 1:
            raise no_answer(f"says twice what its {name} is")
        return found[0] if found else None

    def number(self, name: str) -> int:
        """Return the number of that name (E420 when there is none)."""
        return _number(self.one(name) or "")

    def digest(self, name: str) -> str:
        """Return the digest of that name (E420 when there is none)."""
        from edgedeploy.devices.answers import digest_of

        return digest_of(self.one(name))


def _state(lines: list[bytes]) -> DepotState:
    told = _Fields(lines)
    state = state_of(
        {
            "root": told.one("root"),
            "versions": told.all("version"),
            "current": told.one("current"),
            "previous": told.one("previous"),
            "pending": told.one("pending"),
            "reverted": told.one("reverted"),
            "free_bytes": told.number("free_kib") * 1024,
            "clock_s": told.number("clock"),
            "codecs": told.all("codec"),
        }
    )
    return dataclasses.replace(state, agent="sh")


def pieces(part: Part) -> Iterator[tuple[int, int, int]]:
    """Yield a range as what ``dd`` can copy without counting single bytes.

    Yields:
        ``(block, 0, count)`` for whole blocks from that one on, ``(block, start, count)`` for bytes
        within one, of which the first is ``start`` (from 1, as ``tail -c +N`` counts).
    """
    block, lead = divmod(part.offset, BLOCK_BYTES)
    left = part.length
    if lead and left:
        count = min(BLOCK_BYTES - lead, left)
        yield block, lead + 1, count
        block, left = block + 1, left - count
    if left >= BLOCK_BYTES:
        yield block, 0, left // BLOCK_BYTES
        block += left // BLOCK_BYTES
    if left % BLOCK_BYTES:
        yield block, 1, left % BLOCK_BYTES


def _is_all_of_stream(recipe: Recipe) -> bool:
    at = 0
    for part in recipe.parts:
        if part.source is not None or part.offset != at:
            return False
        at += part.length
    return recipe.stream is not None


def _check_manifest(manifest: bytes) -> None:
    """Refuse (E434) what the shell could not take apart: it reads the canonical form alone."""
    try:
        files_of(manifest)
        data = json.loads(manifest)
    except RefusalError as error:
        raise _refused(error.code, error.message) from None
    known = {"path", "segments", "sha256", "size"}
    if canonical(data) != manifest or any(set(file) - known for file in data["files"]):
        raise _refused("E434", "it is not in canonical form")


def _words_of(allowed: Allowed) -> tuple[int, int]:
    return int(allowed.development), int(allowed.downgrade)


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _words(line: bytes) -> list[str]:
    return printable(line).split(" ")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise no_answer("sent no number where one is due")
    return count_of(int(text))


def _refused(code: str, message: str) -> Exception:
    return refused(code, message) or no_answer(message)


def _stuck() -> DeviceError:
    error = DeviceError(
        f"the device took no more of a stream for {ANSWER_S:g} s",
        code="E404",
        hint="see whether its disk fails or other programs keep it busy, and try again",
    )
    error.retryable = True
    return error
