"""Connections to a real OpenSSH server: commands, host keys, logging in."""

import logging
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgedeploy.devices.connect import connect
from edgedeploy.devices.link import Patience
from edgedeploy.errors import DeviceError
from edgedeploy.remote import Remote, get_file, put_file
from tests.device.refusing import refused
from tests.lab.sshd import Sshd, free_port, make_key, running

QUICK = Patience(dial_s=1.0, greet_s=1.0, auth_s=5.0)


@pytest.fixture
def remote(sshd: Sshd) -> Iterator[Remote]:
    """The server's device, connected."""
    made = connect(sshd.device())
    yield made
    made.close()


def tried_to_log_in(server: Sshd) -> bool:
    """Whether anybody came as far as naming a user; the log is written when the client leaves."""
    deadline = time.monotonic() + 10
    while "[preauth]" not in server.log():
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.02)
    return "authenticating user" in server.log() or "publickey" in server.log()


def fingerprint(file: Path) -> str:
    """Return what ssh-keygen says of a public key."""
    said = subprocess.run(["ssh-keygen", "-lf", file], capture_output=True, text=True, check=True)
    return said.stdout.split()[1]


# Commands


def test_a_command_has_input_output_and_status(remote: Remote) -> None:
    done = remote.run("cat; echo there >&2; exit 3", stdin=b"hello")
    assert (done.status, done.stdout, done.stderr) == (3, b"hello", b"there\n")
    assert remote.name == "board" and not remote.pretended


def test_commands_run_beside_each_other(remote: Remote) -> None:
    pipes = [remote.open("cat") for _ in range(5)]
    for at, pipe in enumerate(pipes):
        pipe.write(b"%d" % at)
    for pipe in pipes:
        pipe.end_input()
    assert [pipe.read() for pipe in pipes] == [b"0", b"1", b"2", b"3", b"4"]
    assert [pipe.wait(5) for pipe in pipes] == [0] * 5


def test_closing_a_pipe_ends_its_command(remote: Remote, sshd: Sshd) -> None:
    pipe = remote.open("echo $$; while read line; do :; done; touch ~/ended")
    assert pipe.read().strip().isdigit()
    pipe.close()
    pipe.close()
    deadline = time.monotonic() + 10
    while not (sshd.home / "ended").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_large_data_goes_both_ways_at_once(remote: Remote) -> None:
    data = os.urandom(20 << 20)
    pipe = remote.open("cat; echo end >&2")

    def feed() -> None:
        pipe.write(data)
        pipe.end_input()

    feeder = threading.Thread(target=feed)
    feeder.start()
    got = bytearray()
    while chunk := pipe.read():
        got += chunk
    feeder.join(10)
    assert got == data
    assert pipe.wait(5) == 0 and pipe.errors() == b"end\n"


def test_much_on_standard_error_blocks_nothing(remote: Remote) -> None:
    done = remote.run("head -c 30000000 /dev/zero >&2; echo last >&2; echo out", timeout_s=60)
    assert done.stdout == b"out\n"
    assert done.stderr.endswith(b"last\n") and len(done.stderr) <= 64 << 10


