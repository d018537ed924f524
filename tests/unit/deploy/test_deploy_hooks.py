"""The operator's commands, run by real shells: whatever they do, we come back in time."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgedeploy.deploy.fleet import Interrupted, Link
from edgedeploy.deploy.hooks import fetch_command, run_command, wait_until_well
from edgedeploy.devices.local import LocalRemote
from edgedeploy.errors import DeviceError


def link() -> Link:
    return Link("here", LocalRemote)


def hooks(health=None, health_url=None, timeout_s=5.0, restart=None):
    return SimpleNamespace(
        restart=restart, health=health, health_url=health_url, timeout_s=timeout_s
    )


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def gone(pid: int) -> bool:
    """Return whether a process ends soon."""
    deadline = time.monotonic() + 15
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("echo well", 0, "well"),
        ("echo why >&2; exit 3", 3, "why"),
        ("kill -9 $$", 137, ""),
        ("printf '\\033[2J\\033]0;owned\\007red\\r\\n'", 0, "?[2J?]0;owned?red?"),
        ("no-such-program-here", 127, "not found"),
        ("cat", 0, ""),  # our input is not its
        ("head -c 100000 /dev/zero | tr '\\0' x; echo; echo end", 0, "x end"),
    ],
)
def test_end_and_words_of_a_command(command, status, said):
    ended = run_command(link(), command, 10)
    assert ended.status == status
    assert said in ended.said and len(ended.said) <= 300
    assert ended.said.isprintable()


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path):
    started = time.monotonic()
    ended = run_command(link(), f"sleep 60 & echo $! > {tmp_path}/pid; wait", 0.5)
    assert ended.status is None and "did not end" in str(ended)
    assert time.monotonic() - started < 10  # well before its 60 s
    assert gone(int((tmp_path / "pid").read_text()))


def test_endless_output_is_cut_off():
    with pytest.raises(DeviceError) as caught:
        run_command(link(), "yes", 60)
    assert caught.value.diagnostics[0].code == "E405"


@pytest.mark.skipif(not shutil.which("setsid"), reason="needs macOS")
def test_a_service_left_behind_is_not_waited_for_and_lives(tmp_path):
    started = time.monotonic()
    ended = run_command(link(), f"sleep 30 & echo $! > {tmp_path}/pid", 20)
    assert ended.status == 0 and time.monotonic() - started < 10
    pid = int((tmp_path / "pid").read_text())
    time.sleep(1.2)  # longer than a command that hangs is given
    assert alive(pid)
    os.kill(pid, 9)


def test_an_interruption_ends_a_wait_within_a_second():
    one = link()
    timer = threading.Timer(0.3, one.interrupt)
    with one.settling():
        timer.start()
        started = time.monotonic()
        with pytest.raises(Interrupted):
            run_command(one, "sleep 60", 60)
        assert time.monotonic() - started < 3
        # What puts things right afterwards runs all the same.
        assert run_command(one, "exit 4", 5, until_interrupted=False).status == 4


def test_health_is_asked_again_until_it_is_well(tmp_path):
    count = tmp_path / "count"
    command = f"echo x >> {count}; test $(wc -l < {count}) -ge 3"
    ((name, ended),) = wait_until_well(link(), hooks(health=command, timeout_s=20))
    assert (name, ended.status) == ("health", 0)
    assert len(count.read_text().split()) == 3


def test_health_that_never_comes_ends_in_time():
    started = time.monotonic()
    ((_, ended),) = wait_until_well(link(), hooks(health="echo no; exit 1", timeout_s=2))
    assert (ended.status, ended.said) == (1, "no")
    assert time.monotonic() - started < 6


class _Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


@pytest.mark.parametrize("client", ["curl", "wget", "python3", None])
def test_a_url_is_fetched_on_the_device_with_what_is_there(server, tmp_path, client):
    """The same command, with one client in PATH at a time."""
    if client and not shutil.which(client):
        pytest.skip(f"needs a device with {client}")
    for name in ("sh", client):
        if name:
            real = sys.executable if name == "python3" else shutil.which(name)
            (tmp_path / name).symlink_to(Path(real).resolve())
    ask = functools.partial(run_command, link(), timeout_s=20)
    found = [
        ask(f"PATH={tmp_path}; {fetch_command(server + path, 5)}").status
        for path in ("/health", "/sick")
    ]
    assert found[0] == (0 if client else 97)
    assert found[1] != 0


def test_url_and_command_must_both_be_well(server):
    found = wait_until_well(link(), hooks("true", f"{server}/health"))
    assert [(name, ended.status) for name, ended in found] == [("health", 0), ("health_url", 0)]
    found = wait_until_well(link(), hooks("true", f"{server}/sick", timeout_s=1))
    assert [name for name, _ in found] == ["health", "health_url"] and found[1][1].status != 0
