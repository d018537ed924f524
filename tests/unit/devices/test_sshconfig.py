"""What is taken from the user's ssh configuration, and what is refused."""

import shutil
from pathlib import Path

import pytest

from edgedeploy.devices import sshconfig
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.sshconfig import SshOptions, options_for, split_hop
from edgedeploy.errors import DeviceError

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs OpenSSH server")


def device(config: Path, text: str, **more: object) -> Device:
    """Return a device whose configuration is this text."""
    config.write_text(text)
    return Device(name="pi", kind="ssh", host="pi", ssh_config=config, **more)  # type: ignore[arg-type]


@needs_ssh
def test_what_is_honoured(tmp_path: Path) -> None:
    included = tmp_path / "more"
    included.write_text("Host pi\n ConnectTimeout 7\n AddressFamily inet\n")
    text = f"""Include {included}
Match host pi
  Port 2200
Host pi
  HostName 192.168.1.20
  User someone
  HostKeyAlias kitchen
  IdentityFile {tmp_path}/one
  IdentityFile {tmp_path}/two
  IdentitiesOnly yes
  IdentityAgent {tmp_path}/agent
  UserKnownHostsFile {tmp_path}/known {tmp_path}/more-known
  GlobalKnownHostsFile none
  StrictHostKeyChecking accept-new
  HashKnownHosts yes
  Ciphers aes256-ctr
  BindAddress 127.0.0.1
  SetEnv A=1 B="two words"
"""
    found = options_for(device(tmp_path / "config", text))
    assert found == SshOptions(
        host="192.168.1.20",
        port=2200,
        user="someone",
        key_name="kitchen",
        identities=(tmp_path / "one", tmp_path / "two"),
        chosen=True,
        identities_only=True,
        agent=f"{tmp_path}/agent",
        known_hosts=(tmp_path / "known", tmp_path / "more-known"),
        accept_new=True,
        hash_names=True,
        connect_s=7.0,
        family="inet",
        source="127.0.0.1",
        environment=(("A", "1"), ("B", "two words")),
        algorithms={"ciphers": ("aes256-ctr",)},
    )


@needs_ssh
def test_the_inventory_goes_first(tmp_path: Path) -> None:
    text = "Host *\n Port 1\n User x\n IdentityFile /y\n"
    one = device(tmp_path / "c", text, port=2, user="me", identity=tmp_path / "a key 100%")
    found = options_for(one)
    assert (found.port, found.user, found.key_name) == (2, "me", "[pi]:2")
    assert found.identities == (tmp_path / "a key 100%", Path("/y")) and found.chosen


@needs_ssh
def test_tokens_and_variables_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    text = "Host *\n User me\n Port 7\n IdentityFile ${KEYS}/%r_%h_%p_100%%\n"
    assert options_for(device(tmp_path / "c", text)).identities == (Path("/keys/me_pi_7_100%"),)
    with pytest.raises(DeviceError, match="token %C") as caught:
        options_for(device(tmp_path / "c", "Host *\n IdentityFile /keys/%C\n"))
    assert caught.value.diagnostics[0].code == "E414"


@needs_ssh
def test_without_any_setting_openssh_decides(tmp_path: Path) -> None:
    found = options_for(device(tmp_path / "c", ""))
    assert (found.host, found.port, found.key_name) == ("pi", 22, "pi")
    assert not found.chosen and not found.accept_new and not found.algorithms
    assert "id_ed25519" in {file.name for file in found.identities}
    assert found.agent == "SSH_AUTH_SOCK" and found.known_hosts and found.system_known_hosts


@needs_ssh
@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("ProxyCommand nc %h %p", "proxycommand"),
        ("PKCS11Provider /usr/lib/x.so", "pkcs11provider"),
        ("CertificateFile ~/.ssh/x-cert.pub", "certificatefile"),
        ("RevokedHostKeys /etc/ssh/revoked", "revokedhostkeys"),
        ("KnownHostsCommand /bin/true", "knownhostscommand"),
        ("PubkeyAuthentication no", "pubkeyauthentication"),
        ("BindInterface lo", "bindinterface"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path: Path, line: str, named: str) -> None:
    with pytest.raises(DeviceError, match=named) as caught:
        options_for(device(tmp_path / "c", f"Host pi\n  {line}\n"))
    assert caught.value.diagnostics[0].code == "E414" and not caught.value.retryable
    options_for(device(tmp_path / "c", f"Host other\n  {line}\n"))


