"""Putting results where people look for them: whole folders, replaced at once, never linked."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from edgedeploy.artifact import Tree
from edgedeploy.crashpoint import crashpoint
from edgedeploy.disk import disk_errors, sync_tree
from edgedeploy.manifest import process_lives, sync_folder

FICLONE = 0x40049409
AT_FDCWD = -100
RENAME_EXCHANGE = 2
RENAME_SWAP = 2


def publish(tree: Tree, source: Path, place: Path) -> None:
    """Make ``place`` a copy of a tree; a reader sees the old folder or the new one.

    Args:
        tree: What it shall hold.
        source: Where the tree lies in the store.
        place: A folder that this program owns; replaced whole.

    Raises:
        StoreError: The disk refuses (E601, E602); the old folder stays.
    """
    with disk_errors("cannot write the build folder"), replacing(place) as fresh:
        for file in tree.files:
            goal = fresh / file.path
            goal.parent.mkdir(parents=True, exist_ok=True)
            _copy(source / file.path, goal)


@contextlib.contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """Give a new empty folder, which takes the place of another when the body is done with it.

    A reader sees the old folder or the new one. What the body raises leaves the old one.

    Args:
        place: A folder that this program owns; it need not exist.

    Raises:
        OSError: The disk refuses.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f".new-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        fresh.mkdir()
        yield fresh
        sync_tree(fresh)
        crashpoint("publish.copied")
        if place.is_dir():
            exchange(fresh, place)
        else:
            fresh.rename(place)
        crashpoint("publish.exchanged")
        sync_folder(place.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    crashpoint("publish.done")


def is_published(
    tree: Tree, place: Path, digests: Callable[[Sequence[Path]], Mapping[Path, str]]
) -> bool:
    """Whether ``place`` holds exactly the files of ``tree``.

    Args:
        tree: What it should hold.
        place: The folder.
        digests: Returns SHA-256 by path (one that remembers, see ``Store.file_digests``).
    """
    wanted = {place / file.path: file.sha256 for file in tree.files}
    try:
        present = {path for path in place.rglob("*") if not path.is_dir()}
        return present == set(wanted) and digests(sorted(present)) == wanted
    except OSError:
        return False


def sweep(folder: Path) -> None:
    """Remove what a builder that died left between copy and exchange."""
    for left in folder.glob(".new-*"):
        if not process_lives(left.name.split("-")[1].partition(".")[0]):
            shutil.rmtree(left, ignore_errors=True)


def exchange(one: Path, other: Path, platform: str = sys.platform) -> None:
    """Swap two folders in one step where the system can, else by two renames.

    Raises:
        OSError: A rename failed.
    """
    names = os.fsencode(one), os.fsencode(other)
    library = ctypes.CDLL(None, use_errno=True)
    if platform == "linux" and hasattr(library, "renameat2"):
        done = library.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)
    elif platform == "darwin":
        done = library.renamex_np(names[0], names[1], RENAME_SWAP)
    else:
        done = -1
        ctypes.set_errno(errno.ENOSYS)
    if done == 0:
        return
    if ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    aside = one.with_name(f"{one.name}.old")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def _copy(source: Path, goal: Path) -> None:
    """Copy a file's content, sharing blocks where the file system can; never a hard link."""
    with open(source, "rb") as old, open(goal, "wb") as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, 1 << 20)
