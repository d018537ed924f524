"""A TCP proxy on this machine that does to a connection what networks do.

It forwards until it is told to stall (bytes wait, nothing is closed: a cut cable), to cut (both
ends are closed) or to refuse; it can be slow in both ways: late (delay) and narrow (rate). It
counts bytes, and round trips: how often the direction changed from the client to the server.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

_CHUNK = 1 << 16
_BACKLOG_BYTES = 4 << 20  # under way at most, so that a stalled proxy does not swallow everything


class Proxy:
    """Forwards connections to one address.

    Attributes:
        port: On 127.0.0.1.
        sent: Bytes from clients to the server.
        received: Bytes from the server to clients.
        round_trips: How often the server answered after the client had spoken.
        connections: How many were made.
        delay_s: One way; may be changed while it runs.
        bytes_per_s: In each direction; None for no limit.
    """

    def __init__(
        self, goal: tuple[str, int], *, delay_s: float = 0.0, bytes_per_s: float | None = None
    ) -> None:
        self.delay_s = delay_s
        self.bytes_per_s = bytes_per_s
        self.sent = self.received = self.round_trips = self.connections = 0
        self._goal = goal
        self._last = "server"
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._cut_after: int | None = None
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """Forward nothing any more, and close nothing: a cable that was pulled out."""
        self._flowing.clear()

    def resume(self) -> None:
        """Forward again, what waited first."""
        self._flowing.set()

    def cut(self) -> None:
        """Close every connection now; new ones are taken."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            _close(end)

    def cut_after(self, sent: int) -> None:
        """Cut once when this many bytes in all went from clients to the server."""
        self._cut_after = sent

    def refuse(self, refusing: bool = True) -> None:
        """Close new connections at once, or take them again."""
        self._refusing = refusing

    def close(self) -> None:
        """End everything."""
        _close(self._listener)
        self.resume()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                _close(client)
                continue
            try:
                server = socket.create_connection(self._goal, 10)
            except OSError:
                _close(client)
                continue
            server.settimeout(None)
            self.connections += 1
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            for source, goal, side in ((client, server, "client"), (server, client, "server")):
                way = _Way(self, source, goal, side)
                threading.Thread(target=way.read, daemon=True).start()
                threading.Thread(target=way.write, daemon=True).start()

    def wait_until_flowing(self) -> None:
        """Wait while the proxy is stalled."""
        self._flowing.wait()

    def count(self, side: str, count: int) -> None:
        """Count bytes that went on."""
        with self._lock:
            if side == "client":
                self.sent += count
            else:
                self.received += count
                self.round_trips += self._last == "client"
            self._last = side
            due = self._cut_after is not None and self.sent >= self._cut_after
            if due:
                self._cut_after = None
        if due:
            self.cut()


class _Way:
    """One direction of one connection: what was read waits until its time has come."""

    def __init__(self, proxy: Proxy, source: socket.socket, goal: socket.socket, side: str) -> None:
        self._proxy = proxy
        self._source = source
        self._goal = goal
        self._side = side
        self._waiting: list[tuple[float, bytes]] = []
        self._bytes = 0
        self._changed = threading.Condition()

    def read(self) -> None:
        while True:
            self._proxy.wait_until_flowing()
            try:
                data = self._source.recv(_CHUNK)
            except OSError:
                data = b""
            with self._changed:
                self._waiting.append((time.monotonic() + self._proxy.delay_s, data))
                self._bytes += len(data)
                self._changed.notify_all()
                if not data:
                    return
                self._changed.wait_for(lambda: self._bytes < _BACKLOG_BYTES)

    def write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                due, data = self._waiting.pop(0)
                self._bytes -= len(data)
                self._changed.notify_all()
            time.sleep(max(0.0, due - time.monotonic()))
            self._proxy.wait_until_flowing()
            try:
                if not data:
                    self._goal.shutdown(socket.SHUT_WR)
                    return
                self._goal.sendall(data)
            except OSError:
                _close(self._source)
                return
            self._proxy.count(self._side, len(data))
            if self._proxy.bytes_per_s is not None:
                time.sleep(len(data) / self._proxy.bytes_per_s)


@contextlib.contextmanager
def through(
    goal: tuple[str, int], *, delay_s: float = 0.0, bytes_per_s: float | None = None
) -> Iterator[Proxy]:
    """Run a proxy in front of an address."""
    proxy = Proxy(goal, delay_s=delay_s, bytes_per_s=bytes_per_s)
    try:
        yield proxy
    finally:
        proxy.close()


def _close(end: socket.socket) -> None:
    """Close a socket for good, also for threads that wait in it."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
