"""known_hosts, held against what ssh-keygen writes and finds."""

import base64
import fcntl
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.devices import hostkeys
from edgedeploy.devices.hostkeys import KnownHosts, fingerprint
from edgedeploy.errors import DeviceError

BLOB = base64.b64decode("AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g")
OTHER = BLOB[:-1] + b"\0"
LINE = f"ssh-ed25519 {base64.b64encode(BLOB).decode()}"


def check(file: Path, name: str, blob: bytes = BLOB, *, accept_new: bool = False) -> str | None:
    """Return the code with which a key is refused, None when it passes."""
    host = name.strip("[").partition("]")[0]
    try:
        KnownHosts([file], []).check(name, host, "ssh-ed25519", blob, accept_new=accept_new)
    except DeviceError as error:
        assert not error.retryable
        return error.diagnostics[0].code
    return None


@pytest.mark.parametrize(
    ("names", "name", "code"),
    [
        ("pi", "pi", None),
        ("PI", "pi", None),
        ("pi,192.168.1.20", "192.168.1.20", None),
        ("*.lab", "pi.lab", None),
        ("p?", "pi", None),
        ("*,!pi", "pi", "E409"),
        ("!other,*", "pi", None),
        ("[pi]:2222", "[pi]:2222", None),
        ("[pi]:2222", "pi", "E409"),
        ("pi", "[pi]:2222", None),
        ("[p]i", "pi", "E409"),
        ("# pi", "pi", "E409"),
        ("other", "pi", "E409"),
    ],
)
def test_names_and_patterns(tmp_path: Path, names: str, name: str, code: str | None) -> None:
    (tmp_path / "known").write_text(f"{names} {LINE} comment\n")
    assert check(tmp_path / "known", name) == code
    if code is None and "]" not in name:
        assert check(tmp_path / "known", name, OTHER) == "E410"


def test_hashed_names_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    file = tmp_path / "known"
    file.write_text(f"pi {LINE}\n[board.lab]:2222 {LINE}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "pi" not in file.read_text()
    assert check(file, "pi") is None and check(file, "[board.lab]:2222") is None
    assert check(file, "other") == "E409" and check(file, "pi", OTHER) == "E410"


def test_a_key_that_is_kept_is_found_by_ssh_keygen(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "known"
    for name, hashed in [("plain", False), ("hashed", True)]:
        keys = KnownHosts([file], [], hash_names=hashed)
        keys.check(f"[{name}]:22022", name, "ssh-ed25519", BLOB, accept_new=True)
        run = subprocess.run(
            ["ssh-keygen", "-F", f"[{name}]:22022", "-f", file], capture_output=True, check=True
        )
        assert LINE.encode() in run.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_many_at_once_keep_their_keys_once(tmp_path: Path) -> None:
    file = tmp_path / "known"
    ready = [KnownHosts([file], []) for _ in range(40)]

    def accept(at: int) -> None:
        ready[at].check(f"host{at % 10}", "", "ssh-ed25519", BLOB, accept_new=True)

    threads = [threading.Thread(target=accept, args=(at,)) for at in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(file.read_text().split("\n")) == sorted(
        ["", *(f"host{at} {LINE}" for at in range(10))]
    )


def test_a_file_that_keeps_nothing(tmp_path: Path) -> None:
    assert check(Path("/dev/null"), "pi", accept_new=True) is None
    (tmp_path / "folder").mkdir()
    assert check(tmp_path / "folder", "pi", accept_new=True) == "E415"


def test_odd_names_are_never_written(tmp_path: Path) -> None:
    for name in ("a b", "a,b", "*", "a\nb", "!x", "a\x1b[0m"):
        assert check(tmp_path / "known", name, accept_new=True) == "E415"
    assert not (tmp_path / "known").exists()


def test_the_system_files_count_too(tmp_path: Path) -> None:
    (tmp_path / "system").write_text(
        f"pi {LINE}\n@revoked * ssh-ed25519 {LINE.split()[1][:-4]}AAA=\n"
    )
    keys = KnownHosts([tmp_path / "none"], [tmp_path / "system"])
    keys.check("pi", "pi", "ssh-ed25519", BLOB, accept_new=False)
    assert keys.kinds("pi", "pi") == ("ssh-ed25519",) and keys.kinds("x", "y") == ()


def test_a_revoked_key_is_never_accepted(tmp_path: Path) -> None:
    (tmp_path / "known").write_text(f"@revoked pi {LINE}\n")
    assert check(tmp_path / "known", "pi", accept_new=True) == "E411"
    assert check(tmp_path / "known", "[pi]:22022", accept_new=True) == "E411"
    assert check(tmp_path / "known", "pi", OTHER, accept_new=True) is None


@given(st.binary(max_size=400))
def test_no_line_of_rubbish_lets_a_key_in(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    file = tmp_path_factory.mktemp("rubbish") / "known"
    file.write_bytes(text)
    assert check(file, "pi") in ("E409", "E410", "E411")


def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(LINE + "\n")
    said = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True
    )
    assert said.stdout.split()[1] == fingerprint(BLOB)


def test_a_file_that_another_program_keeps_locked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostkeys, "_LOCK_S", 0.2)
    file = tmp_path / "known_hosts"
    with open(file, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert check(file, "desk", accept_new=True) == "E415"
    assert file.read_bytes() == b""
    assert check(file, "desk", accept_new=True) is None
