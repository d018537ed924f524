"""The host's side of the device agent: a depot over one pipe."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.devices.answers import (
    count_of,
    digest_of,
    digests_of,
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
    Recipe,
)
from edgedeploy.devices.holder import holder
from edgedeploy.devices.refusals import no_answer, refused
from edgedeploy.devices.squeeze import Squeeze
from edgedeploy.errors import DeviceError, IntegrityError
from edgedeploy.remote import CHUNK_BYTES, LIMIT_BYTES, Pipe, Reader, printable, too_much

BEAT_S = 5.0
"""How often the agent hears that the host is there."""

STUCK_S = 300.0
"""How long work on the device may make no progress, though the agent says that it is alive."""

IN_FLIGHT = 4
"""Frames that are on their way before one must be acknowledged."""

_CLOSE_S = 2.0
_SIZES = struct.Struct(">II")
_SETTLE = Path(__file__).with_name("settle.sh")


class AgentDepot:
    """A depot whose operations a running agent does; see :class:`edgedeploy.devices.depot.Depot`.

    Made by :func:`edgedeploy.devices.opening.open_depot`. One thread at a time.
    """

    def __init__(self, pipe: Pipe, reader: Reader) -> None:
        """Take over a pipe whose agent has greeted and was asked to open a depot.

        Raises:
            DeviceError: The folder cannot be a depot (E429, E430), or as for ``hello``.
        """
        self._pipe = pipe
        self._reader = reader
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._broken = False
        threading.Thread(target=self._beat, daemon=True).start()
        try:
            self._fresh: DepotState | None = state_of(self._answer()[0])
        except BaseException:
            self._closed.set()
            pipe.close()
            raise
        self._codecs = self._fresh.codecs

    def hello(self) -> DepotState:
        """Return the state; the first time, the one that came with the greeting."""
        fresh, self._fresh = self._fresh, None
        return fresh or state_of(self._ask("hello"))

    def lock(self, wait_s: float = 0.0) -> None:
        """Take the depot's lock; see :class:`Depot`."""
        self._ask("lock", who=holder(), wait_s=wait_s)

    def unlock(self) -> None:
        """Give the lock back; a trial that runs is reverted."""
        self._ask("unlock")

    def manifest(self, version: str) -> bytes:
        """Return the canonical manifest of a complete version, checked against its name."""
        return manifest_of(self._talk("manifest", version=version)[1], version)

    def have(self, objects: Sequence[str]) -> frozenset[str]:
        """Return which of these objects the depot holds."""
        found = digests_of(self._ask("have", objects=list(objects)))
        return frozenset(found) & frozenset(objects)

    def incoming(self, stream: str) -> Incoming:
        """Return what has been received of a stream."""
        return incoming_of(self._ask("incoming", stream=stream))

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
        self._ask("receive", stream=stream, offset=offset, total=total)
        squeeze = Squeeze(self._codecs)
        sent, acknowledged, waiting = offset, offset, 0
        self._broken = True  # until the end: half a frame may be on its way
        try:
            for frame in frames:
                if waiting == IN_FLIGHT:
                    acknowledged = self._acknowledged(acknowledged, sent, offset, told)
                    waiting -= 1
                self._send_frame(frame, squeeze)
                sent += len(frame)
                waiting += 1
            self._send({"op": "end"})
            for _ in range(waiting):
                acknowledged = self._acknowledged(acknowledged, sent, offset, told)
        except (DeviceError, IntegrityError) as error:
            if error.diagnostics[0].code in ("E403", "E404", "E420"):
                raise
            self._send({"op": "end"})
            self._broken = False
            raise
        length = count_of(self._answer()[0])
        self._broken = False
        if not acknowledged == length == sent:
            raise no_answer(f"says that it has {length} bytes of a stream of {sent}")

    def assemble(self, recipe: Recipe) -> None:
        """* Put an object together, check and sync it; see :class:`Depot`."""
        parts = [[part.source, part.offset, part.length] for part in recipe.parts]
        self._ask(
            "assemble", sha256=recipe.sha256, size=recipe.size, stream=recipe.stream, parts=parts
        )

    def stage(self, manifest: bytes, *, downgrade: bool = False) -> str:
        """* Make a version of objects that are there; return its name."""
        version = digest_of(self._talk("stage", manifest, downgrade=downgrade)[0])
        if version != hashlib.sha256(manifest).hexdigest():
            raise no_answer("staged another version than it was told to")
        return version

    def admit(self, version: str, allowed: Allowed = NOTHING) -> None:
        """Check whether a version may become active; see :class:`Depot`."""
        self._ask("admit", version=version, **allowed.to_json())

    def activate(self, version: str, trial_s: float, allowed: Allowed = NOTHING) -> None:
        """* Switch ``current`` to a version on trial; see :class:`Depot`."""
        script = _SETTLE.read_bytes()
        self._talk("activate", script, version=version, trial_s=trial_s, **allowed.to_json())

    def confirm(self) -> None:
        """* End the trial: the version stays."""
        self._ask("confirm")

    def revert(self) -> None:
        """* End the trial: the version before is active again."""
        self._ask("revert")

    def rollback(self) -> str:
        """* Exchange ``current`` and ``previous``; return the new current."""
        return digest_of(self._ask("rollback"))

    def trust(self) -> bytes | None:
        """Return the depot's trust file, None when there is none."""
        there, content = self._talk("trust")
        return content if there is True else None

    def entrust(self, content: bytes) -> None:
        """* Replace the depot's trust file."""
        self._talk("entrust", content)

    def fsck(self, repair: bool) -> tuple[Damage, ...]:
        """* Check the whole depot; see :class:`Depot`."""
        from edgedeploy.devices.answers import damages_of

        return damages_of(self._ask("fsck", repair=repair))

    def collect(self, keep: int) -> int:
        """* Remove what is not needed; return the bytes freed."""
        return count_of(self._ask("collect", keep=keep))

    def journal(self, count: int) -> tuple[str, ...]:
        """Return the last lines of the depot's journal, oldest first, one JSON document each."""
        return texts_of(self._ask("journal", count=count))[-count:]

    def note(self, event: str, details: str) -> None:
        """* Add a line to the journal."""
        self._ask("note", event=event, details=details)

    def close(self) -> None:
        """Let go of lock and agent; allowed twice, never raises."""
        if self._closed.is_set():
            return
        self._closed.set()
        with contextlib.suppress(Exception):
            self._pipe.end_input()
            end = time.monotonic() + _CLOSE_S
            while (left := end - time.monotonic()) > 0 and self._pipe.read(stall_s=left):
                pass  # it reverts a trial and frees the lock before it ends
        self._pipe.close()

    def _ask(self, operation: str, **fields: Any) -> Any:
        return self._talk(operation, **fields)[0]

    def _talk(self, operation: str, body: bytes = b"", **fields: Any) -> tuple[Any, bytes]:
        if self._broken or self._closed.is_set():
            raise no_answer("was left in the middle of a transfer; connect again", retryable=True)
        self._fresh = None
        self._send({"op": operation, **fields}, body)
        return self._answer()

    def _send(self, header: dict[str, Any], body: bytes | memoryview = b"") -> None:
        """Write a frame; an agent that ended has said why, which is read next."""
        text = json.dumps(header).encode()
        with self._writing, contextlib.suppress(BrokenPipeError):
            self._pipe.write(_SIZES.pack(len(text), len(body)) + text)
            view = memoryview(body)
            for start in range(0, len(view), CHUNK_BYTES):
                self._pipe.write(view[start : start + CHUNK_BYTES])

    def _send_frame(self, frame: bytes, squeeze: Squeeze) -> None:
        if not 0 < len(frame) <= FRAME_BYTES:
            raise ValueError(f"a frame of {len(frame)} bytes")
        codec, packed = squeeze.pack(frame)
        start = time.perf_counter()
        self._send({"op": "data", "size": len(frame), "codec": codec}, packed)
        squeeze.sent(len(packed), time.perf_counter() - start)

    def _acknowledged(
        self, before: int, sent: int, offset: int, told: Callable[[int], None] | None
    ) -> int:
        """Read the answer to a frame; return the length that the device now has."""
        length = count_of(self._answer("ack")[0])
        if not before < length <= sent:
            raise no_answer(f"acknowledged {length} bytes of a stream of {sent}")
        if told is not None:
            told(length - offset)
        return length

    def _answer(self, name: str = "ok") -> tuple[Any, bytes]:
        """Return the next answer and its binary, waiting as long as work makes progress."""
        worked, since = -1, time.monotonic()
        end = since + LONGEST_S
        while True:
            header, body = self._frame()
            if name in header:
                return header[name], body
            if "alive" in header:
                now, count = time.monotonic(), count_of(header["alive"])
                if now > end:
                    raise _stuck(LONGEST_S)
                if count != worked:
                    worked, since = count, now
                elif now - since > STUCK_S:
                    raise _stuck(STUCK_S)
            elif "error" in header:
                raise self._refusal(header)
            elif "ended" in header:
                raise _ended(header)
            else:
                raise no_answer("sent an answer to something that was not asked")

    def _frame(self) -> tuple[dict[str, Any], bytes]:
        try:
            sizes = _SIZES.unpack(self._reader.exactly(_SIZES.size))
            if max(sizes) > LIMIT_BYTES:
                raise too_much("an answer", LIMIT_BYTES)
            text, body = self._reader.exactly(sizes[0]), self._reader.exactly(sizes[1])
        except EOFError:
            said = printable(self._pipe.errors())[-300:].strip()
            raise no_answer(
                f"ended its program in the middle: {said or 'it does not say why'}", retryable=True
            ) from None
        try:
            header = json.loads(text)
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict):
            raise no_answer("sent something that is no answer")
        return header, body

    @staticmethod
    def _refusal(header: dict[str, Any]) -> Exception:
        code, message = header["error"], header.get("message")
        if not isinstance(code, str) or not isinstance(message, str):
            return no_answer("refused without a reason")
        said = " ".join(printable(message.encode("utf-8", "replace")).split())
        error = refused(code, said[:500])
        return error or no_answer("refused with a code that there is not")

    def _beat(self) -> None:
        """Tell the agent that this side is there; data on its way tells that too."""
        while not self._closed.wait(BEAT_S):
            if self._writing.locked():
                continue
            try:
                self._send({"op": "beat"})
            except (DeviceError, OSError, ValueError):
                return  # the next operation learns of it

    def __enter__(self) -> AgentDepot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _stuck(seconds: float) -> DeviceError:
    error = DeviceError(
        f"work on the device came to no end or made no progress for {seconds:g} s",
        code="E404",
        hint="see whether its disk fails or other programs keep it busy, and try again",
    )
    error.retryable = True
    return error


def _ended(header: dict[str, Any]) -> Exception:
    if header["ended"] == "lease":
        return refused("E422", "the device heard nothing for too long and gave up the lock") or (
            no_answer("gave up")
        )
    return no_answer("ended its program", retryable=True)
