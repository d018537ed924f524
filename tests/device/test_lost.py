"""Links that break: every call that waits for a device ends, with E403, in bounded time."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgedeploy.devices.connect import connect
from edgedeploy.devices.link import PATIENCE, Patience
from edgedeploy.errors import DeviceError
from edgedeploy.remote import Pipe, Remote
from tests.lab.proxy import Proxy
from tests.lab.sshd import Sshd, free_port, running

QUICK = Patience(ask_s=0.2, lost_s=0.8)
PATIENT = Patience(ask_s=0.3, lost_s=3.0)  # for links that live, on a busy machine
SLACK = 3.0  # for a busy machine: bounds are against hanging, not about speed


def behind(sshd: Sshd, proxy: Proxy, patience: Patience = QUICK) -> Remote:
    """Connect to the server through a proxy."""
    sshd.configure(f"HostKeyAlias [127.0.0.1]:{sshd.port}")
    return connect(sshd.device(port=proxy.port), patience=patience)


def write_on(pipe: Pipe) -> None:
    """Write until it fails."""
    while True:
        pipe.write(bytes(1 << 20))


def open_later(remote: Remote) -> None:
    """Start a command once the link is broken."""
    time.sleep(0.5)
    remote.open("true").read()


def run_later(remote: Remote) -> None:
    """Run a command once the link is broken."""
    time.sleep(0.5)
    remote.run("true", timeout_s=40.0)


WAITS: dict[str, tuple[str, Callable[[Remote, Pipe], object]]] = {
    "read without limit": ("sleep 60", lambda remote, pipe: pipe.read(stall_s=None)),
    "read": ("sleep 60", lambda remote, pipe: pipe.read(stall_s=40.0)),
    "write": ("sleep 60", lambda remote, pipe: write_on(pipe)),
    "wait": ("exec >&- 2>&-; sleep 60", lambda remote, pipe: pipe.wait(40.0)),
    "open": ("sleep 60", lambda remote, pipe: open_later(remote)),
    "run": ("sleep 60", lambda remote, pipe: run_later(remote)),
}


BREAKS: dict[str, Callable[[Proxy], None]] = {
    "silence": lambda proxy: setattr(proxy, "silent", True),
    "cut": Proxy.cut,
}


@pytest.mark.parametrize("call", WAITS)
@pytest.mark.parametrize("how", BREAKS)
def test_f138_no_call_outlives_its_link(sshd: Sshd, call: str, how: str) -> None:
    command, wait = WAITS[call]
    with Proxy(sshd.host, sshd.port) as proxy:
        remote = behind(sshd, proxy)
        pipe = remote.open(command)
        threading.Timer(0.2, BREAKS[how], [proxy]).start()
        started = time.monotonic()
        with pytest.raises(DeviceError) as caught:
            wait(remote, pipe)
        took = time.monotonic() - started
        assert caught.value.diagnostics[0].code == "E403" and caught.value.retryable
        assert took < SLACK * (0.5 + QUICK.lost_s)
        pipe.close()
        remote.close()


def test_f138_with_the_real_limits_every_call_ends_within_15_s(sshd: Sshd) -> None:
    ended: dict[str, tuple[float, str]] = {}
    with Proxy(sshd.host, sshd.port) as proxy, ExitStack() as stack:
        threads = []
        for call, (command, wait) in WAITS.items():
            # A connection each: a full buffer ends one sooner than silence does.
            remote = behind(sshd, proxy, PATIENCE)
            stack.callback(remote.close)

            def work(
                call: str = call,
                wait: Callable[[Remote, Pipe], object] = wait,
                remote: Remote = remote,
                pipe: Pipe = remote.open(command),  # noqa: B008
            ) -> None:
                started = time.monotonic()
                try:
                    wait(remote, pipe)
                except DeviceError as error:
                    ended[call] = (time.monotonic() - started, error.diagnostics[0].code)

            threads.append(threading.Thread(target=work, daemon=True))
        proxy.silent = True
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert set(ended) == set(WAITS)
    assert {code for _, code in ended.values()} == {"E403"}
    assert max(seconds for seconds, _ in ended.values()) <= 15.0, ended


def test_f138_a_killed_session_is_noticed_at_once(sshd: Sshd) -> None:
    remote = connect(sshd.device())
    pipe = remote.open("sleep 60")
    threading.Timer(0.2, sshd.kill_sessions).start()
    started = time.monotonic()
    with pytest.raises(DeviceError) as caught:
        pipe.read(stall_s=None)
    assert caught.value.diagnostics[0].code == "E403"
    assert time.monotonic() - started < 5
    with pytest.raises(DeviceError):
        pipe.wait(5)
    remote.close()


def test_a_silent_command_on_a_living_link_is_not_lost(sshd: Sshd) -> None:
    remote = connect(sshd.device(), patience=PATIENT)
    pipe = remote.open("sleep 4; echo done")
    assert pipe.read(stall_s=None) == b"done\n"
    assert pipe.wait(5) == 0
    remote.close()


def test_f139_a_slow_link_is_not_a_lost_one(sshd: Sshd) -> None:
    """Bytes that take longer to arrive than silence may last, through a large buffer."""
    with Proxy(sshd.host, sshd.port) as proxy:
        proxy.rate_bytes_s, proxy.delay_s = 500e3, 0.05
        remote = behind(sshd, proxy, PATIENT)
        pipe = remote.open("cat | wc -c")
        pipe.write(bytes(2_000_000))
        pipe.end_input()
        assert pipe.read(stall_s=30.0).strip() == b"2000000"
        assert proxy.sent >= 2_000_000
        remote.close()


def test_a_link_that_comes_back_in_time_goes_on(sshd: Sshd) -> None:
    with Proxy(sshd.host, sshd.port) as proxy:
        remote = behind(sshd, proxy, Patience(ask_s=0.3, lost_s=8.0))
        pipe = remote.open("cat")
        proxy.silent = True
        threading.Timer(1.0, lambda: setattr(proxy, "silent", False)).start()
        pipe.write(b"late")
        assert pipe.read(stall_s=20.0) == b"late"
        remote.close()


def test_a_device_that_vanishes_behind_its_jump_host(sshd: Sshd, tmp_path: Path) -> None:
    """TCP to the jump host lives on; only the device's silence tells."""
    with running(tmp_path / "jump") as jump, Proxy(sshd.host, sshd.port) as proxy:
        (jump.folder / "authorized_keys").write_bytes(
            (sshd.folder / "authorized_keys").read_bytes()
        )
        key = sshd.known_hosts.read_text().split(None, 1)[1]
        sshd.known_hosts.write_text(f"[127.0.0.1]:{proxy.port} {key}{jump.known_hosts.read_text()}")
        device = sshd.device(port=proxy.port, jump=f"127.0.0.1:{jump.port}")
        remote = connect(device, patience=QUICK)
        pipe = remote.open("sleep 60")
        proxy.silent = True
        with pytest.raises(DeviceError, match="has not been heard of") as caught:
            pipe.read(stall_s=None)
        assert caught.value.diagnostics[0].code == "E403"
        remote.close()


