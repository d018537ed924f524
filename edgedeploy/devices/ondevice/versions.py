# Runs on devices: Python 3.6, standard library alone.
"""Versions: made of objects, removed when nothing needs them."""

import contextlib
import errno
import hashlib
import os
import time
from typing import List, Set

from edgedeploy.devices.ondevice import disk, layout
from edgedeploy.devices.ondevice.admission import Allowed, admit
from edgedeploy.devices.ondevice.disk import RefusalError, progress
from edgedeploy.devices.ondevice.layout import File, object_path
from edgedeploy.devices.ondevice.lock import Lock, try_journal
from edgedeploy.devices.ondevice.switch import read_pending
from edgedeploy.devices.ondevice.transfer import part_path, streams

STREAM_DAYS = 7


def stage(lock: Lock, manifest: bytes, downgrade: bool = False) -> str:
    """Make a version of objects that are there; return its name.

    A version that is there and damaged is healed, each of its files in one step. One that nobody
    signed may lie here whoever is trusted: it is refused when it is to become active.

    Args:
        lock: Held.
        manifest: Of the version.
        downgrade: Take a release that is older than one that was active.

    Raises:
        RefusalError: It is no manifest (E434), an object is not there (E433), the file system has
            no hard links (E424), or the lock is not held (E422); or as :func:`.admission.admit`.
    """
    lock.check()
    files = layout.files_of(manifest)
    version = hashlib.sha256(manifest).hexdigest()
    for file in files:
        path = object_path(file.sha256)
        if disk.kind(path) != "file" or os.lstat(path).st_size != file.size:
            raise RefusalError("E433", "%s is not there" % path)
    for folder in sorted({os.path.dirname(object_path(file.sha256)) for file in files}):
        disk.sync_folder(folder)
    admit(manifest, Allowed(development=True, downgrade=downgrade))
    goal = "versions/" + version
    if disk.kind(goal) == "folder":
        if layout.whole(version) is None:
            _heal(lock, goal, files, manifest)
            try_journal("heal", version=version)
    else:
        _make(lock, goal, files, manifest)
        try_journal("stage", version=version)
    disk.sync_folder("versions")
    return version


def _make(lock: Lock, goal: str, files: List[File], manifest: bytes) -> None:
    part = "tmp/" + disk.random_name()
    os.mkdir(part, 0o755)
    try:
        for folder in folders_of(files):
            os.mkdir(part + "/" + folder, 0o755)
        for file in files:
            _link(object_path(file.sha256), part + "/" + file.path)
        disk.write_new(part + "/manifest.json", manifest, 0o444)
        _settle_folders(part, files)
        lock.check()
        os.rename(part, goal)
        try:
            disk.sync_folder("versions")
        except OSError:
            os.rename(goal, part)
            raise
    except BaseException:
        with contextlib.suppress(OSError):
            disk.remove_tree(part)
        raise


def _heal(lock: Lock, goal: str, files: List[File], manifest: bytes) -> None:
    for folder in folders_of(files):
        path = goal + "/" + folder
        if disk.kind(path) != "folder":
            disk.remove_tree(path)
            os.mkdir(path, 0o755)
    for file in files:
        path = goal + "/" + file.path
        if not layout.is_object(path, file):
            part = "tmp/" + disk.random_name()
            _link(object_path(file.sha256), part)
            lock.check()
            _put(part, path)
    part = "tmp/" + disk.random_name()
    disk.write_new(part, manifest, 0o444)
    lock.check()
    _put(part, goal + "/manifest.json")
    _settle_folders(goal, files)


def _put(part: str, path: str) -> None:
    """Rename over what is there; only a folder, which no version has there, goes first."""
    if disk.kind(path) == "folder":
        disk.remove_tree(path)
    os.rename(part, path)


def _link(source: str, path: str) -> None:
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP):
            raise RefusalError("E424", "the file system has no hard links (%s)" % error) from None
        raise


def _settle_folders(root: str, files: List[File]) -> None:
    """Give the version its place in the order, and make its names durable, inner ones first."""
    when = layout.later(int(time.time() * 1000000000))
    os.utime(root, ns=(when, when))
    for folder in reversed(folders_of(files)):
        disk.sync_folder(root + "/" + folder)
    disk.sync_folder(root)


def folders_of(files: List[File]) -> List[str]:
    """Return the folders within a version, outer ones first."""
    found: Set[str] = set()
    for file in files:
        parts = file.path.split("/")[:-1]
        found.update("/".join(parts[: count + 1]) for count in range(len(parts)))
    return sorted(found)


def needed() -> Set[str]:
    """Return the versions that something leads to: they are never removed."""
    names = {layout.goal_of("current"), layout.goal_of("previous")}
    record = read_pending()
    if record is not None:
        names |= {record["version"], record.get("before")}
    return {name for name in names if name is not None}


def take_away(lock: Lock, version: str) -> int:
    """Remove a version: in one step from its place, then for good. Returns the bytes freed."""
    part = "tmp/" + disk.random_name()
    lock.check()
    os.rename("versions/" + version, part)
    disk.sync_folder("versions")
    size = 0
    with contextlib.suppress(OSError):
        size = os.lstat(part + "/manifest.json").st_size
    disk.remove_tree(part)
    return size


def collect(lock: Lock, keep: int) -> int:
    """Remove versions, objects and streams that nothing needs; return the bytes freed."""
    lock.check()
    names = [name for name in layout.version_names() if layout.whole(name) is not None]
    kept = needed() | set(names[len(names) - keep :] if keep > 0 else ())
    freed = 0
    for version in layout.version_names():
        if version not in kept:
            freed += take_away(lock, version)
            try_journal("remove", version=version)
    freed += _sweep_objects(lock)
    limit = time.time() - STREAM_DAYS * 86400
    for stream in streams():
        state = os.lstat(part_path(stream))
        if state.st_mtime < limit:
            os.unlink(part_path(stream))
            freed += state.st_size
    return freed


def _sweep_objects(lock: Lock) -> int:
    """Remove objects that no version names or holds, damaged versions included."""
    named: Set[str] = set()
    held: Set[int] = set()
    for version in layout.version_names():
        with contextlib.suppress(RefusalError, OSError):
            content = layout.read_manifest(version)
            named.update(file.sha256 for file in layout.files_of(content))
        for folder, _, files in os.walk("versions/" + version):
            held.update(os.lstat(folder + "/" + name).st_ino for name in files)
    freed = 0
    for sha256 in objects():
        progress(1)
        path = object_path(sha256)
        state = os.lstat(path)
        if sha256 not in named and state.st_ino not in held:
            lock.check()
            os.unlink(path)
            freed += state.st_size
    return freed


def objects() -> List[str]:
    """Return the names of all objects that are plain files in their places, sorted."""
    found = []
    for folder in sorted(os.listdir("objects")):
        if len(folder) == 2 and disk.kind("objects/" + folder) == "folder":
            for name in sorted(os.listdir("objects/" + folder)):
                if layout.HEX.match(name) and name.startswith(folder):
                    found.append(name)
    return [name for name in found if disk.kind(object_path(name)) == "file"]
