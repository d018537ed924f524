"""How long a push goes on trying when its connection is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edgedeploy.errors import DeviceError
from edgedeploy.remote import Remote

AWAY_S = 8.0
"""How long a device may be away after its connection was found lost.

A dead link is found within 6 s, so that a push which cannot go on ends within 15 s of the cut.
"""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0

BARREN = 4
"""Connections in a row that bring nothing on before a push gives up."""

# Lost, silent, the lease ran out while we were away: the next connection may go on.
_LOST = frozenset({"E403", "E404", "E422"})


class Patience:
    """Counts what is lost, and says when it is enough.

    A link that comes and goes may do so for ever, as long as every time something new arrives.

    Args:
        sleep: Waits some seconds; may raise to give up.
    """

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._last: DeviceError | None = None
        self._away_s = 0.0
        self._barren = 0
        self._pause_s = FIRST_PAUSE_S
        self.retries = 0

    def advanced(self) -> None:
        """Note that something new arrived."""
        self._away_s, self._barren, self._pause_s = 0.0, 0, FIRST_PAUSE_S

    def lost(self, error: DeviceError) -> None:
        """Take in an error of an open connection.

        Raises:
            DeviceError: The same one, if another connection would not help or there were enough.
        """
        self._barren += 1
        if error.diagnostics[0].code not in _LOST or self._barren > BARREN:
            raise error
        self._last = error
        self.retries += 1

    def reached(self, reach: Callable[[], Remote]) -> Remote:
        """Return a connection: the first, whatever comes of it, or another after one was lost.

        Raises:
            DeviceError: There is none; after a loss, when the device was away for ``AWAY_S``, and
                then what was lost first says why.
        """
        if self._last is None:
            return reach()
        while True:
            started = time.monotonic()
            try:
                self._sleep(self._pause_s)
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
                return _within(reach, max(0.1, AWAY_S - self._away_s))
            except DeviceError as error:
                if not error.retryable:
                    raise
            finally:
                self._away_s += time.monotonic() - started
            if self._away_s >= AWAY_S:
                raise self._last


def _within(reach: Callable[[], Remote], seconds: float) -> Remote:
    """Return what ``reach`` does, or stop waiting for it: connecting has its own, longer limits.

    Raises:
        DeviceError: As ``reach``, or it took too long (E404).
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
    if found:
        return found[0]
    if failed:
        raise failed[0]
    error = DeviceError("the device does not answer", code="E404", hint="see whether it is on")
    error.retryable = True
    raise error