def test_files_go_there_and_back(remote: Remote, sshd: Sshd, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    put_file(remote, source, str(sshd.home / "it's here"))
    get_file(remote, str(sshd.home / "it's here"), tmp_path / "back", 4_000_000)
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_silent_command_is_waited_for_as_long_as_told(remote: Remote) -> None:
    pipe = remote.open("read line; echo $line")
    with pytest.raises(DeviceError) as caught:
        pipe.read(stall_s=0.3)
    assert caught.value.diagnostics[0].code == "E404" and caught.value.retryable
    pipe.write(b"go\n")
    assert pipe.read(stall_s=None) == b"go\n"
    pipe.close()


def test_a_command_that_ended_takes_no_input(remote: Remote) -> None:
    pipe = remote.open("exit 7")
    with pytest.raises(BrokenPipeError):
        while True:
            pipe.write(bytes(1 << 20))
    assert pipe.read() == b"" and pipe.wait(5) == 7


def test_output_and_time_of_a_command_are_bounded(remote: Remote) -> None:
    with pytest.raises(DeviceError) as caught:
        remote.run("cat /dev/zero", limit_bytes=100_000)
    assert caught.value.diagnostics[0].code == "E405"
    with pytest.raises(DeviceError) as caught:
        remote.run("sleep 30", timeout_s=0.5)
    assert caught.value.diagnostics[0].code == "E404"
    assert remote.run("echo fine").stdout == b"fine\n"


def test_a_command_too_long_for_some_servers_is_a_bug_here(remote: Remote) -> None:
    with pytest.raises(ValueError, match="8000"):
        remote.open("echo " + "x" * 8000)


def test_a_closed_connection_is_said_to_be_lost(remote: Remote) -> None:
    remote.close()
    remote.close()
    with pytest.raises(DeviceError) as caught:
        remote.run("true")
    assert caught.value.diagnostics[0].code == "E403"


# What login shells do


def test_f135_what_start_files_print_is_no_output(sshd: Sshd) -> None:
    (sshd.home / ".bashrc").write_text("echo MOTD; echo more >&2; printf 'no line end'\n")
    lines = [f'ForceCommand . {sshd.home}/.bashrc; eval "$SSH_ORIGINAL_COMMAND"']
    with running(sshd.folder / "noisy", lines=lines) as noisy:
        remote = connect(noisy.device())
        done = remote.run("cat; echo err >&2", stdin=b"out")
        assert (done.stdout, done.stderr) == (b"out", b"err\n")
        pipe = remote.open("echo two; exit 4")
        assert pipe.read(3) + pipe.read() == b"two\n" and pipe.wait(5) == 4
        remote.close()


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("echo 'This account is not available'; exit 1", "E406", "not available"),
        ("exit 1", "E406", "says nothing"),
        ("cat /dev/zero | tr '\\0' x", "E405", "65536"),
        ("echo '\\033[2Jgone' >&2; exit 1", "E406", "?[2Jgone"),
    ],
)
def test_f135_a_login_shell_that_is_none(tmp_path: Path, shell: str, code: str, said: str) -> None:
    script = tmp_path / "shell"
    script.write_text(f"#!/bin/sh\n{shell}\n")
    script.chmod(0o755)
    with running(tmp_path / "sshd", lines=[f"ForceCommand {script}"]) as server:
        remote = connect(server.device())
        with pytest.raises(DeviceError, match=re.escape(said)) as caught:
            remote.run("true")
        assert caught.value.diagnostics[0].code == code
        remote.close()


def test_a_server_with_no_more_sessions_says_so(tmp_path: Path) -> None:
    with running(tmp_path / "sshd", lines=["MaxSessions 1"]) as server:
        remote = connect(server.device())
        first = remote.open("cat")
        with pytest.raises(DeviceError) as caught:
            remote.open("true")
        assert caught.value.diagnostics[0].code == "E406" and caught.value.retryable
        first.close()
        remote.close()


def test_set_env_reaches_a_server_that_takes_it(tmp_path: Path) -> None:
    with running(tmp_path / "sshd", lines=["AcceptEnv ED_*"]) as server:
        server.configure("SetEnv ED_ONE=1 ED_TWO='a b'")
        remote = connect(server.device())
        assert remote.run('echo "$ED_ONE $ED_TWO"').stdout == b"1 a b\n"
        remote.close()


# Host keys


def test_f131_an_unknown_host_key_is_refused_before_logging_in(sshd: Sshd) -> None:
    sshd.known_hosts.unlink()
    error = refused(sshd.device(), "E409")
    assert fingerprint(sshd.folder / "host_ed25519.pub") in str(error) and not error.retryable
    assert not tried_to_log_in(sshd)
    assert not sshd.known_hosts.exists()


