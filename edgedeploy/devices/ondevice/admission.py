# Runs on devices: Python 3.6, standard library alone.
"""Whether a version may become active: the check of a signed release, where a depot trusts keys.

A depot that holds ``trust.json`` takes versions of kind ``release``: a believed key signed the
release's manifest, which the version carries; every file of the version is the one that it lists;
and no newer release was active here (``releases.json`` remembers). Without the file nothing is
asked. The programs that make the check on any device, ``verify_file.py`` and ``trust_file.py``,
travel with the agent.
"""

import importlib
import os
from typing import Any, Dict, List, NamedTuple, Optional, Set

from edgedeploy.devices.ondevice import disk, layout
from edgedeploy.devices.ondevice.disk import RefusalError
from edgedeploy.devices.ondevice.layout import File, object_path
from edgedeploy.devices.ondevice.lock import Lock, try_journal

TRUST, MEMORY = "trust.json", "releases.json"
TRUST_BYTES = 4 << 20

SIGNED, ENVELOPE = "release/manifest.json", "release/manifest.dsse.json"
"""Where a version carries the manifest of its release, and the signatures."""

SIGNED_BYTES = 16 << 20

# What the operator allows: versions that nobody signed; releases older than what was active.
Allowed = NamedTuple("Allowed", [("development", bool), ("downgrade", bool)])


class Admitted:
    """A release that may become active; :meth:`keep` remembers it once it has."""

    def __init__(self, checker: Any, found: Dict[str, Any], keys: List[bytes]) -> None:
        self._checker = checker
        self._found = found
        self._keys = keys

    def check(self, downgrade: bool) -> None:
        """Refuse a release that is older than one that was active (E738 to E741)."""
        memory = self._checker.Memory(MEMORY, downgrade)
        self._told(memory.check)

    def keep(self) -> None:
        """Remember it (E740, E741)."""
        self._told(self._checker.Memory(MEMORY, True).keep)

    def _told(self, act: Any) -> None:
        try:
            act(self._found, self._keys)
        except self._checker.VerifyError as error:
            raise RefusalError(error.code, str(error)) from None


def admit(manifest: bytes, allowed: Allowed) -> Optional[Admitted]:
    """Let a version pass whose objects are all there, or refuse it.

    Args:
        manifest: Of the version.
        allowed: What the operator allows.

    Returns:
        The release that it is; None where nothing is to be remembered, because the depot trusts
        nobody or the operator allowed a version that nobody signed.

    Raises:
        RefusalError: It is of kind ``development`` (E755), of another application (E776), or the
            check of the release refuses it, with the codes of ``verify_file.py``.
        OSError: The disk refuses.
    """
    if not disk.kind(TRUST):
        return None
    if (disk.parsed(manifest) or {}).get("kind") != "release":
        if allowed.development:
            return None
        raise RefusalError("E755", "the device takes signed releases, and this is none")
    checker, trust = _programs()
    try:
        believed, revoked = trust.read_trust(TRUST)
        files = {file.path: file for file in layout.files_of(manifest)}
        found = _signed(checker, files, believed, revoked)
        _compare(files, found["release"], _target(manifest))
    except (checker.VerifyError, trust.TrustError) as error:
        raise RefusalError(error.code, str(error)) from None
    for file in {file.sha256: file for file in files.values()}.values():
        if disk.hash_file(object_path(file.sha256)) != file.sha256:
            raise _wrong(file.path, "its content is another")
    admitted = Admitted(checker, found, believed)
    admitted.check(allowed.downgrade)
    return admitted


def _programs() -> Any:
    return importlib.import_module("verify_file"), importlib.import_module("trust_file")


def _signed(checker: Any, files: Dict[str, File], believed: List[bytes], revoked: Any) -> Any:
    """Return the release whose signed manifest a version carries.

    Raises:
        RefusalError: It carries none (E735), its key was revoked (E746), or it is of another
            application than the depot (E776).
        checker.VerifyError: As ``verify_file.signed``.
    """
    contents = []
    for path in (SIGNED, ENVELOPE):
        if path not in files:
            raise _wrong(path, "it is missing")
        contents.append(disk.read_file(object_path(files[path].sha256), 2 * SIGNED_BYTES + 1))
    if len(contents[0]) > SIGNED_BYTES:
        raise RefusalError("E734", "the signed manifest has %d bytes" % len(contents[0]))
    try:
        found = checker.signed(contents[0], contents[1], believed)
    except checker.VerifyError as error:
        if error.code == "E736":
            _refuse_revoked(checker, contents, revoked)
        raise
    name, app = found["release"]["name"], os.path.basename(os.getcwd())
    if name != app:
        raise RefusalError("E776", "it is a release of %s, and this depot is of %s" % (name, app))
    return found


def _refuse_revoked(checker: Any, contents: List[bytes], revoked: Any) -> None:
    for public, why in revoked:
        try:
            checker.signed(contents[0], contents[1], [public])
        except checker.VerifyError:
            continue
        name = checker.key_id(public)[:16]
        raise RefusalError("E746", "%s signed it, and was revoked: %.200s" % (name, why))


def _target(manifest: bytes) -> str:
    """Return the target that a version says it is for; which of the release's it is, is no secret.

    A version that says another one holds none of its files, and is refused for that.
    """
    models = (disk.parsed(manifest) or {}).get("models")
    last = models[-1] if isinstance(models, list) and models else None
    target = last.get("target") if isinstance(last, dict) else None
    return target if isinstance(target, str) else ""


def _compare(files: Dict[str, File], release: Dict[str, Any], target: str) -> None:
    """Refuse a version that holds what the release does not list, or a folder of it in part.

    A version has the files of one target, without the target's name before them, and those of no
    target. A folder that it has, it has whole: of several engines it may have one.
    """
    folders: Set[str] = set()
    for path in files:
        parts = path.split("/")[:-1]
        folders.update("/".join(parts[: count + 1]) for count in range(len(parts)))
    signed: Dict[str, Any] = {}
    for item in release["files"]:
        path = item["path"]
        if path.startswith(target + "/"):
            path = path[len(target) + 1 :]
        signed[path] = item
        folder = os.path.dirname(path)
        if folder in folders and path not in files:
            raise _wrong(path, "it is missing")
    for path, file in sorted(files.items()):
        if path in (SIGNED, ENVELOPE):
            continue
        if path not in signed:
            raise _wrong(path, "it is there and not in the signed manifest")
        item = signed[path]
        if (item["sha256"], item["size"]) != (file.sha256, file.size):
            raise _wrong(path, "its content is another")


def _wrong(path: str, why: str) -> RefusalError:
    return RefusalError("E735", "%.160r: %s" % (path, why))


def read_trust() -> Optional[bytes]:
    """Return the content of the depot's trust file, None when there is none."""
    return disk.read_file(TRUST, TRUST_BYTES + 1) if disk.kind(TRUST) else None


def entrust(lock: Lock, content: bytes) -> None:
    """Replace the depot's trust file, durably and in one step.

    Raises:
        RefusalError: The content is no trust file (E743), or the lock is not held (E422).
        OSError: The disk refuses.
    """
    lock.check()
    trust = _programs()[1]
    part = "tmp/" + disk.random_name()
    disk.write_new(part, content, 0o644)
    try:
        trust.read_trust(part)
        lock.check()
        os.rename(part, TRUST)
    except trust.TrustError as error:
        raise RefusalError(error.code, str(error)) from None
    finally:
        disk.remove(part)
    disk.sync_folder(".")
    try_journal("entrust", sha256=disk.hash_file(TRUST))
