"""The lock of a depot without Python: held by a command that hears from us every few seconds."""

from __future__ import annotations

import contextlib
import os
import threading
import time

from edgedeploy.devices.holder import holder
from edgedeploy.devices.refusals import no_answer
from edgedeploy.devices.shell_agent import ANSWER_S, Running, ShellAgent
from edgedeploy.errors import DeviceError

BEAT_S = 5.0
"""How often the holder on the device hears that the host is there."""

_AGAIN_S = 0.5
_CLOSE_S = 2.0


class ShellLock:
    """A depot's lock; ``token`` proves to each operation that this run holds it."""

    def __init__(self, agent: ShellAgent) -> None:
        self._agent = agent
        self._running: Running | None = None
        self._ending = threading.Event()
        self._writing = threading.Lock()
        self._lost = False
        self.token = ""

    @property
    def held(self) -> bool:
        """Whether it was taken, and the holder on the device is not known to be gone."""
        return self._running is not None and not self._lost

    def take(self, wait_s: float) -> None:
        """Take the lock and keep it alive.

        Raises:
            DeviceError: Somebody else holds it for longer than ``wait_s`` (E421), or as
                :meth:`ShellAgent.ask`.
        """
        if self.held:
            return
        self.free()
        end = time.monotonic() + wait_s
        while True:
            try:
                self._start()
                return
            except DeviceError as error:
                left_s = end - time.monotonic()
                if error.diagnostics[0].code != "E421" or left_s <= 0:
                    raise
                time.sleep(min(_AGAIN_S, left_s))

    def beat(self) -> None:
        """Let the holder hear that this side is there, and look at the depot."""
        running = self._running
        if running is None:
            return
        try:
            with self._writing:
                running.pipe.write(b"beat\n")
        except (DeviceError, OSError, ValueError):
            self._lost = True  # the next operation that needs the lock learns of it

    def free(self) -> None:
        """Give the lock back; a trial that runs is reverted first.

        Raises:
            DeviceError: The connection fails.
        """
        self._end(ANSWER_S)

    def close(self) -> None:
        """Let go, without waiting for long; allowed twice, never raises."""
        with contextlib.suppress(Exception):
            self._end(_CLOSE_S)

    def _start(self) -> None:
        token = os.urandom(16).hex()
        running = self._agent.start("hold", token, holder())
        try:
            if running.line(ANSWER_S) != b"locked":
                raise no_answer("did not say that its depot is locked")
        except EOFError:
            running.close()
            raise no_answer("ended its program instead of locking the depot") from None
        except BaseException:
            running.close()
            raise
        self._running, self.token, self._lost = running, token, False
        self._ending = threading.Event()
        threading.Thread(target=self._beats, args=(self._ending,), daemon=True).start()

    def _beats(self, ending: threading.Event) -> None:
        while not ending.wait(BEAT_S) and not self._lost:
            self.beat()

    def _end(self, wait_s: float) -> None:
        running, self._running, self.token = self._running, None, ""
        self._ending.set()
        if running is None:
            return
        try:
            with self._writing:
                running.pipe.end_input()
            end = time.monotonic() + wait_s
            with contextlib.suppress(EOFError):
                while running.line(max(0.0, end - time.monotonic())) != b"unlocked":
                    pass
        finally:
            running.close()
