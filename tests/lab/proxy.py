"""A TCP proxy on 127.0.0.1 that makes a network bad: slow, far, cut, silent or wrong.

For tests without root, and for what the kernel lacks (delay needs netem). One thread for each
direction of each connection; what it measures in bytes is what clients and server sent.
"""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

CHUNK_BYTES = 1 << 16


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
        spoil: Called with the bytes of a client that are about to be passed on and their offset in
            the connection; returns what is passed on instead. None passes all as it is.
        sent: Bytes from clients that were passed on.
        received: Bytes from the server that were passed on.
        connections: How many were accepted.
    """

    def __init__(self, host: str, port: int) -> None:
        """Listen for connections to `host`:`port`."""
        self.delay_s = 0.0
        self.rate_bytes_s: float | None = None
        self.silent = False
        self.spoil: Callable[[bytes, int], bytes] | None = None
        self.sent = self.received = self.connections = 0
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
            self.connections += 1
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
            self._pump(connection, upwards=True)
            self._pump(connection, upwards=False)

    def _pump(self, connection: _Connection, *, upwards: bool) -> None:
        """Start the two threads of one direction: one reads, one waits and writes."""
        source, goal = connection.client, connection.server
        if not upwards:
            source, goal = goal, source
        # Bounded, so that a slow link pushes back on its sender; a far one must hold more.
        waiting: queue.Queue[tuple[float, bytes]] = queue.Queue(maxsize=256)

        def read() -> None:
            data = b"-"
            while data:
                try:
                    data = source.recv(CHUNK_BYTES)
                except OSError:
                    data = b""
                waiting.put((time.monotonic() + self.delay_s, data))

        def write() -> None:
            offset, free_at = 0, 0.0
            while True:
                due, data = waiting.get()
                if not data:
                    break
                _sleep_until(max(due, free_at))
                while self.silent and source.fileno() >= 0:
                    time.sleep(0.02)
                if upwards and self.spoil is not None:
                    data = self.spoil(data, offset)
                if self.rate_bytes_s:
                    free_at = time.monotonic() + len(data) / self.rate_bytes_s
                offset += len(data)
                try:
                    goal.sendall(data)
                except OSError:
                    break
                if upwards:
                    self.sent += len(data)
                else:
                    self.received += len(data)
            self._end(connection, goal)

        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()

    def _end(self, connection: _Connection, goal: socket.socket) -> None:
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
