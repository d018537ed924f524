"""Key files: a private Ed25519 key (PEM, PKCS #8) and its public part (PEM, RFC 8410).

The private part may also be somewhere else: a command then signs, for an HSM or a key service.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.errors import ToolError, UsageError
from edgedeploy.manifest import sync_folder
from edgedeploy.release.signing import Sign, key_id

COMMAND_TIMEOUT_S = 300.0
"""How long a command may sign: somebody may have to touch a token first."""

_MOST_BYTES = 16 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key that can sign: its 32 public bytes, and what signs."""

    public: bytes
    sign: Sign

    @property
    def id(self) -> str:
        """Its id, 64 hexadecimal digits."""
        return key_id(self.public)


def new_key(path: Path) -> SigningKey:
    """Make a key: the private part in ``path`` (mode 0600), the public one in ``path.pub``.

    Raises:
        UsageError: One of the files exists (E750), or the path names no file (E751).
        OSError: The disk refuses; nothing is left behind, and nothing that was there is touched.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if path.name in ("", ".."):
        raise UsageError(
            f"{str(path)!r} names no file for a key", code="E751", hint="give the file a name"
        )
    public_path = path.with_name(f"{path.name}.pub")
    for place in (path, public_path):
        if os.path.lexists(place):
            raise _exists(place)
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    shown = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with _new_file(path, secret, 0o600), _new_file(public_path, shown, 0o644):
        sync_folder(path.parent)
        return read_signing_key(path)


@contextlib.contextmanager
def _new_file(path: Path, content: bytes, mode: int) -> Iterator[None]:
    """Write a file that was not there; what the body raises removes it, and no file of others."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:  # somebody was faster
        raise _exists(path) from error
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _exists(path: Path) -> UsageError:
    return UsageError(
        f"{path} exists, and a key is never overwritten",
        code="E750",
        subject=str(path),
        hint="choose another name; to replace a key use `edgedeploy keys rotate`",
    )


def read_signing_key(path: Path) -> SigningKey:
    """Return the key in a file.

    Raises:
        UsageError: The file cannot be read, others may read it (E751), or it holds no private
            Ed25519 key without a passphrase (E752).
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    content = read_private(path)
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
        raise _no_key(path, "private") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private")
    return SigningKey(public=key.public_key().public_bytes_raw(), sign=key.sign)


def read_private(path: Path) -> bytes:
    """Return the content of a file that may hold a private key (PEM).

    Raises:
        UsageError: It cannot be read, or others may read the key in it (E751).
    """
    content = _read(path)
    if _is_private(content) and path.stat().st_mode & 0o077:
        raise UsageError(
            f"others may read {path}",
            code="E751",
            subject=str(path),
            hint=f"chmod 600 {path}; if somebody did read it, revoke the key",
        )
    return content


def read_public_key(path: Path) -> bytes:
    """Return the 32 bytes of the public key in a file.

    Raises:
        UsageError: The file cannot be read (E751) or holds no public Ed25519 key (E752).
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    content = _read(path)
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, TypeError) as error:
        raise _no_key(path, "public") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public")
    return key.public_bytes_raw()


def read_public_part(path: Path) -> bytes:
    """Return the 32 public bytes of the key in a file, which may hold either part of it.

    Raises:
        UsageError: As :func:`read_signing_key` and :func:`read_public_key`.
    """
    if _is_private(_read(path)):
        return read_signing_key(path).public
    return read_public_key(path)


def signing_key(path: Path, command: Sequence[str] = ()) -> SigningKey:
    """Return the key that signs.

    Args:
        path: File of the private key; where a command signs, of either part.
        command: Program and arguments of what signs (:func:`signed_by`); empty: the file does.

    Raises:
        UsageError: As :func:`read_signing_key` and :func:`read_public_part`.
    """
    if not command:
        return read_signing_key(path)
    argv = tuple(command)
    return SigningKey(public=read_public_part(path), sign=lambda data: signed_by(argv, data))


def signed_by(
    command: Sequence[str], data: bytes, *, timeout_s: float = COMMAND_TIMEOUT_S
) -> bytes:
    """Return what a command prints that is given ``data`` as its standard input.

    It runs without a shell, with the environment and the terminal that we have, so that it can ask
    for a PIN. Its input is a file, not a pipe: `openssl pkeyutl` wants to know the size.

    Args:
        command: Program and arguments.
        data: What is signed, as it is (Ed25519 of RFC 8032, not prehashed).
        timeout_s: How long it may take, in seconds.

    Raises:
        ToolError: It cannot be started, fails, or takes too long (E744).
        OSError: There is no room for its input.
    """
    with tempfile.TemporaryFile() as given:
        given.write(data)
        given.seek(0)
        try:
            done = subprocess.run(
                list(command), stdin=given, stdout=subprocess.PIPE, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise _cannot_sign(command, f"it took longer than {timeout_s:.0f} s") from error
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise _cannot_sign(command, f"it cannot be started: {why}") from error
    if done.returncode != 0:
        raise _cannot_sign(command, f"it ended with status {done.returncode}")
    return done.stdout


def _cannot_sign(command: Sequence[str], why: str) -> ToolError:
    # The arguments stay out of it: one of them may be a PIN.
    return ToolError(
        f"the command that signs failed: {why}",
        code="E744",
        subject=command[0],
        hint="run it by hand with a file as its input; what it printed on stderr stands above",
    )


def _is_private(content: bytes) -> bool:
    return b"PRIVATE KEY-----" in content


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise UsageError(
            f"the key {path} cannot be read: {error.strerror}",
            code="E751",
            subject=str(path),
            hint="check the path; `edgedeploy keys new FILE` makes a key",
        ) from error


def _no_key(path: Path, kind: str) -> UsageError:
    return UsageError(
        f"{path} holds no {kind} Ed25519 key in PEM without a passphrase",
        code="E752",
        subject=str(path),
        hint="make one with `edgedeploy keys new FILE`; the public part is FILE.pub",
    )
