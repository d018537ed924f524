"""Opening a bundle: all of it is checked, or none of it is used."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from edgedeploy.errors import IntegrityError
from edgedeploy.release.archive import Member, damaged, read_member, read_members, read_parts
from edgedeploy.release.bundle import (
    ENVELOPE,
    MANIFEST,
    MOST_MANIFEST_BYTES,
    OWN,
    SUMS,
    Release,
    members_of,
    parse_release,
    sums,
)
from edgedeploy.release.signing import PAYLOAD_TYPE, is_signed, key_id, read_envelope

NOBODY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle that was checked to the last byte.

    Attributes:
        release: What it holds.
        signers: Ids of the trusted keys whose signatures are right.
        path: Where it lies.
        envelope: The signatures, as ``manifest.dsse.json`` holds them.
    """

    release: Release
    signers: tuple[str, ...]
    path: Path
    envelope: bytes
    _file: BinaryIO
    _members: Mapping[str, Member]  # by digest
    _digests: Mapping[str, str]  # by path

    def parts(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file of the release.

        Raises:
            KeyError: The release has no such file.
            IntegrityError: It is no longer what was checked (E735).
        """
        wanted = self._digests[path]
        found = hashlib.sha256()
        for data in read_parts(self._file, self._members[wanted]):
            found.update(data)
            yield data
        if found.hexdigest() != wanted:
            raise damaged(path, "it changed since it was checked")

    def read(self, path: str) -> bytes:
        """Return the content of a file of the release; raises as :meth:`parts`."""
        return b"".join(self.parts(path))


@contextmanager
def open_bundle(
    path: Path, trusted: Mapping[str, bytes], revoked: Mapping[str, str] = NOBODY
) -> Iterator[Bundle]:
    """Open a bundle, check all of it, and close it at the end.

    Args:
        path: The bundle.
        trusted: The 32 public bytes of the keys that are believed, by id.
        revoked: Why keys are believed no more, by id.

    Raises:
        IntegrityError: It is no bundle (E731), its signature cannot be read (E732) or is by none of
            the trusted keys (E736), or by a revoked one alone (E746), its manifest cannot be used
            (E734), or a file is missing, too many or another (E735).
        OSError: It cannot be read.
    """
    with _open(path) as file:
        members = read_members(file)
        for name in sorted(OWN - members.keys()):
            raise damaged(name, "it is missing")
        manifest = read_member(file, members[MANIFEST], MOST_MANIFEST_BYTES)
        envelope = read_member(file, members[ENVELOPE], 2 * MOST_MANIFEST_BYTES)
        # Before any of the manifest is read: nobody's JSON reaches the reader.
        signers = check_signatures(manifest, envelope, trusted, revoked=revoked)
        release = parse_release(manifest)
        check_files(file, members, release)
        yield Bundle(
            release=release,
            signers=signers,
            path=path,
            envelope=envelope,
            _file=file,
            _members={key: members[name] for key, name in members_of(release.files).items()},
            _digests={item.path: item.sha256 for item in release.files},
        )


def _open(path: Path) -> BinaryIO:
    # O_NONBLOCK: a pipe must not make us wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise IntegrityError(
            f"{path} is a folder, and a bundle is one file"
            if stat.S_ISDIR(mode)
            else f"{path} is no regular file",
            code="E731",
            subject=str(path),
            hint="give the bundle, a `.edpkg` file; verify_file.py checks a folder of one",
        )
    return open(descriptor, "rb")


def check_signatures(
    manifest: bytes,
    envelope: bytes,
    trusted: Mapping[str, bytes],
    name: str = MANIFEST,
    payload_type: str = PAYLOAD_TYPE,
    revoked: Mapping[str, str] = NOBODY,
) -> tuple[str, ...]:
    """Return the ids of the trusted keys that vouch for a manifest, sorted.

    Signatures of other keys are passed over: they add nothing and take nothing away.

    Args:
        manifest: Its bytes.
        envelope: The envelope that lies beside it.
        trusted: As :func:`open_bundle`.
        name: What the manifest is called, where it is another signed file.
        payload_type: Which kind of file it is.
        revoked: As :func:`open_bundle`.

    Raises:
        IntegrityError: The envelope cannot be read (E732) or holds another manifest (E735), no
            trusted key vouches for it, or the signature of one of them is not right (E736), or a
            revoked key is all that vouches for it (E746).
    """
    payload, signatures = read_envelope(envelope, payload_type)
    if payload != manifest:
        raise damaged(name, "it is not what was signed")
    known = {key_id(public): public for public in trusted.values()}
    by_us = [item for item in signatures if item.keyid in known]
    wrong = [
        item for item in by_us if not is_signed(payload, known[item.keyid], item.sig, payload_type)
    ]
    gone = [item.keyid for item in signatures if item.keyid in revoked]
    if gone and not by_us:
        raise IntegrityError(
            f"the key {gone[0][:16]} signed it, and was revoked: {revoked[gone[0]]}",
            code="E746",
            hint="get a release that a key signed which is believed",
        )
    if wrong or not by_us:
        found = ", ".join(item.keyid[:16] for item in wrong or signatures)
        raise IntegrityError(
            f"the signature of {found} is not right"
            if wrong
            else f"no trusted key vouches for it: it is signed by {found}",
            code="E736",
            hint="get the bundle again from where it was published"
            if wrong
            else "give the publisher's public key with --key, or enrol it with `edgedeploy keys`",
        )
    return tuple(item.keyid for item in by_us)


def check_files(file: BinaryIO, members: Mapping[str, Member], release: Release) -> None:
    """Check that an archive holds exactly what a manifest lists.

    Raises:
        IntegrityError: A file is missing, too many or another (E735).
        OSError: It cannot be read.
    """
    wanted = members_of(release.files)
    listed = set(wanted.values())
    for path in sorted(members.keys() - OWN - listed):
        raise damaged(path, "it is in the archive and not in the manifest")
    if read_member(file, members[SUMS], MOST_MANIFEST_BYTES) != sums(release.files):
        raise damaged(SUMS, "it does not say what the manifest says")
    sizes = {item.path: item for item in release.files}
    for sha256, path in sorted(wanted.items(), key=lambda item: item[1]):
        if path not in members:
            raise damaged(path, "it is missing")
        if members[path].size != sizes[path].size:
            raise damaged(path, f"it has {members[path].size} bytes, not {sizes[path].size}")
        found = hashlib.sha256()
        for data in read_parts(file, members[path]):
            found.update(data)
        if found.hexdigest() != sha256:
            raise damaged(path, "its content is another")
