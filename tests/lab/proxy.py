"""A TCP proxy on 127.0.0.1 that makes a network bad: slow, far, cut, silent or wrong.

For tests without root, and for what the kernel lacks (delay needs netem). Two threads for each
direction of each connection; what it measures in bytes is what clients and server sent.
"""

import collections
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

CHUNK_BYTES = 1 << 16

# What is under way in one direction: a slow link pushes back on its sender, a far one holds more
# than it passes in its delay (20 ms of 200 MB/s are 4 MB).
_UNDER_WAY_BYTES = 8 << 20


@dataclass(eq=False, slots=True)
class _Connection:
    """The two sockets of one connection, and how many of its directions have ended."""

    client: socket.socket
    server: socket.socket
    ended: int = 0


class Proxy:
    """Forwards connections to a server; every fault can be set while connections are open.

    Attributes:
        host: `127.0.0.1`.
        port: Where it listens.
        delay_s: How much later each byte arrives, per direction.
        rate_bytes_s: The most that passes per second and direction; None for no limit.
        silent: While True nothing passes, and nothing is closed: a cut cable.
        refusing: While True new connections are closed at once.
        spoil: Called with the bytes of a client that are about to be passed on and their offset in
            the connection; returns what is passed on instead. None passes all as it is.
        cut_at: Resets everything once when `sent` comes to this; None for never.
        sent: Bytes from clients that were passed on.
        received: Bytes from the server that were passed on.
        connections: How many were accepted and reached the server.
        round_trips: How often the server answered after a client had spoken.
    """

    def __init__(self, host: str, port: int) -> None:
        """Listen for connections to `host`:`port`."""
        self.delay_s = 0.0
        self.rate_bytes_s: float | None = None
        self.silent = self.refusing = False
        self.spoil: Callable[[bytes, int], bytes] | None = None
        self.cut_at: int | None = None
        self.sent = self.received = self.connections = self.round_trips = 0
        self._client_spoke = False
        self._goal = (host, port)
        self._open: set[_Connection] = set()
        self._guard = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def cut(self) -> None:
        """Reset every open connection (RST, not FIN)."""
        with self._guard:
            connections, self._open = self._open, set()
        for line in [line for each in connections for line in (each.client, each.server)]:
            with contextlib.suppress(OSError):
                # Linger for 0 s: closing sends a reset.
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                line.shutdown(socket.SHUT_RD)
            line.close()

    def close(self) -> None:
        """Stop listening and reset what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(self._goal, timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for line in (client, server):
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(client, server)
            with self._guard:
                self._open.add(connection)
                self.connections += 1
            for upwards in (True, False):
                way = _Way(self, connection, upwards=upwards)
                threading.Thread(target=way.read, daemon=True).start()
                threading.Thread(target=way.write, daemon=True).start()

    def count(self, size: int, *, upwards: bool) -> None:
        """Count bytes that were passed on; called by the directions."""
        with self._guard:
            if upwards:
                self.sent += size
            else:
                self.received += size
                self.round_trips += self._client_spoke
            self._client_spoke = upwards
            due = self.cut_at is not None and self.sent >= self.cut_at
            if due:
                self.cut_at = None
        if due:
            self.cut()

    def end(self, connection: _Connection, goal: socket.socket) -> None:
        """Pass the end of one direction on; the second one closes both sockets."""
        with self._guard:
            if connection not in self._open:
                return  # cut, which is no orderly end
            with contextlib.suppress(OSError):
                goal.shutdown(socket.SHUT_WR)
            connection.ended += 1
            if connection.ended == 2:
                self._open.discard(connection)
                connection.client.close()
                connection.server.close()


class _Way:
    """One direction of one connection: what was read waits until its time has come."""

    def __init__(self, proxy: Proxy, connection: _Connection, *, upwards: bool) -> None:
        self._proxy = proxy
        self._connection = connection
        self._upwards = upwards
        self._source, self._goal = connection.client, connection.server
        if not upwards:
            self._source, self._goal = self._goal, self._source
        self._waiting: collections.deque[tuple[float, bytes]] = collections.deque()
        self._bytes = 0
        self._over = False  # nobody takes any more
        self._changed = threading.Condition()

    def read(self) -> None:
        """Read until the end, no faster than the other thread writes."""
        data = b"-"
        while data:
            try:
                data = self._source.recv(CHUNK_BYTES)
            except OSError:
                data = b""
            with self._changed:
                self._waiting.append((time.monotonic() + self._proxy.delay_s, data))
                self._bytes += len(data)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._over or self._bytes < _UNDER_WAY_BYTES)
                if self._over:
                    return

    def write(self) -> None:
        """Pass on what was read, when the faults let it."""
        offset, free_at = 0, 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                due, data = self._waiting.popleft()
                self._bytes -= len(data)
                self._changed.notify_all()
            if not data:
                break
            _sleep_until(max(due, free_at))
            while self._proxy.silent and self._source.fileno() >= 0:
                time.sleep(0.02)
            if self._upwards and self._proxy.spoil is not None:
                data = self._proxy.spoil(data, offset)
            if self._proxy.rate_bytes_s:
                free_at = time.monotonic() + len(data) / self._proxy.rate_bytes_s
            offset += len(data)
            try:
                self._goal.sendall(data)
            except OSError:
                break
            self._proxy.count(len(data), upwards=self._upwards)
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._proxy.end(self._connection, self._goal)


class Tarpit:
    """A server that accepts connections and never says a word.

    Attributes:
        host: `127.0.0.1`.
        port: Where it listens.
    """

    def __init__(self) -> None:
        """Start to listen; the kernel alone answers, nobody accepts."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.host, self.port = self._listener.getsockname()

    def __enter__(self) -> "Tarpit":
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()


def _sleep_until(moment: float) -> None:
    left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)