@needs_ssh
def test_what_changes_nothing_for_commands_is_passed_over(tmp_path: Path) -> None:
    text = """Host pi
  ControlMaster auto
  ControlPath /tmp/%C
  ControlPersist 10m
  ForwardAgent yes
  LocalForward 8080 localhost:80
  RequestTTY yes
  RemoteCommand tmux attach
  ServerAliveInterval 30
  SendEnv LANG LC_*
  LogLevel QUIET
  Compression yes
  VisualHostKey yes
  ProxyCommand none
"""
    assert options_for(device(tmp_path / "c", text)).host == "pi"


@needs_ssh
def test_jump_hosts_have_options_of_their_own(tmp_path: Path) -> None:
    text = """Host gate
  HostName 10.0.0.1
  Port 2222
  ProxyJump outer
Host outer
  User guest
Host pi
  ProxyJump me@gate:2200
"""
    found = options_for(device(tmp_path / "c", text))
    assert [(hop.user, hop.host, hop.port) for hop in found.jumps][1:] == [("me", "10.0.0.1", 2200)]
    assert found.jumps[0].user == "guest" and found.jumps[0].host == "outer"
    # As OpenSSH: with several hops, each but the first is reached through those before it.
    chain = options_for(device(tmp_path / "c", text, jump="a@one:1,b@gate"))
    assert [(hop.user, hop.host, hop.port) for hop in chain.jumps] == [
        ("a", "one", 1),
        ("b", "10.0.0.1", 2222),
    ]
    with pytest.raises(DeviceError, match="proxycommand"):
        options_for(device(tmp_path / "c", "Host pi\n ProxyJump g\nHost g\n ProxyCommand x\n"))


@needs_ssh
def test_jump_hosts_that_go_round_end(tmp_path: Path) -> None:
    text = "Host a\n ProxyJump b\nHost b\n ProxyJump a\nHost pi\n ProxyJump a\n"
    with pytest.raises(DeviceError, match="never end") as caught:
        options_for(device(tmp_path / "c", text))
    assert caught.value.diagnostics[0].code == "E414"


@needs_ssh
def test_a_broken_configuration_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="prot") as caught:
        options_for(device(tmp_path / "c", "Host pi\n  Prot 22\n"))
    assert caught.value.diagnostics[0].code == "E415"


@pytest.mark.parametrize(
    ("hop", "parts"),
    [
        ("gate", (None, "gate", None)),
        ("me@gate", ("me", "gate", None)),
        ("me@gate:2222", ("me", "gate", 2222)),
        ("ssh://me@gate:22/", ("me", "gate", 22)),
        ("[::1]:22", (None, "::1", 22)),
        ("me@[fe80::1%eth0]", ("me", "fe80::1%eth0", None)),
    ],
)
def test_the_parts_of_a_hop(hop: str, parts: tuple[str | None, str, int | None]) -> None:
    assert split_hop(hop) == parts


@pytest.mark.parametrize("hop", ["", "-x", "me@-x", "-l@x", "a b", "a:b", "a@b@c", "a:1:2", "a/b"])
def test_no_hop(hop: str) -> None:
    with pytest.raises(ValueError):
        split_hop(hop)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", False),
        ("# Port 22\n\n", False),
        ("Host other\n  Port 1\n", False),
        ("Host other\n  Port 1\nHost p?\n  Port 2\n", True),
        ("Host *\n  Port 1\n", True),
        ("Host other !pi\n", True),
        ("Port 2222\n", True),
        ("Host=pi\n", True),
        ("Match all\n  Port 1\n", True),
        ("Host other\nMatch all\n", True),
        ("Include more\n", True),
    ],
)
def test_without_openssh_a_configuration_that_may_count_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, counts: bool
) -> None:
    monkeypatch.setattr(sshconfig.shutil, "which", lambda name: None)
    one = device(tmp_path / "c", text, user="me", identity=tmp_path / "key")
    if counts:
        with pytest.raises(DeviceError, match="not installed") as caught:
            options_for(one)
        assert caught.value.diagnostics[0].code == "E415"
    else:
        found = options_for(one)
        assert (found.host, found.port, found.user) == ("pi", 22, "me")
        assert found.identities[0] == tmp_path / "key"
    with pytest.raises(DeviceError, match="jump"):
        options_for(device(tmp_path / "c", "", jump="gate"))
