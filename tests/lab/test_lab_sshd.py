"""The server that any user can start, and the proxy that spoils its network."""

import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.lab import capabilities
from tests.lab.proxy import Proxy, Tarpit
from tests.lab.sshd import Sshd, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One for the file: no test changes its settings."""
    capabilities.require("sshd")
    with running(tmp_path_factory.mktemp("server") / "sshd") as made:
        yield made


def ssh(server: Sshd, command: str, port: int | None = None, stdin: bytes = b""):
    """Run a command through the system's own client."""
    return subprocess.run(
        [*server.ssh(port), command], input=stdin, capture_output=True, timeout=30
    )


def test_a_session_sees_the_home_of_the_server(server: Sshd) -> None:
    """So that no test touches the user's own files."""
    done = ssh(server, "echo $HOME ~; echo x > ~/made")
    assert done.stdout.decode().split() == [str(server.home)] * 2, done.stderr
    assert (server.home / "made").read_text() == "x\n"


def test_sessions_can_be_killed_and_the_server_goes_on(server: Sshd) -> None:
    """Row 4 of a push that is cut: the session dies, the listener stays."""
    with Proxy(server.host, server.port) as proxy:
        line = socket.create_connection((proxy.host, proxy.port))
        assert line.recv(4) == b"SSH-"
        assert server.sessions()
        server.kill_sessions()
        line.settimeout(10)
        while line.recv(1000):
            pass
    assert ssh(server, "true").returncode == 0


def test_a_stopped_server_refuses_and_comes_back_on_its_port(server: Sshd) -> None:
    """As `systemctl stop ssh` and start."""
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port))
    server.start()
    assert ssh(server, "echo back").stdout == b"back\n"


def test_the_proxy_passes_a_session_and_counts_it(server: Sshd) -> None:
    """At least the bytes of the payload pass, and no more than SSH's framing adds."""
    with Proxy(server.host, server.port) as proxy:
        done = ssh(server, "head -c 3000000 /dev/zero", port=proxy.port)
        assert len(done.stdout) == 3_000_000 and done.returncode == 0
        assert 3_000_000 < proxy.received < 3_200_000 and proxy.connections == 1


def test_the_proxy_delays_and_limits(server: Sshd) -> None:
    """An echo takes two delays at least; a rate spreads bytes over time."""
    with Proxy(server.host, server.port) as proxy:
        proxy.delay_s = 0.1
        start = time.monotonic()
        with socket.create_connection((proxy.host, proxy.port)) as line:
            assert line.recv(4) == b"SSH-"
        assert time.monotonic() - start >= 0.1
        proxy.delay_s, proxy.rate_bytes_s = 0.0, 1e6
        start = time.monotonic()
        assert ssh(server, "head -c 1000000 /dev/zero", port=proxy.port).returncode == 0
        assert time.monotonic() - start >= 0.9


def test_the_proxy_cuts_and_goes_silent(server: Sshd) -> None:
    """A reset is an error at once; silence is neither data nor an end."""
    with Proxy(server.host, server.port) as proxy:
        with socket.create_connection((proxy.host, proxy.port)) as line:
            line.recv(4)
            proxy.cut()
            line.settimeout(10)
            with pytest.raises(ConnectionResetError):
                while line.recv(1000):
                    pass
        proxy.silent = True
        with socket.create_connection((proxy.host, proxy.port)) as line:
            line.settimeout(0.5)
            with pytest.raises(TimeoutError):
                line.recv(4)
            proxy.silent = False
            line.settimeout(10)
            assert line.recv(4) == b"SSH-"


def test_the_proxy_spoils_what_it_is_told_to(server: Sshd) -> None:
    """A byte that is changed on the way is noticed by SSH: its own check, not ours."""
    with Proxy(server.host, server.port) as proxy:

        def flip(data: bytes, offset: int) -> bytes:
            at = 20_000 - offset
            if not 0 <= at < len(data):
                return data
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

        proxy.spoil = flip
        done = ssh(server, "cat > /dev/null", port=proxy.port, stdin=bytes(100_000))
        assert done.returncode == 255


def test_a_tarpit_says_nothing() -> None:
    """It accepts and stays silent, like a server that hangs."""
    with Tarpit() as pit, socket.create_connection((pit.host, pit.port), timeout=5) as line:
        line.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line.recv(1)
