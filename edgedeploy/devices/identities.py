"""Which private keys there are to log in with: their files' public halves, read without passphrase.

Knowing the public half of a file tells whether ssh-agent holds the key already, so that nobody is
asked for the passphrase of a key that the agent signs with. The form of the files is OpenSSH's
PROTOCOL.key.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

_MAGIC = b"openssh-key-v1\0"
_FILE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A file that a key was looked for in.

    Attributes:
        file: The file.
        public: Its public key in wire form, None where the file does not tell without passphrase.
        private: Whether it holds the private key; a ``.pub`` file names a key of ssh-agent.
        fault: Why it cannot be used, None when it can.
    """

    file: Path
    public: bytes | None = None
    private: bool = True
    fault: str | None = None


def identity(file: Path) -> Identity | None:
    """Return what a file of a key is, None when it is not there."""
    try:
        with open(file, "rb") as source:
            mode = os.fstat(source.fileno()).st_mode
            content = source.read(_FILE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Identity(file=file, fault=(error.strerror or str(error)).lower())
    if not stat.S_ISREG(mode):
        return Identity(file=file, fault="no regular file")
    if b"PRIVATE KEY-----" not in content[:100]:
        public = _from_public(content)
        fault = None if public else "holds no key"
        return Identity(file=file, public=public, private=False, fault=fault)
    if mode & 0o077:  # ssh refuses it as well
        return Identity(file=file, fault=f"others may read it (mode {mode & 0o777:04o})")
    return Identity(file=file, public=_from_private(content) or _beside(file))


def _beside(file: Path) -> bytes | None:
    try:
        return _from_public(Path(f"{file}.pub").read_bytes()[:_FILE_BYTES])
    except OSError:
        return None


def _from_public(content: bytes) -> bytes | None:
    words = content.split(None, 2)
    try:
        return base64.b64decode(words[1], validate=True) if len(words) > 1 else None
    except (binascii.Error, ValueError):
        return None


def _from_private(content: bytes) -> bytes | None:
    """Return the public key that stands unencrypted in OpenSSH's form of a private key."""
    lines = content.splitlines()
    try:
        data = base64.b64decode(b"".join(lines[1:-1]), validate=True)
        if not data.startswith(_MAGIC):
            return None
        at = len(_MAGIC)
        for _ in range(3):  # cipher, key derivation, its options
            at += 4 + struct.unpack_from(">I", data, at)[0]
        (length,) = struct.unpack_from(">I", data, at + 4)  # after the number of keys
        found = data[at + 8 : at + 8 + length]
    except (binascii.Error, ValueError, struct.error):
        return None
    return found if len(found) == length else None