def test_a_link_that_breaks_while_connecting(sshd: Sshd) -> None:
    with Proxy(sshd.host, sshd.port) as proxy:
        proxy.silent = True
        started = time.monotonic()
        with pytest.raises(DeviceError) as caught:
            behind(sshd, proxy, Patience(greet_s=1.0))
        assert caught.value.diagnostics[0].code == "E408" and caught.value.retryable
        assert time.monotonic() - started < 8


def test_a_server_that_is_stopped_and_started(sshd: Sshd) -> None:
    sshd.stop()
    with pytest.raises(DeviceError) as caught:
        connect(sshd.device())
    assert caught.value.diagnostics[0].code == "E402" and caught.value.retryable
    sshd.start()
    connect(sshd.device()).close()


def test_the_proxy_counts_and_cuts(sshd: Sshd) -> None:
    with Proxy(sshd.host, sshd.port) as proxy:
        remote = behind(sshd, proxy)
        before = proxy.round_trips
        pipe = remote.open("cat")
        pipe.write(b"x")
        assert pipe.read() == b"x"
        assert 1 <= proxy.round_trips - before <= 4
        proxy.cut_at = proxy.sent + 1_000_000
        with pytest.raises(DeviceError):
            write_on(pipe)
        assert proxy.sent < 8_000_000 and proxy.connections == 1
        remote.close()
        proxy.refusing = True
        with pytest.raises(DeviceError) as caught:
            behind(sshd, proxy)
        assert caught.value.diagnostics[0].code == "E408"
    assert free_port()