@pytest.mark.parametrize("hashed", [False, True])
def test_f131_a_new_key_is_accepted_once_when_asked_to(sshd: Sshd, hashed: bool) -> None:
    sshd.configure(f"HashKnownHosts {'yes' if hashed else 'no'}")
    sshd.known_hosts.write_text("other ssh-ed25519 AAAA")  # without a line end
    connect(sshd.device(), accept_new=True).close()
    connect(sshd.device()).close()
    lines = sshd.known_hosts.read_text().splitlines()
    assert len(lines) == 2 and lines[1].startswith("|1|" if hashed else "[127.0.0.1]:")
    found = subprocess.run(
        ["ssh-keygen", "-F", f"[127.0.0.1]:{sshd.port}", "-f", sshd.known_hosts],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (sshd.folder / "host_ed25519.pub").read_text().split()[1] in found.stdout


def test_f131_the_file_of_new_keys_is_private(sshd: Sshd) -> None:
    sshd.known_hosts.unlink()
    sshd.configure("StrictHostKeyChecking accept-new")
    connect(sshd.device()).close()
    assert stat.S_IMODE(sshd.known_hosts.stat().st_mode) == 0o600


def test_f130_a_changed_host_key_is_refused_with_both_fingerprints(
    sshd: Sshd, tmp_path: Path
) -> None:
    make_key(tmp_path / "other")
    key = (tmp_path / "other.pub").read_text().split()
    sshd.known_hosts.write_text(f"# mine\n[127.0.0.1]:{sshd.port} {key[0]} {key[1]}\n")
    before = sshd.known_hosts.read_bytes()
    error = refused(sshd.device(), "E410", accept_new=True)
    assert fingerprint(tmp_path / "other.pub") in str(error)
    assert fingerprint(sshd.folder / "host_ed25519.pub") in str(error)
    assert f"{sshd.known_hosts}:2" in str(error) and not error.retryable
    assert not tried_to_log_in(sshd) and sshd.known_hosts.read_bytes() == before


def test_the_key_that_is_known_is_asked_for(tmp_path: Path) -> None:
    kinds = ["rsa", "ecdsa", "ed25519"]
    with running(tmp_path / "sshd", host_keys=kinds) as server:
        for kind in kinds:
            key = (server.folder / f"host_{kind}.pub").read_text().split()
            server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {key[0]} {key[1]}\n")
            connect(server.device()).close()


def test_another_kind_of_key_of_a_known_machine_is_a_changed_key(
    sshd: Sshd, tmp_path: Path
) -> None:
    make_key(tmp_path / "other", "ecdsa")
    key = (tmp_path / "other.pub").read_text().split()
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {key[0]} {key[1]}\n")
    refused(sshd.device(), "E410", accept_new=True)


def test_revoked_keys_and_certificate_authorities(sshd: Sshd) -> None:
    key = " ".join((sshd.folder / "host_ed25519.pub").read_text().split()[:2])
    known = sshd.known_hosts.read_text()
    sshd.known_hosts.write_text(known + f"@revoked * {key}\n")
    assert "revoked" in str(refused(sshd.device(), "E411"))
    sshd.known_hosts.write_text(f"@cert-authority * {key}\n")
    assert "certificate" in str(refused(sshd.device(), "E411", accept_new=True))
    sshd.known_hosts.write_text(f"@cert-authority * {key}\n{known}")
    connect(sshd.device()).close()


def test_a_machine_is_known_by_its_alias_or_without_its_port(sshd: Sshd) -> None:
    key = " ".join((sshd.folder / "host_ed25519.pub").read_text().split()[:2])
    sshd.known_hosts.write_text(f"127.0.0.1 {key}\n")
    connect(sshd.device()).close()
    sshd.known_hosts.write_text(f"kitchen {key}\n")
    sshd.configure("HostKeyAlias kitchen")
    connect(sshd.device()).close()


# Logging in


def test_f132_a_refused_key_is_an_error_that_lists_what_was_tried(sshd: Sshd) -> None:
    (sshd.folder / "authorized_keys").write_text("")
    started = time.monotonic()
    error = refused(sshd.device(), "E412")
    assert time.monotonic() - started < 15  # 5 s, and slack for a busy machine
    assert f"{sshd.folder / 'client_key'}: refused" in str(error)
    assert "ssh-agent: not there" in str(error) and "publickey" in str(error)
    assert not error.retryable


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_every_kind_of_key_logs_in(sshd: Sshd, tmp_path: Path, kind: str) -> None:
    make_key(tmp_path / "key", kind)
    shutil.copy(tmp_path / "key.pub", sshd.folder / "authorized_keys")
    connect(sshd.device(identity=tmp_path / "key")).close()


def test_f132_a_passphrase_is_asked_for_only_where_somebody_can_answer(
    sshd: Sshd, tmp_path: Path
) -> None:
    make_key(tmp_path / "key", passphrase="open sesame")
    shutil.copy(tmp_path / "key.pub", sshd.folder / "authorized_keys")
    device = sshd.device(identity=tmp_path / "key")
    assert "nobody to ask" in str(refused(device, "E412"))

    prompts: list[str] = []
    answers = iter(["wrong", "open sesame"])

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return next(answers)

    connect(device, ask=ask).close()
    assert prompts == [f"passphrase for {tmp_path / 'key'}: "] * 2
    error = refused(device, "E412", ask=lambda prompt: "canary-wrong")
    assert str(error).count("does not fit") == 3 and "canary" not in str(error)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """The socket of an ssh-agent of this test."""
    path = tmp_path / "agent"
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield path
    process.terminate()
    process.wait(10)


def add(agent: Path, key: Path) -> None:
    """Put a key into the agent."""
    subprocess.run(
        ["ssh-add", "-q", str(key)], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(agent)}
    )


