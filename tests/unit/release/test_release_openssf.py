"""Signatures for OpenSSF Model Signing, read by its own verifier."""

import base64
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from model_signing import signing, verifying

from edgedeploy.errors import UsageError
from edgedeploy.release.openssf import model_signature_path, read_model_key
from edgedeploy.release.verifying import VerifyOptions, verify
from edgedeploy.releasing import Draft, write_release
from tests.unit.release import made

CURVES = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
PUBLIC = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
SECRET = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be asked of anybody."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def write_key(place: Path, curve: ec.EllipticCurve = CURVES[0], passphrase: bytes = b"") -> Path:
    """Write a new key, and its public part beside it."""
    key = ec.generate_private_key(curve)
    kept = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    place.touch(mode=0o600)
    place.write_bytes(key.private_bytes(*SECRET, kept))
    place.with_suffix(".pub").write_bytes(key.public_key().public_bytes(*PUBLIC))
    return place


def signed(folder: Path, key: Path) -> tuple[Path, Path]:
    """Write a bundle with its signature; return the extracted folder, and the signature."""
    public = made.KEY.public
    folder.mkdir()
    (folder / "key.pub").write_bytes(
        ed25519.Ed25519PublicKey.from_public_bytes(public).public_bytes(*PUBLIC)
    )
    release = made.release_of()
    places = {file.sha256: made.CONTENTS[file.path] for file in release.files}
    draft = Draft(release=release, places=places)
    bundle = write_release(draft, folder, made.KEY, read_model_key(key))
    place = folder / "doorbell-1.0.0"
    options = VerifyOptions(keys=(folder / "key.pub",), state=folder / "state", extract=place)
    verify(bundle, options)
    return place, model_signature_path(bundle)


def check(place: Path, signature: Path, key: Path) -> None:
    """Let the official verifier look; it raises what it finds."""
    config = verifying.Config().use_elliptic_key_verifier(public_key=key.with_suffix(".pub"))
    config.verify(place, signature)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: str(curve.name))
def test_the_official_verifier_takes_it(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    """It is the same each time, and stands beside the bundle."""
    key = write_key(tmp_path / "ec", curve)
    place, signature = signed(tmp_path / "one", key)
    assert signature == tmp_path / "one" / "doorbell-1.0.0.model.sig"
    check(place, signature, key)
    _, again = signed(tmp_path / "again", key)
    assert again.read_bytes() == signature.read_bytes()


def test_its_command_takes_it_under_any_name(tmp_path: Path) -> None:
    key = write_key(tmp_path / "ec")
    place, signature = signed(tmp_path / "one", key)
    place = place.rename(tmp_path / "models")
    program = (sys.executable, "-m", "model_signing", "verify", "key", str(place))
    files = ("--signature", str(signature), "--public_key", str(key.with_suffix(".pub")))
    done = subprocess.run([*program, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "Verification succeeded"), done.stderr


def test_its_signer_would_say_the_same(tmp_path: Path) -> None:
    """But for the order of fields, and of paths that it has left open."""
    key = write_key(tmp_path / "ec")
    place, signature = signed(tmp_path / "one", key)
    other = tmp_path / "theirs.sig"
    signing.Config().use_elliptic_key_signer(private_key=key).sign(place, other)
    ours, theirs = (json.loads(path.read_bytes()) for path in (signature, other))
    said = [json.loads(base64.b64decode(d["dsseEnvelope"].pop("payload"))) for d in (ours, theirs)]
    for statement in said:
        statement["predicate"]["serialization"]["ignore_paths"].sort()
    assert said[0] == said[1]
    for found in (ours, theirs):
        assert found["dsseEnvelope"]["signatures"][0].pop("sig")
    assert ours == theirs


def change(place: Path) -> None:
    """Change a byte of a file."""
    path = place / "rpi5" / "ort" / "main" / "model.ort"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "act",
    [
        change,
        lambda place: (place / "more").touch(),
        lambda place: (place / "empty").unlink(),
        lambda place: (place / "manifest.dsse.json").write_text("{}"),
        lambda place: (place / "doc" / "labels.txt").rename(place / "doc" / "Labels.txt"),
    ],
    ids=["changed", "added", "removed", "signatures", "renamed"],
)
def test_a_folder_that_changed_is_refused(tmp_path: Path, act: Callable[[Path], object]) -> None:
    key = write_key(tmp_path / "ec")
    place, signature = signed(tmp_path / "one", key)
    act(place)
    with pytest.raises(ValueError, match="Signature mismatch"):
        check(place, signature, key)


def test_another_key_vouches_for_nothing(tmp_path: Path) -> None:
    place, signature = signed(tmp_path / "one", write_key(tmp_path / "ec"))
    with pytest.raises(ValueError, match="Key mismatch"):
        check(place, signature, write_key(tmp_path / "other"))


def code_of(path: Path) -> str:
    """Return the code of the refusal of a key."""
    with pytest.raises(UsageError) as caught:
        read_model_key(path)
    return caught.value.diagnostics[0].code


def test_keys_that_the_format_does_not_know_are_refused(tmp_path: Path) -> None:
    """Among them those that sign bundles, and what cannot be read."""
    own = tmp_path / "own"
    own.touch(mode=0o600)
    key = ed25519.Ed25519PrivateKey.generate()
    own.write_bytes(key.private_bytes(*SECRET, serialization.NoEncryption()))
    bitcoin = write_key(tmp_path / "bitcoin", ec.SECP256K1())
    locked = write_key(tmp_path / "locked", passphrase=b"secret")
    good = write_key(tmp_path / "good")
    for path in (own, bitcoin, locked, good.with_suffix(".pub")):
        assert code_of(path) == "E780"
    good.chmod(0o640)
    assert code_of(good) == code_of(tmp_path / "missing") == "E751"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_key_that_openssl_made_signs(tmp_path: Path) -> None:
    """By the commands of docs/keys.md."""
    key, public = tmp_path / "ec", tmp_path / "ec.pub"
    for command in (
        ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)],
        ["ec", "-in", str(key), "-pubout", "-out", str(public)],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    place, signature = signed(tmp_path / "one", key)
    check(place, signature, key)
