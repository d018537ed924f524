"""How long a push goes on trying when its connection is lost."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from edgedeploy.errors import DeviceError
from edgedeploy.remote import (
    CHUNK_BYTES,
    LIMIT_BYTES,
    STALL_S,
    Finished,
    Pipe,
    Remote,
)

AWAY_S = 14.0
"""How long after its last sign of life a device is given up, unless something new has arrived."""

LEAST_S = 1.0
"""What the first attempt at another connection gets, however late the loss was noticed."""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0

# A write as long as this does not fit beside what a dead link left in the system's buffers.
_TELLING_BYTES = 1 << 16
_STUCK_S = 5.0


class Patience:
    """Says whether another connection is worth a try.

    A link that comes and goes may do so for ever, as long as every time something new arrives.

    Args:
        sleep: Waits some seconds; may raise to give up.
    """

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._alive_at = 0.0
        self._dead_since: float | None = None
        self._tries = 0
        self._error: DeviceError | None = None
        self.retries = 0

    def advanced(self) -> None:
        """Note that something new arrived."""
        self._dead_since, self._tries, self._error = None, 0, None

    def lost(self, error: DeviceError) -> None:
        """Take in what ended a connection.

        Raises:
            DeviceError: The same one, when another connection would not help.
        """
        if not error.retryable or error.diagnostics[0].code == "E421":
            raise error
        self._error = error
        self.retries += 1
        if self._dead_since is None:
            self._dead_since = self._alive_at

    def reached(self, reach: Callable[[], Remote]) -> Remote:
        """Return a connection: the first, whatever comes of it, or another after one was lost.

        Raises:
            DeviceError: There is none, or there were enough; it says what was in the way last.
        """
        while True:
            if self._dead_since is None or self._error is None:
                remote = reach()
                break
            left_s = self._dead_since + AWAY_S - time.monotonic()
            if self._tries and left_s <= 0:
                raise self._error
            if self._tries:
                pause_s = FIRST_PAUSE_S * 2 ** min(self._tries - 1, 10)
                self._sleep(min(pause_s, LONGEST_PAUSE_S, left_s))
            self._tries += 1
            try:
                found = _within(reach, max(LEAST_S, left_s))
            except DeviceError as error:
                if not error.retryable:
                    raise
                self._error = error
                continue
            if found is not None:
                remote = found
                break
        self._alive_at = time.monotonic()
        return _Watched(remote, self._lives)

    def _lives(self, at: float) -> None:
        self._alive_at = max(self._alive_at, at)


def _within(reach: Callable[[], Remote], seconds: float) -> Remote | None:
    """Return what ``reach`` does, None when it takes longer: connecting has its own, longer limits.

    Raises:
        DeviceError: As ``reach``.
    """
    found: list[Remote] = []
    failed: list[BaseException] = []
    mutex = threading.Lock()
    late = False

    def work() -> None:
        try:
            remote = reach()
        except BaseException as error:  # noqa: BLE001 - raised again by the waiting thread
            failed.append(error)
            return
        with mutex:
            if not late:
                found.append(remote)
                return
        remote.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    with mutex:
        late = True
    if failed:
        raise failed[0]
    return found[0] if found else None


class _Watched:
    """A remote that tells when the device shows that it is alive."""

    def __init__(self, remote: Remote, lives: Callable[[float], None]) -> None:
        self._remote = remote
        self._lives = lives

    @property
    def name(self) -> str:
        return self._remote.name

    @property
    def pretended(self) -> bool:
        return self._remote.pretended

    def run(
        self,
        command: str,
        *,
        stdin: bytes = b"",
        timeout_s: float = 60.0,
        limit_bytes: int = LIMIT_BYTES,
    ) -> Finished:
        done = self._remote.run(command, stdin=stdin, timeout_s=timeout_s, limit_bytes=limit_bytes)
        self._lives(time.monotonic())
        return done

    def open(self, command: str) -> Pipe:
        return _WatchedPipe(self._remote.open(command), self._lives)

    def close(self) -> None:
        self._remote.close()


class _WatchedPipe:
    def __init__(self, pipe: Pipe, lives: Callable[[float], None]) -> None:
        self._pipe = pipe
        self._lives = lives
        self._doubtful = False
        self._lost = False

    def write(self, data: bytes | memoryview) -> None:
        began = time.monotonic()
        with self._noticing():
            self._pipe.write(data)
        now = time.monotonic()
        # A write that was stuck may end well only because the connection died under it, and so may
        # those right after it.
        self._doubtful = self._doubtful or now - began > _STUCK_S
        if len(data) >= _TELLING_BYTES and not self._doubtful:
            self._lives(now)

    def end_input(self) -> None:
        self._pipe.end_input()

    def read(self, limit: int = CHUNK_BYTES, stall_s: float | None = STALL_S) -> bytes:
        with self._noticing():
            data = self._pipe.read(limit, stall_s)
        if data and not self._lost:  # what is read after a loss came long before it
            self._doubtful = False
            self._lives(time.monotonic())
        return data

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except DeviceError:
            self._lost = True
            raise

    def errors(self) -> bytes:
        return self._pipe.errors()

    def wait(self, timeout_s: float) -> int:
        return self._pipe.wait(timeout_s)

    def close(self) -> None:
        self._pipe.close()
