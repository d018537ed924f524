# Runs on devices: Python 3.6, standard library alone.
"""Checking a whole depot, and putting right what can be."""

import contextlib
import os
import re
from typing import Dict, List, NamedTuple

from edgedeploy.devices.ondevice import disk, layout, versions
from edgedeploy.devices.ondevice.disk import RefusalError
from edgedeploy.devices.ondevice.layout import NAMES, File, object_path
from edgedeploy.devices.ondevice.lock import Lock, try_journal
from edgedeploy.devices.ondevice.switch import read_pending

Damage = NamedTuple("Damage", [("path", str), ("what", str), ("repaired", bool)])
_STREAM = re.compile(r"[0-9a-f]{64}\.part\Z")


def fsck(lock: Lock, repair: bool) -> List[Damage]:
    """Rehash every object, check every version, link and name; ``repair`` what can be."""
    lock.check()
    found = _strangers() + _strays(repair)
    good: Dict[str, bool] = {}
    for sha256 in versions.objects():
        path = object_path(sha256)
        good[sha256] = disk.hash_file(path) == sha256
        if not good[sha256]:
            if repair:
                lock.check()
                os.unlink(path)
                disk.sync_folder(os.path.dirname(path))
            found.append(Damage(path, "bad-object", repair))
    for version in layout.version_names():
        found += _version(lock, version, good, repair)
    found += _links(repair)
    if repair and found:
        try_journal("repair", found=[list(damage) for damage in found[:50]])
    return found


def _version(lock: Lock, version: str, good: Dict[str, bool], repair: bool) -> List[Damage]:
    path = "versions/" + version
    try:
        files = layout.files_of(layout.read_manifest(version))
        bad = [file for file in files if not _file_is_right(path, file, good)]
    except RefusalError:
        files, bad = [], [File("manifest.json", 0, "")]
    if not bad:
        return _extra(path, files)
    if not repair:
        return [Damage(path, "bad-version", False)]
    if all(file.sha256 and _relink(lock, path + "/" + file.path, file) for file in bad):
        return [Damage(path, "bad-version", True), *_extra(path, files)]
    record = read_pending() or {}
    kept = {layout.goal_of("current"), record.get("version"), record.get("before")}
    if version in kept:
        return [Damage(path, "bad-version", False)]
    versions.take_away(lock, version)
    return [Damage(path, "bad-version", True)]


def _file_is_right(path: str, file: File, good: Dict[str, bool]) -> bool:
    return good.get(file.sha256, False) and layout.is_object(path + "/" + file.path, file)


def _relink(lock: Lock, path: str, file: File) -> bool:
    """Make a version's file and its object one again, whichever of them is right."""
    goal = object_path(file.sha256)
    for source, lost in ((path, goal), (goal, path)):
        if disk.kind(source) != "file" or disk.hash_file(source) != file.sha256:
            continue
        folder = os.path.dirname(lost)
        if disk.kind(folder) != "folder":
            return False
        part = "tmp/" + disk.random_name()
        with contextlib.suppress(OSError):
            os.link(source, part, follow_symlinks=False)
            lock.check()
            os.rename(part, lost)
            disk.remove(part)  # renaming a file over itself leaves both names
            disk.sync_folder(folder)
            return True
    return False


def _extra(path: str, files: List[File]) -> List[Damage]:
    listed = {file.path for file in files} | {"manifest.json"} | set(versions.folders_of(files))
    found = []
    for folder, folders, names in os.walk(path):
        for name in folders + names:
            relative = os.path.relpath(folder + "/" + name, path)
            if relative not in listed:
                found.append(Damage(path + "/" + relative, "foreign", False))
    return found


def _strangers() -> List[Damage]:
    found = [name for name in os.listdir(".") if name not in NAMES]
    found += [
        "versions/" + name
        for name in os.listdir("versions")
        if not layout.HEX.match(name) or disk.kind("versions/" + name) != "folder"
    ]
    found += [
        "incoming/" + name
        for name in os.listdir("incoming")
        if not _STREAM.match(name) or disk.kind("incoming/" + name) != "file"
    ]
    for folder in os.listdir("objects"):
        path = "objects/" + folder
        if not re.match(r"[0-9a-f]{2}\Z", folder) or disk.kind(path) != "folder":
            found.append(path)
            continue
        for name in os.listdir(path):
            right = layout.HEX.match(name) and name.startswith(folder)
            if not right or disk.kind(path + "/" + name) != "file":
                found.append(path + "/" + name)
    return [Damage(path, "foreign", False) for path in sorted(found)]


def _strays(repair: bool) -> List[Damage]:
    """Find what an interrupted run left; a trial's own files are none."""
    left = ["tmp/" + name for name in sorted(os.listdir("tmp"))]
    if read_pending() is None:
        left += [name for name in ("pending", "pending.back") if disk.kind(name)]
    if repair:
        for path in left:
            disk.remove_tree(path)
        disk.sync_folder(".")
    return [Damage(path, "stray", repair) for path in left]


def _links(repair: bool) -> List[Damage]:
    found = []
    for name in ("current", "previous"):
        if disk.kind(name) and layout.link(name) is None:
            mends = repair and name == "previous" and disk.kind(name) == "link"
            if mends:
                os.unlink(name)
                disk.sync_folder(".")
            found.append(Damage(name, "bad-link", mends))
    return found
