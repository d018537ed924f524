# Runs on devices: Python 3.6, standard library alone.
# ruff: noqa: B905, BLE001, T201, UP006, UP031, UP035, PTH102, PTH103, PTH104, PTH118, PTH120
"""Unpacks wheels on a device: ``python unpack.py ROOT NAME FAMILY [SHA256 FILE]...``.

From the depot ``ROOT/FAMILY/versions/NAME`` into ``ROOT/trees/NAME``, which exists only whole: what
a cut leaves behind has another name. Prints one line: ``done`` or ``failed`` and why.
"""

import hashlib
import os
import shutil
import sys
import zipfile
from typing import List

CHUNK_BYTES = 1 << 20
PLACES = ("purelib", "platlib")


def main(arguments: List[str]) -> int:
    """Unpack and say how it went; return the exit status."""
    try:
        root, name, family = arguments[:3]
        unpack(root, name, family, arguments[3:])
    except Exception as error:  # told to the host, which types it
        print("failed %s: %s" % (type(error).__name__, error))
        return 1
    print("done")
    return 0


def unpack(root: str, name: str, family: str, wheels: List[str]) -> None:
    """Unpack wheels, given as digest and file name in turn, into the tree ``name``.

    Raises:
        ValueError: A wheel is not what its digest says, or holds a path that leads out.
        OSError: The disk refuses.
    """
    trees = os.path.join(root, "trees")
    part, goal = os.path.join(trees, ".part-" + family), os.path.join(trees, name)
    os.makedirs(trees, 0o700, exist_ok=True)
    for old in (part, goal):
        if os.path.lexists(old):
            shutil.rmtree(old)
    os.mkdir(part)
    try:
        for digest, file in zip(wheels[::2], wheels[1::2]):
            path = os.path.join(root, family, "versions", name, file)
            if file_sha256(path) != digest:
                raise ValueError("%s is damaged" % file)
            unpack_wheel(path, part)
        os.sync()  # one for thousands of files; a rename must not come before what it names
        os.rename(part, goal)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    handle = os.open(trees, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    # Compiled modules of trees before; made again when they are needed.
    shutil.rmtree(os.path.join(root, "compiled"), ignore_errors=True)


def unpack_wheel(path: str, goal: str) -> None:
    """Unpack a wheel's modules as an installer does; its scripts and headers are left out.

    Source: PyPA specification "Binary distribution format".

    Raises:
        ValueError: A path in it leads out.
    """
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            parts = item.filename.split("/")
            if parts[0].endswith(".data"):
                if len(parts) < 3 or parts[1] not in PLACES:
                    continue
                parts = parts[2:]
            if not parts[-1]:
                continue  # a folder
            if any(part in ("", ".", "..") or "\0" in part for part in parts):
                raise ValueError("%r leads out of the wheel" % item.filename)
            target = os.path.join(goal, *parts)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.open(item) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out, CHUNK_BYTES)


def file_sha256(path: str) -> str:
    """Return the SHA-256 of a file's content (64 hex digits)."""
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        for data in iter(lambda: file.read(CHUNK_BYTES), b""):
            whole.update(data)
    return whole.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
