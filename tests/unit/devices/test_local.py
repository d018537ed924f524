"""This machine, and a folder of it, as devices."""

import os
import threading
import time
from pathlib import Path

import pytest

from edgedeploy import remote as seam
from edgedeploy.devices.connect import connect
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.local import LocalRemote
from edgedeploy.errors import DeviceError
from edgedeploy.remote import Reader, get_file, put_file


@pytest.fixture
def remote() -> LocalRemote:
    return LocalRemote()


def test_a_command_has_input_output_and_status(remote: LocalRemote) -> None:
    done = remote.run("cat; echo there >&2; exit 3", stdin=b"hello")
    assert (done.status, done.stdout, done.stderr) == (3, b"hello", b"there\n")
    assert remote.run("kill -9 $$").status == 137
    assert remote.name == "local" and not remote.pretended


def test_large_data_goes_both_ways_at_once(remote: LocalRemote) -> None:
    data = os.urandom(16 << 20)
    assert remote.run("cat", stdin=data, limit_bytes=len(data)).stdout == data


def test_output_and_time_are_bounded(remote: LocalRemote) -> None:
    for command, options, code in [
        ("cat /dev/zero", {"limit_bytes": 100_000}, "E405"),
        ("sleep 30", {"timeout_s": 0.3}, "E404"),
        ("exec >&-; sleep 30", {"timeout_s": 0.3}, "E404"),
    ]:
        with pytest.raises(DeviceError) as caught:
            remote.run(command, **options)  # type: ignore[arg-type]
        assert caught.value.diagnostics[0].code == code


TRICKLE = "while printf x && sleep 0.1; do :; done"


def test_a_trickle_is_given_up(
    remote: LocalRemote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time, and the whole never would."""
    monkeypatch.setattr(seam, "STALL_S", 0.3)
    monkeypatch.setattr(seam, "_GRACE_S", 0.3)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = remote.open(f"({TRICKLE}) > {fifo}")
    started = time.monotonic()
    for wait in (
        lambda: Reader(remote.open(TRICKLE)).exactly(100_000, 0.3),
        lambda: Reader(remote.open(TRICKLE)).line(0.3),
        lambda: get_file(remote, str(fifo), tmp_path / "x", 10_000),
    ):
        with pytest.raises(DeviceError) as error:
            wait()
        assert error.value.diagnostics[0].code == "E404" and error.value.retryable
    writer.close()
    assert time.monotonic() - started < 15


def test_what_is_there_is_read_without_waiting(remote: LocalRemote) -> None:
    reader = Reader(remote.open("head -c 3000000 /dev/zero; echo; echo end"))
    time.sleep(0.5)
    assert len(reader.exactly(3_000_000)) == 3_000_000
    assert [reader.line(1.0), reader.line(1.0)] == [b"", b"end"]


def test_input_that_is_not_taken_is_no_success(
    remote: LocalRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an input must not look like a command that ran well."""
    monkeypatch.setattr("edgedeploy.devices.local.STALL_S", 0.3)
    with pytest.raises(DeviceError) as caught:
        remote.run("sleep 2; wc -c", stdin=bytes(1 << 20))
    assert caught.value.diagnostics[0].code == "E404"


def test_a_command_that_ended_takes_no_input(remote: LocalRemote) -> None:
    pipe = remote.open("exit 7")
    with pytest.raises(BrokenPipeError):
        while True:
            pipe.write(bytes(1 << 20))
    assert pipe.read() == b"" and pipe.wait(5) == 7
    pipe.close()
    assert remote.run("exit 5", stdin=bytes(1 << 20)).status == 5


def test_closing_ends_what_runs_and_leaves_what_was_left_behind(
    remote: LocalRemote, tmp_path: Path
) -> None:
    pipe = remote.open("sleep 60 & echo $!; wait")
    child = int(pipe.read())
    pipe.close()
    pipe.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z" not in _state(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # What a restart command starts in the background lives on, as it does over SSH.
    done = remote.run(f"(sleep 0.5; touch {tmp_path}/alive) >/dev/null 2>&1 & echo started")
    assert done.stdout == b"started\n"
    while not (tmp_path / "alive").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
    except OSError:
        return "Z"


def test_a_pipe_is_closed_while_others_use_it(remote: LocalRemote) -> None:
    """A closed number may be another file by then: no byte may go astray."""
    for _ in range(3):
        pipe = remote.open("sleep 60")
        ended: list[object] = []

        def read(pipe=pipe, ended=ended) -> None:
            ended.append(pipe.read(stall_s=None))

        def write(pipe=pipe, ended=ended) -> None:
            with pytest.raises(BrokenPipeError):
                while True:
                    pipe.write(bytes(1 << 20))
            ended.append("write")

        threads = [threading.Thread(target=work, daemon=True) for work in (read, write)]
        for thread in threads:
            thread.start()
        pipe.close()
        for thread in threads:
            thread.join(10)
        assert len(ended) == 2


def test_a_fake_device_keeps_what_is_pushed_and_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    device = Device(name="pretend", kind="fake", facts={"arch": "aarch64"})
    remote = connect(device)
    assert remote.pretended and remote.name == "pretend"
    home = tmp_path / "cache/edgedeploy/fake/pretend"
    assert remote.run("echo $HOME; pwd").stdout.decode().split() == [str(home)] * 2
    assert home.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_bytes(b"content")
    put_file(remote, tmp_path / "file", str(home / "file"))
    get_file(connect(device), str(home / "file"), tmp_path / "back", 100)
    assert (tmp_path / "back").read_bytes() == b"content"


def test_a_fake_device_is_what_the_inventory_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedeploy.deploy.probe import probe_device
    from edgedeploy.errors import UsageError
    from edgedeploy.store import Store

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = Store(tmp_path / "store")
    remote = connect(Device(name="pretend", kind="fake"))
    claimed = {"arch": "arm64", "cores": 77, "cpu_features": ["asimd"]}
    facts = probe_device(store, remote, claimed=claimed).facts
    assert (facts.arch, facts.cores, facts.cpu_features) == ("arm64", 77, ("asimd",))
    assert facts.system == probe_device(store, remote).facts.system
    for wrong in ({"colour": "red"}, {"gpus": [{"speed": 1}]}):
        with pytest.raises(UsageError) as caught:
            probe_device(store, remote, claimed=wrong)
        assert caught.value.diagnostics[0].code == "E196"


def test_local_is_this_machine() -> None:
    remote = connect(Device(name="local", kind="local"))
    assert remote.run("hostname || uname -n").status == 0 and not remote.pretended
    remote.close()