def test_the_agent_signs(sshd: Sshd, agent: Path, tmp_path: Path) -> None:
    for name, kind in [("other", "ed25519"), ("mine", "rsa")]:
        make_key(tmp_path / name, kind)
        add(agent, tmp_path / name)
    shutil.copy(tmp_path / "mine.pub", sshd.folder / "authorized_keys")
    sshd.client.write_text(
        f"UserKnownHostsFile {sshd.known_hosts}\nIdentityAgent {agent}\n"
        f"IdentityFile {tmp_path / 'none'}\n"
    )
    connect(sshd.device()).close()
    sshd.client.write_text(sshd.client.read_text() + "IdentitiesOnly yes\n")
    refused(sshd.device(), "E412")
    # The agent holds the key of this file: nobody is asked for its passphrase.
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", "locked", "-f", tmp_path / "mine"], check=True
    )
    connect(sshd.device(identity=tmp_path / "mine")).close()
    # A public key alone chooses one of the agent.
    connect(sshd.device(identity=tmp_path / "mine.pub")).close()


def test_more_keys_in_the_agent_than_a_server_lets_one_try(
    sshd: Sshd, agent: Path, tmp_path: Path
) -> None:
    for at in range(8):
        make_key(tmp_path / f"key{at}")
        add(agent, tmp_path / f"key{at}")
    sshd.client.write_text(
        f"UserKnownHostsFile {sshd.known_hosts}\nIdentityAgent {agent}\n"
        f"IdentityFile {tmp_path / 'none'}\n"
    )
    assert "broke off" in str(refused(sshd.device(), "E412"))
    connect(sshd.device(identity=sshd.folder / "client_key")).close()


def test_a_dead_agent_is_named_and_does_not_matter(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "dead"))
    sshd.client.write_text(
        f"UserKnownHostsFile {sshd.known_hosts}\nIdentityFile {tmp_path / 'none'}\n"
    )
    assert "ssh-agent: Connection refused" in str(refused(sshd.device(), "E412"))
    connect(sshd.device(identity=sshd.folder / "client_key")).close()


def test_a_key_that_is_not_there_is_named(sshd: Sshd, tmp_path: Path) -> None:
    (sshd.folder / "authorized_keys").write_text("")
    device = sshd.device(identity=tmp_path / "gone")
    assert f"{tmp_path / 'gone'}: not there" in str(refused(device, "E412"))


def test_a_key_that_others_may_read_is_not_used(sshd: Sshd) -> None:
    (sshd.folder / "client_key").chmod(0o644)
    assert "others may read it" in str(refused(sshd.device(), "E412"))


def test_a_certificate_beside_the_key_logs_in(tmp_path: Path) -> None:
    make_key(tmp_path / "ca")
    with running(tmp_path / "sshd", lines=[f"TrustedUserCAKeys {tmp_path / 'ca.pub'}"]) as server:
        (server.folder / "authorized_keys").write_text("")
        user = server.device().user or ""
        key = server.folder / "client_key.pub"
        subprocess.run(
            ["ssh-keygen", "-q", "-s", tmp_path / "ca", "-I", "me", "-n", user, key], check=True
        )
        connect(server.device()).close()


def test_a_certificate_that_is_not_trusted_hides_no_key(sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "ca")
    key = sshd.folder / "client_key.pub"
    subprocess.run(
        ["ssh-keygen", "-q", "-s", tmp_path / "ca", "-I", "me", "-n", "x", key], check=True
    )
    connect(sshd.device()).close()


def test_a_server_that_wants_more_than_a_key_says_what(tmp_path: Path) -> None:
    lines = ["AuthenticationMethods publickey,password", "PasswordAuthentication yes"]
    with running(tmp_path / "sshd", lines=lines) as server:
        assert "password on top" in str(refused(server.device(), "E412"))


def test_a_server_that_takes_passwords_alone_gets_none(tmp_path: Path) -> None:
    lines = ["PubkeyAuthentication no", "PasswordAuthentication yes"]
    with running(tmp_path / "sshd", lines=lines) as server:
        assert "password" in str(refused(server.device(), "E412", ask=lambda prompt: "x"))


