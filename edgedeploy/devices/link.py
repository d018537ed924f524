"""The wire to a device: dialling, and noticing within seconds that nothing comes back any more.

TCP alone needs minutes for that, and through a jump host it never sees the last leg. A
:class:`Wire` is what the SSH library gets as its socket: it knows when something last came in, has
the other side asked after a pause, and ends a connection that stays silent.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgedeploy.errors import DeviceError
from edgedeploy.remote import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long each part of a connection may take, in seconds.

    Attributes:
        dial_s: Finding the address, and a TCP connection to it.
        greet_s: The server's first line, and the exchange of keys.
        auth_s: The server's answer to one attempt to log in.
        ask_s: Silence after which the other side is asked for a sign of life.
        lost_s: Silence after which the connection counts as lost; with the second that ending it
            takes this stays below the 15 s in which a cut link must be an error.
    """

    dial_s: float = 10.0
    greet_s: float = 10.0
    auth_s: float = 10.0
    ask_s: float = 5.0
    lost_s: float = 13.0


PATIENCE = Patience()

BEGINNING_BYTES = 200


class Wire:
    """A socket (or an SSH channel that stands for one) that ends itself when it falls silent.

    Args:
        socket: Anything with ``recv``, ``send``, ``settimeout`` and ``close``.
        patience: When to ask and when to give up.
        clock: Seconds, monotonic.

    Attributes:
        fell_silent: Whether it ended itself.
        beginning: The first bytes that came in, for telling what answers there.
    """

    def __init__(
        self, socket: Any, patience: Patience, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._socket = socket
        self._patience = patience
        self._clock = clock
        self._heard = self._looked = self._asked = clock()
        self._full = False
        self._ask: Callable[[], None] | None = None
        self._closed = False  # the SSH library reads this name
        self.fell_silent = False
        self.beginning = b""

    def watch(self, ask: Callable[[], None]) -> None:
        """Begin to judge silence; ``ask`` sends something that a live server answers."""
        self._heard = self._looked = self._asked = self._clock()
        self._ask = ask

    def settimeout(self, seconds: float | None) -> None:
        """Pass the time for one call on."""
        self._socket.settimeout(seconds)

    def recv(self, count: int) -> bytes:
        """Return what came in; ``b""`` at the end, also when the other side fell silent."""
        if self.fell_silent:
            return b""
        try:
            data: bytes = self._socket.recv(count)
        except TimeoutError:
            if self._is_silent():
                return b""
            self._ask_if_due()
            raise
        self._heard = self._looked = self._clock()
        if len(self.beginning) < BEGINNING_BYTES:
            self.beginning += data[:BEGINNING_BYTES]
        return data

    def send(self, data: bytes) -> int:
        """Send the beginning of ``data``; return how much.

        Raises:
            ConnectionAbortedError: The other side fell silent.
        """
        if self.fell_silent:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the other side fell silent")
        try:
            count: int = self._socket.send(data)
        except TimeoutError:
            self._full = True
            if self._is_silent():
                raise ConnectionAbortedError(
                    errno.ECONNABORTED, "the other side fell silent"
                ) from None
            raise
        if self._full:  # room in a buffer that was full: the other side took something
            self._full = False
            self._heard = self._clock()
        return count

    def close(self) -> None:
        """Close the socket below."""
        self._closed = True
        with contextlib.suppress(OSError, EOFError):
            self._socket.close()

    def _is_silent(self) -> bool:
        now = self._clock()
        if now - self._looked > self._patience.ask_s:
            self._heard = now  # this process slept (Ctrl-Z, a busy machine), not the other side
        self._looked = now
        if self._ask is not None and now - self._heard > self._patience.lost_s:
            self.fell_silent = True
        return self.fell_silent

    def _ask_if_due(self) -> None:
        now = self._clock()
        quiet = min(now - self._heard, now - self._asked)
        if self._ask is not None and quiet > self._patience.ask_s:
            self._asked = now
            self._ask()


def failure(
    message: str, code: str, hint: str, *, retryable: bool, subject: str | None = None
) -> DeviceError:
    """Return a device error that says whether the same command may succeed later."""
    error = DeviceError(message, code=code, hint=hint, subject=subject)
    error.retryable = retryable
    return error


def one_line(said: object, limit: int = 200) -> str:
    """Return what another machine said, as one line of a message that steers no terminal."""
    data = said if isinstance(said, bytes) else str(said).encode("utf-8", "replace")
    return " ".join(printable(data).split())[:limit]


def stalled(what: str, seconds: float) -> DeviceError:
    """Return the error of a command that makes no progress (E404): it ``what`` for so long."""
    return failure(
        f"the command {what} for {seconds:g} s",
        "E404",
        "see whether the device is overloaded or out of memory, and try again",
        retryable=True,
    )


def dial(
    host: str,
    port: int,
    patience: Patience,
    *,
    family: socket.AddressFamily = socket.AF_UNSPEC,
    source: str | None = None,
) -> socket.socket:
    """Return a TCP connection to the first address of ``host`` that takes one.

    Args:
        host: Name or address.
        port: Its port.
        patience: ``dial_s`` bounds the whole.
        family: Limits the addresses to IPv4 or IPv6.
        source: Address of this machine to come from.

    Raises:
        DeviceError: The name is unknown, no address answers (E401), or every one refuses (E402).
    """
    deadline = time.monotonic() + patience.dial_s
    addresses = _resolve(host, port, family, patience.dial_s)
    failed: OSError = TimeoutError(errno.ETIMEDOUT, "")
    for at, (kind, address) in enumerate(addresses):
        # Each address gets its share, so that one that swallows packets hides none behind it.
        share = (deadline - time.monotonic()) / (len(addresses) - at)
        if share <= 0:
            break
        made = socket.socket(kind, socket.SOCK_STREAM)
        try:
            made.settimeout(share)
            if source is not None:
                made.bind((source, 0))
            made.connect(address)
        except OSError as error:
            made.close()
            failed = error
            continue
        _set_up(made, patience)
        return made
    raise _not_reached(host, port, failed, patience.dial_s)


def _set_up(made: socket.socket, patience: Patience) -> None:
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: how long sent bytes may stay unacknowledged
        unacknowledged_ms = int(max(1.0, patience.lost_s - 3.0) * 1000)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unacknowledged_ms)


