# Runs on devices: Python 3.6, standard library alone.
"""The depot's folders and names: entering it, its links, its versions and their manifests."""

import contextlib
import errno
import hashlib
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional

from edgedeploy.devices.ondevice.disk import (
    RefusalError,
    kind,
    parsed,
    read_file,
    remove,
    sync_folder,
    write_new,
)

FORMAT = b"1\n"
FOLDERS = ("incoming", "objects", "tmp", "versions")
_FILES = ("format", "journal.jsonl", "lock", "lock.owner", "pending", "settle.sh", "trust.json")
_MEMORY = ("releases.json", "releases.json.lock", "releases.json.part", "releases.next")
NAMES = frozenset((*FOLDERS, *_FILES, *_MEMORY, "current", "pending.back", "previous"))
OWNER_BYTES = 512
MANIFEST_BYTES = 16 << 20
HEX = re.compile(r"[0-9a-f]{64}\Z")
_GOAL = re.compile(r"versions/([0-9a-f]{64})\Z")

File = NamedTuple("File", [("path", str), ("size", int), ("sha256", str)])


def enter(folder: str) -> str:
    """Make a folder the depot (and the current folder); return its absolute path.

    Raises:
        RefusalError: It is something else (E429), or not this user's alone (E430).
        OSError: The disk refuses.
    """
    path = os.path.expanduser(folder)
    if not os.path.isabs(path):
        raise RefusalError("E429", "%s is no absolute path on the device" % folder)
    _make_folders(os.path.normpath(path))
    root = os.path.realpath(path)
    if kind(root) != "folder":
        raise RefusalError("E429", "%s is a %s" % (root, kind(root)))
    state = os.lstat(root)
    if state.st_uid != os.geteuid():
        raise RefusalError("E430", "%s belongs to user %d" % (root, state.st_uid))
    if state.st_mode & 0o022:
        raise RefusalError("E430", "%s may be written by others" % root)
    os.chdir(root)
    if kind("format"):
        found = read_file("format", 64)
        if found.strip() != FORMAT.strip():
            said = found[:16].decode("ascii", "replace").strip()
            raise RefusalError("E429", "%s is of format %r" % (root, said))
        for name in FOLDERS:
            _make_folder(name)
    else:
        _begin(root)
    return root


def _make_folders(path: str) -> None:
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for name in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700)
        sync_folder(os.path.dirname(name))


def _make_folder(name: str) -> None:
    found = kind(name)
    if not found:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755)
            sync_folder(".")
    elif found != "folder":
        raise RefusalError("E429", "%s is a %s where a folder belongs" % (name, found))


def _begin(root: str) -> None:
    """Make the depot; what an interrupted run of this left is gone on with."""
    strange = sorted(set(os.listdir(".")) - NAMES)
    if strange:
        raise RefusalError("E429", "%s holds other things (%s)" % (root, strange[0]))
    for name in FOLDERS:
        _make_folder(name)
    sync_folder(".")
    part = "tmp/format"
    try:
        remove(part)
        write_new(part, FORMAT, 0o444)
        os.rename(part, "format")
    except (FileExistsError, FileNotFoundError):
        if not kind("format"):  # another agent makes the same depot just now
            raise
    sync_folder(".")


def object_path(sha256: str) -> str:
    """Return where an object lies."""
    return "objects/%s/%s" % (sha256[:2], sha256)


def link(name: str) -> Optional[str]:
    """Return the version that ``current`` or ``previous`` leads to; None when to nothing."""
    goal = goal_of(name)
    return goal if goal and kind("versions/" + goal) == "folder" else None


def goal_of(name: str) -> Optional[str]:
    """Return the version that a link names, there or not; None when it is no such link."""
    try:
        found = _GOAL.match(os.readlink(name))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        return None
    return found.group(1) if found else None