def test_f137_nothing_secret_is_said_or_logged(
    sshd: Sshd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    make_key(tmp_path / "key", passphrase="canary-7261")
    secret = (tmp_path / "key").read_text().splitlines()[3]
    device = sshd.device(identity=tmp_path / "key")
    (sshd.folder / "authorized_keys").write_text("")
    error = refused(device, "E412", ask=lambda prompt: "canary-7261")
    shutil.copy(tmp_path / "key.pub", sshd.folder / "authorized_keys")
    remote = connect(device, ask=lambda prompt: "canary-7261")
    remote.run("true")
    remote.close()
    everything = "".join(str(item) for item in error.diagnostics) + caplog.text + repr(vars(remote))
    assert "paramiko" in caplog.text
    assert "canary" not in everything and secret not in everything


# Not there, or not an SSH server


def test_f133_a_port_that_nobody_listens_on_is_refused(sshd: Sshd) -> None:
    error = refused(sshd.device(port=free_port()), "E402")
    assert error.retryable and "refuses" in str(error)


def test_f133_an_unknown_name_is_no_matter_of_time(sshd: Sshd) -> None:
    error = refused(sshd.device(host="no-such-host.invalid"), "E401", patience=QUICK)
    assert "cannot find" in str(error)


def test_f133_a_machine_that_swallows_packets(sshd: Sshd) -> None:
    # A listener whose queue is full drops what comes.
    with socket.socket() as deaf, ExitStack() as held:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            one = held.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())
        error = refused(sshd.device(port=deaf.getsockname()[1]), "E401", patience=QUICK)
    assert error.retryable and "does not answer within 1 s" in str(error)


@pytest.mark.parametrize(
    ("greeting", "said"),
    [(b"", "nothing"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"), (b"SSH-2.0-x\r\n", "keys")],
)
def test_f134_a_tarpit_or_another_server(sshd: Sshd, greeting: bytes, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as pit:

        def answer() -> None:
            client, _ = pit.accept()
            client.sendall(greeting)
            time.sleep(8)
            client.close()

        threading.Thread(target=answer, daemon=True).start()
        started = time.monotonic()
        device = sshd.device(port=pit.getsockname()[1])
        error = refused(device, "E408", patience=QUICK)
        assert time.monotonic() - started < 6
    assert error.retryable and (said in str(error) or not greeting)


def test_f134_endless_greetings_end(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as pit:

        def answer() -> None:
            client, _ = pit.accept()
            try:
                while True:
                    client.sendall(b"x\r\n")
                    time.sleep(0.2)
            except OSError:
                pass

        threading.Thread(target=answer, daemon=True).start()
        refused(sshd.device(port=pit.getsockname()[1]), "E408", patience=QUICK)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("Ciphers 3des-cbc", "3des-cbc"),
        ("MACs hmac-sha1\nCiphers aes128-ctr", "hmac-sha1"),
        ("KexAlgorithms diffie-hellman-group1-sha1", "diffie-hellman-group1-sha1"),
    ],
)
def test_f136_a_server_with_weak_algorithms_alone(tmp_path: Path, line: str, named: str) -> None:
    with running(tmp_path / "sshd", lines=[line]) as server:
        error = refused(server.device(), "E413")
        assert f"only {named} as" in str(error) and not tried_to_log_in(server)


def test_ciphers_of_the_configuration_are_honoured(sshd: Sshd, tmp_path: Path) -> None:
    with running(tmp_path / "loud", lines=["LogLevel DEBUG1"]) as server:
        connect(server.device()).close()
        assert "cipher: aes128-gcm@openssh.com" in server.log()
        server.configure("Ciphers aes256-ctr")
        connect(server.device()).close()
        assert "cipher: aes256-ctr" in server.log()
    sshd.configure("Ciphers chacha20-poly1305@openssh.com")
    assert "chacha20" in str(refused(sshd.device(), "E414"))


def test_a_failed_connection_keeps_no_process_alive(tmp_path: Path) -> None:
    with running(tmp_path / "sshd", lines=["Ciphers 3des-cbc"]) as server:
        program = (
            "import sys\n"
            "from edgedeploy.devices.connect import connect\n"
            "from edgedeploy.devices.inventory import Device\n"
            "from pathlib import Path\n"
            f"device = Device(name='x', kind='ssh', host='127.0.0.1', port={server.port},\n"
            f"    ssh_config=Path({str(server.client)!r}))\n"
            "try:\n    connect(device)\nexcept Exception as error:\n    print(error)\n"
            "print('threads end here', flush=True)\n"
        )
        command = [sys.executable, "-c", program]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as run:
            assert "3des-cbc" in run.stdout.readline()
            while "end here" not in run.stdout.readline():
                assert run.poll() is None
            # The library's own timer would hold the process for 10 s.
            assert run.wait(6) == 0
            assert run.stderr.read() == ""
