"""The public halves of key files, as ssh-keygen writes them."""

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.devices.identities import identity


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("form", ["openssh", "PEM", "encrypted"])
def test_the_public_half_needs_no_passphrase(tmp_path: Path, kind: str, form: str) -> None:
    file = tmp_path / "key"
    options = ["-m", "PEM"] if form == "PEM" else []
    options += ["-b", "2048"] if kind == "rsa" else []
    passphrase = "x" * 8 if form == "encrypted" else ""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, *options, "-N", passphrase, "-f", file], check=True
    )
    public = base64.b64decode(Path(f"{file}.pub").read_text().split()[1])
    if form != "PEM" or kind == "ed25519":  # which has no PEM form
        Path(f"{file}.pub").rename(tmp_path / "away.pub")
    found = identity(file)
    assert found is not None and found.fault is None and found.private
    assert found.public == public
    alone = identity(
        tmp_path / "away.pub" if (tmp_path / "away.pub").exists() else Path(f"{file}.pub")
    )
    assert alone is not None and alone.public == public and not alone.private


def test_what_is_no_key(tmp_path: Path) -> None:
    assert identity(tmp_path / "none") is None
    for name, content in [("empty", b""), ("text", b"hello there\n")]:
        (tmp_path / name).write_bytes(content)
        found = identity(tmp_path / name)
        assert found is not None and found.fault is not None
    found = identity(tmp_path)
    assert found is not None and found.fault is not None


@settings(max_examples=40)
@given(st.binary(max_size=300))
def test_no_rubbish_fails(tmp_path_factory: pytest.TempPathFactory, rubbish: bytes) -> None:
    file = tmp_path_factory.mktemp("keys") / "key"
    file.touch(0o600)
    file.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + rubbish)
    found = identity(file)
    assert found is not None
    file.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.b64encode(
        b"openssh-key-v1\0" + rubbish) + b"\n-----END-----\n")  # fmt: skip
    identity(file)