def _resolve(
    host: str, port: int, family: socket.AddressFamily, seconds: float
) -> list[tuple[socket.AddressFamily, Any]]:
    """Return the addresses of a name; the resolver has no time limit of its own."""
    found: list[Any] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    worker = threading.Thread(target=look_up, daemon=True)
    worker.start()
    worker.join(seconds)
    answer = found[0] if found else TimeoutError(errno.ETIMEDOUT, "")
    if isinstance(answer, Exception):
        later = not found or getattr(answer, "errno", None) == socket.EAI_AGAIN
        why = "no name server answers" if later else "the name is unknown"
        raise failure(
            f"cannot find {host}: {why}",
            "E401",
            "check `host` in devices.yaml, the network and the name server",
            retryable=later,
        )
    return [(entry[0], entry[4]) for entry in answer]


def _not_reached(host: str, port: int, error: OSError, seconds: float) -> DeviceError:
    where = f"{host} port {port}"
    if isinstance(error, ConnectionRefusedError):
        return failure(
            f"{where} refuses the connection",
            "E402",
            "the machine is there: see whether its SSH server runs, and on which port",
            retryable=True,
        )
    if isinstance(error, TimeoutError):
        return failure(
            f"{where} does not answer within {seconds:g} s",
            "E401",
            "see whether the device is on and in this network, and no firewall drops the packets",
            retryable=True,
        )
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN):
        return failure(
            f"there is no route to {where}",
            "E401",
            "see whether the device is on, and this machine in its network (VPN, Wi-Fi)",
            retryable=True,
        )
    return failure(
        f"cannot connect to {where}: {error.strerror or error}",
        "E401",
        "check `host` and `port` in devices.yaml, and the network of this machine",
        retryable=False,
    )
