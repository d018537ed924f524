"""Whether a machine is the one it was: strict ``known_hosts``, as sshd(8) describes the file."""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import fnmatch
import hashlib
import hmac
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.devices.link import failure
from edgedeploy.errors import DeviceError

_FILE_BYTES = 16 << 20
_HASHED = "|1|"

_LOCK_S = 10.0
"""How long another program may hold the file; it writes one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """One line of a ``known_hosts`` file.

    Attributes:
        marker: ``""``, ``@revoked`` or ``@cert-authority``.
        names: The patterns, or one hashed name.
        kind: Key type, such as ``ssh-ed25519``.
        blob: The public key in wire form.
        file: Where it stands.
        line: From 1.
    """

    marker: str
    names: str
    kind: str
    blob: bytes
    file: Path
    line: int

    def is_for(self, name: str) -> bool:
        """Whether the line is about a machine of this name (``[host]:port`` off port 22)."""
        if self.names.startswith(_HASHED):
            return _hashed(name, self.names.split("|")[2]) == self.names
        matches = False
        for pattern in self.names.lower().split(","):
            wanted = pattern.removeprefix("!")
            if _like(name.lower(), wanted):
                if pattern.startswith("!"):
                    return False
                matches = True
        return matches


class KnownHosts:
    """The host keys that the user and the system know.

    Args:
        user: The user's files; a new key goes into the first.
        system: The system's files.
        hash_names: Whether the name of a new key is hashed.
    """

    def __init__(
        self, user: Sequence[Path], system: Sequence[Path], *, hash_names: bool = False
    ) -> None:
        self._user = tuple(user)
        self._hash_names = hash_names
        self._keys = [key for file in (*user, *system) for key in _read(file)]

    def kinds(self, name: str, host: str) -> tuple[str, ...]:
        """Return the types of the known keys of a machine, to be asked for first.

        Args:
            name: As it stands in the files.
            host: Its name without port, which counts where the other is not found.
        """
        known = self._known(name) or self._known(host)
        return tuple(dict.fromkeys(key.kind for key in known))

    def check(self, name: str, host: str, kind: str, blob: bytes, *, accept_new: bool) -> None:
        """Let the key of a machine pass, or not.

        Args:
            name: As it stands in the files: ``HostKeyAlias``, host or ``[host]:port``.
            host: Its name without port.
            kind: Type of the key that it showed.
            blob: That key.
            accept_new: Whether the key of a machine that is not known is kept and passes.

        Raises:
            DeviceError: The machine is unknown (E409), its key is another one than before (E410),
                or was revoked or can only be vouched for by a certificate (E411); or the key
                cannot be kept (E415).
        """
        for key in self._keys:
            if key.marker == "@revoked" and key.blob == blob and (_any(key, name, host)):
                raise _refused(
                    f"the host key of {name} is revoked ({key.file}:{key.line})",
                    "the device shows a key that is known to be in wrong hands: replace it there",
                )
        known = self._known(name)
        if any(key.blob == blob for key in known):
            return
        if not known and any(key.blob == blob for key in self._known(host)):
            return  # as OpenSSH: known without its port
        if known:
            raise _changed(name, known, kind, blob)
        if any(key.marker == "@cert-authority" and key.is_for(name) for key in self._keys):
            raise _refused(
                f"{name} is vouched for by a certificate authority in known_hosts, "
                "and edgedeploy reads no host certificates",
                f"add its own key: `ssh-keyscan` it, compare {fingerprint(blob)}, append the line",
            )
        if not accept_new:
            raise failure(
                f"the host key of {name} is not known: {kind} {fingerprint(blob)}",
                "E409",
                "compare it on the device (`ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub`), then "
                "connect once with `ssh`, or give `--accept-new`",
                retryable=False,
            )
        self._keep(name, kind, blob)

    def _known(self, name: str) -> list[KnownKey]:
        return [key for key in self._keys if not key.marker and key.is_for(name)]

    def _keep(self, name: str, kind: str, blob: bytes) -> None:
        """Append a key to the user's first file, once."""
        if not self._user or not name.isprintable() or any(letter in name for letter in " ,*?!"):
            raise _not_kept(name, "no file or no name for it")
        file = self._user[0]
        shown = (
            _hashed(name, base64.b64encode(os.urandom(20)).decode()) if self._hash_names else name
        )
        line = f"{shown} {kind} {base64.b64encode(blob).decode()}\n".encode()
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(file) as handle:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    return  # /dev/null: somebody wants nothing kept
                if any(key.blob == blob and key.is_for(name) for key in _read(file)):
                    return  # another run was faster
                size = os.fstat(handle).st_size
                ends = size == 0 or os.pread(handle, 1, size - 1) == b"\n"
                # One write to a file opened for appending: whole, also beside a running `ssh`.
                os.write(handle, line if ends else b"\n" + line)
                os.fsync(handle)
        except OSError as error:
            raise _not_kept(name, f"{file}: {error.strerror or error}") from error


def fingerprint(blob: bytes) -> str:
    """Return a key's fingerprint as ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(blob).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _any(key: KnownKey, name: str, host: str) -> bool:
    return key.is_for(name) or key.is_for(host)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[int]:
    handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        yield handle
    finally:
        os.close(handle)


def _read(file: Path) -> list[KnownKey]:
    """Return the lines of a file that hold a key; others are skipped, as OpenSSH does.

    Raises:
        DeviceError: It is there and cannot be read (E415).
    """
    try:
        with open(file, "rb") as source:
            text = source.read(_FILE_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failure(
            f"cannot read {file}: {error.strerror or error}",
            "E415",
            "make it readable for you, or name another UserKnownHostsFile",
            retryable=False,
        ) from error
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#"):
            continue
        try:
            blob = base64.b64decode(words[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        found.append(
            KnownKey(
                marker=marker, names=words[0], kind=words[1], blob=blob, file=file, line=number
            )
        )
    return found


def _hashed(name: str, salt: str) -> str:
    """Return a name as HashKnownHosts writes it: HMAC-SHA1 under a salt."""
    try:
        key = base64.b64decode(salt, validate=True)
    except (binascii.Error, ValueError):
        return ""
    digest = hmac.new(key, name.lower().encode(), hashlib.sha1).digest()
    return f"{_HASHED}{salt}|{base64.b64encode(digest).decode()}"


def _like(name: str, pattern: str) -> bool:
    """Whether a name matches a pattern of ``*`` and ``?``; brackets are brackets."""
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _changed(name: str, known: Sequence[KnownKey], kind: str, blob: bytes) -> DeviceError:
    before = next((key for key in known if key.kind == kind), known[0])
    return failure(
        f"the host key of {name} is another one than before: known is {before.kind} "
        f"{fingerprint(before.blob)} ({before.file}:{before.line}), shown was {kind} "
        f"{fingerprint(blob)}; nothing was sent to it",
        "E410",
        "somebody may answer in its place. If the device was really set up anew, compare the key "
        f"there and remove the old one: `ssh-keygen -R '{name}' -f {before.file}`",
        retryable=False,
    )


def _refused(message: str, hint: str) -> DeviceError:
    return failure(message, "E411", hint, retryable=False)


def _not_kept(name: str, why: str) -> DeviceError:
    return failure(
        f"cannot keep the host key of {name}: {why}",
        "E415",
        "make the file writable for you, or add the key with `ssh`",
        retryable=False,
    )
