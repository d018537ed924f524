"""The wire that notices silence, driven by a clock of the test."""

import errno
import socket

import pytest

from edgedeploy.devices.link import Patience, Wire, dial
from edgedeploy.errors import DeviceError

PATIENCE = Patience(ask_s=5.0, lost_s=13.0)


class Line:
    """A socket whose calls time out, or give what the test put in, while a clock goes on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.5
        self.incoming: dict[float, bytes] = {}
        self.takes = True
        self.asked: list[float] = []
        self.closed = False

    def clock(self) -> float:
        return self.now

    def recv(self, count: int) -> bytes:
        self.now += self.step
        for due in sorted(self.incoming):
            if due <= self.now:
                return self.incoming.pop(due)
        raise TimeoutError

    def send(self, data: bytes) -> int:
        self.now += self.step
        if not self.takes:
            raise TimeoutError
        return len(data)

    def settimeout(self, seconds: float | None) -> None: ...

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def wire(line: Line) -> Wire:
    made = Wire(line, PATIENCE, line.clock)
    made.watch(lambda: line.asked.append(line.now))
    return made


def listen(wire: Wire, line: Line, until: float) -> bytes | None:
    """Receive until something comes, or a time of the clock."""
    while line.now < until:
        try:
            return wire.recv(10)
        except TimeoutError:
            continue
    return None


def test_a_silent_side_is_asked_and_then_given_up(wire: Wire, line: Line) -> None:
    assert listen(wire, line, 60) == b""
    assert 13.0 < line.now <= 14.0 and wire.fell_silent
    assert line.asked[0] <= 6.0 and len(line.asked) == 2
    assert wire.recv(10) == b""
    with pytest.raises(ConnectionAbortedError):
        wire.send(b"x")


def test_an_answer_keeps_it_alive(wire: Wire, line: Line) -> None:
    for at in range(6, 100, 6):
        line.incoming[at] = b"answer"
    while line.now < 90:
        assert listen(wire, line, 90) in (b"answer", None)
    assert not wire.fell_silent and len(line.asked) >= 10


def test_before_it_is_watched_nobody_is_asked(line: Line) -> None:
    wire = Wire(line, PATIENCE, line.clock)
    assert listen(wire, line, 60) is None and not wire.fell_silent


def test_a_process_that_slept_does_not_blame_the_other_side(wire: Wire, line: Line) -> None:
    listen(wire, line, 3)
    line.now += 3600
    line.incoming[line.now + 2] = b"still here"
    assert listen(wire, line, line.now + 12) == b"still here"


def test_a_full_buffer_that_drains_is_a_sign_of_life(wire: Wire, line: Line) -> None:
    for _ in range(5):
        line.takes = False
        for _ in range(20):  # 10 s
            with pytest.raises(TimeoutError):
                wire.send(b"x")
        line.takes = True
        assert wire.send(b"x") == 1
    line.takes = False
    with pytest.raises(ConnectionAbortedError):
        while True:
            try:
                wire.send(b"x")
            except TimeoutError:
                continue
    assert wire.fell_silent


def test_sending_into_an_empty_buffer_is_no_sign_of_life(wire: Wire, line: Line) -> None:
    with pytest.raises(ConnectionAbortedError):
        while line.now < 60:
            wire.send(b"x")
            with pytest.raises(TimeoutError):
                if wire.recv(1) == b"":
                    raise TimeoutError
    assert line.now < 16


def test_closing_closes(wire: Wire, line: Line) -> None:
    wire.close()
    wire.close()
    assert line.closed


@pytest.mark.parametrize(
    ("number", "said", "code", "retryable"),
    [
        (errno.ECONNREFUSED, "refuses", "E402", True),
        (errno.EHOSTUNREACH, "no route", "E401", True),
        (errno.ENETUNREACH, "no route", "E401", True),
        (errno.ETIMEDOUT, "does not answer", "E401", True),
        (errno.EACCES, "ermission", "E401", False),
    ],
)
def test_f133_each_way_of_not_being_there(
    monkeypatch: pytest.MonkeyPatch, number: int, said: str, code: str, retryable: bool
) -> None:
    class Deaf(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError(
                number, errno.errorcode[number] if number != errno.EACCES else "Permission"
            )

    monkeypatch.setattr(socket, "socket", Deaf)
    with pytest.raises(DeviceError, match=said) as caught:
        dial("127.0.0.1", 22, PATIENCE)
    assert caught.value.diagnostics[0].code == code and caught.value.retryable is retryable


@pytest.mark.parametrize(
    ("number", "retryable"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)]
)
def test_f133_names_that_are_not_found(
    monkeypatch: pytest.MonkeyPatch, number: int, retryable: bool
) -> None:
    def fails(*arguments: object) -> None:
        raise socket.gaierror(number, "x")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(DeviceError, match="cannot find pi") as caught:
        dial("pi", 22, PATIENCE)
    assert caught.value.diagnostics[0].code == "E401" and caught.value.retryable is retryable


def test_f133_a_resolver_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: threading.Event().wait(20))
    with pytest.raises(DeviceError, match="name server") as caught:
        dial("pi", 22, Patience(dial_s=0.2))
    assert caught.value.retryable


def test_f133_an_address_that_swallows_packets_hides_none_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound, and nobody listens: refused at once
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", deaf.getsockname()),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", server.getsockname()),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: addresses)
        made = dial("pi", 22, PATIENCE)
        assert made.getpeername() == server.getsockname()
        made.close()