def read_manifest(version: str) -> bytes:
    """Return the manifest of a version that is there, checked against its name.

    Raises:
        RefusalError: There is no such version (E425), or its manifest is damaged (E720).
    """
    path = "versions/%s/manifest.json" % version
    if kind(path) != "file":
        raise RefusalError("E425", "there is no version %s" % version)
    content = read_file(path, MANIFEST_BYTES + 1)
    if hashlib.sha256(content).hexdigest() != version:
        raise RefusalError("E720", "%s is not what its version's name says" % path)
    return content


def files_of(content: bytes) -> List[File]:
    """Return the files of a manifest.

    Raises:
        RefusalError: It is no manifest, or names a file outside the version (E434).
    """
    data = parsed(content) if len(content) <= MANIFEST_BYTES else None
    listed = data.get("files") if data is not None else None
    if data is None or data.get("schema") != 1 or not isinstance(listed, list):
        raise RefusalError("E434", "it is no manifest of schema 1")
    files = [_file(item) for item in listed]
    paths = {file.path for file in files}
    if len(paths) != len(files):
        raise RefusalError("E434", "a path is there twice")
    for path in paths:
        parts = path.split("/")
        if any("/".join(parts[:count]) in paths for count in range(1, len(parts))):
            raise RefusalError("E434", "a file is also a folder: %r" % path)
    return files


def _file(item: Any) -> File:
    fields: Dict[str, Any] = item if isinstance(item, dict) else {}
    path, size, sha256 = fields.get("path"), fields.get("size"), fields.get("sha256")
    if not isinstance(path, str) or not _allowed(path):
        raise RefusalError("E434", "a path is not allowed: %.200r" % (path,))
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise RefusalError("E434", "a size is no number of bytes: %.200r" % (size,))
    if not isinstance(sha256, str) or not HEX.match(sha256):
        raise RefusalError("E434", "a digest is none: %.200r" % (sha256,))
    return File(path, size, sha256)


def _allowed(path: str) -> bool:
    """Whether a path stays in its version, and can be shown and typed."""
    parts = path.split("/")
    return (
        path.isprintable()
        and path != "manifest.json"
        and len(path.encode("utf-8")) <= 1024
        and len(parts) <= 64
        and all(
            part not in ("", ".", "..")
            and not part.startswith("-")
            and len(part.encode("utf-8")) <= 255
            for part in parts
        )
    )


def whole(version: str) -> Optional[List[File]]:
    """Return a version's files when each is its object and of its size, else None."""
    try:
        files = files_of(read_manifest(version))
    except (RefusalError, FileNotFoundError, NotADirectoryError):
        return None
    for file in files:
        if not is_object("versions/%s/%s" % (version, file.path), file):
            return None
    return files


def is_object(path: str, file: File) -> bool:
    """Whether a path is a plain file, the same as its object, and of the right size."""
    if kind(path) != "file" or kind(object_path(file.sha256)) != "file":
        return False
    here, there = os.lstat(path), os.lstat(object_path(file.sha256))
    return here.st_ino == there.st_ino and here.st_size == file.size


def version_names() -> List[str]:
    """Return the names of all versions, complete or not, oldest first.

    The order is that of the folders' times, which :func:`later` keeps rising whatever the clock
    does.
    """
    names = [
        name
        for name in os.listdir("versions")
        if HEX.match(name) and kind("versions/" + name) == "folder"
    ]
    return sorted(names, key=lambda name: (os.lstat("versions/" + name).st_mtime_ns, name))


def later(now_ns: int) -> int:
    """Return a time for a new version's folder: now, or a second after the newest."""
    names = version_names()
    newest = os.lstat("versions/" + names[-1]).st_mtime_ns if names else 0
    return max(now_ns, newest + 1000000000)


def sizes() -> Dict[str, int]:
    """Return the sizes of objects that manifests on the device tell."""
    found: Dict[str, int] = {}
    for name in version_names():
        with contextlib.suppress(RefusalError, OSError):
            found.update((file.sha256, file.size) for file in files_of(read_manifest(name)))
    return found
