"""Looking after a store: listing, checking every byte, and removing what is no longer wanted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.artifact import scan_tree
from edgedeploy.store import ActionRecord, Store, disk_errors

STALE_FILE_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One action of the store: what it is, its size in bytes and when it was last used."""

    record: ActionRecord
    size_bytes: int
    used_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a full check found: digests of damaged trees and keys of records without a tree."""

    trees: int
    damaged: tuple[str, ...]
    dangling: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection removed."""

    actions: int
    trees: int
    folders: int
    freed_bytes: int


def list_actions(store: Store) -> list[Listed]:
    """Return all actions, the most recently used first."""
    found = []
    for path in _record_files(store):
        record = store.read_action(path.stem)
        if record is not None:
            size = sum(tree.size_bytes for tree in record.outputs.values())
            found.append(Listed(record=record, size_bytes=size, used_s=path.stat().st_mtime))
    return sorted(found, key=lambda item: (-item.used_s, item.record.key))


def verify(store: Store, *, repair: bool = False) -> Verification:
    """Hash every tree again, whatever is remembered.

    Args:
        store: The store.
        repair: Drop damaged trees and the records that need them; the next build makes them anew.
    """
    damaged = []
    present = set()
    for place in _tree_folders(store):
        present.add(place.name)
        try:
            right = scan_tree(place).digest == place.name
        except (OSError, ValueError):
            right = False
        if not right:
            damaged.append(place.name)
    sound = present - set(damaged)
    dangling = []
    for item in list_actions(store):
        needed = {tree.digest for tree in item.record.outputs.values()}
        if not needed <= sound:
            dangling.append(item.record.key)
    if repair:
        for key in dangling:
            store.drop_action(key)
        for name in damaged:
            _bury(store, store.tree_path(name))
    return Verification(
        trees=len(present), damaged=tuple(sorted(damaged)), dangling=tuple(sorted(dangling))
    )


def collect(store: Store, *, keep_bytes: int = 0, unused_days: float = 0.0) -> Collected:
    """Remove actions not used for ``unused_days``, then the oldest until ``keep_bytes`` are left.

    Trees without an action and folders of dead builders go always.

    Raises:
        StoreError: A build is using the store (E606), or the disk refuses.
    """
    with store.alone(), disk_errors("cannot clean the store"):
        folders = sweep_work(store)
        actions = list_actions(store)
        now = time.time()
        left = sum(item.size_bytes for item in actions)
        kept: set[str] = set()
        gone = 0
        for item in reversed(actions):
            old = now - item.used_s > unused_days * 86_400
            if old and left > keep_bytes:
                store.drop_action(item.record.key)
                left -= item.size_bytes
                gone += 1
            else:
                kept.update(tree.digest for tree in item.record.outputs.values())
        trees = freed = 0
        for place in _tree_folders(store):
            if place.name in kept:
                continue
            freed += sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
            _bury(store, place)
            trees += 1
    return Collected(actions=gone, trees=trees, folders=folders, freed_bytes=freed)


def sweep_work(store: Store) -> int:
    """Remove the folders and lock files of builders that are no longer alive."""
    swept = 0
    for folder in (store.root / "tmp").iterdir():
        if _abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
            swept += 1
    for lock in (store.root / "locks").iterdir():
        with contextlib.suppress(OSError), open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.unlink()
    for part in store.root.glob("**/.*.*"):
        if part.is_file() and time.time() - part.stat().st_mtime > STALE_FILE_S:
            part.unlink(missing_ok=True)
    return swept


def _abandoned(folder: Path) -> bool:
    """Whether the builder that made a work folder is gone (its flock is free)."""
    try:
        descriptor = os.open(folder / "owner", os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _bury(store: Store, place: Path) -> None:
    """Take a tree out of sight by one rename, then delete it."""
    grave = store.root / "tmp" / f"{place.name}.{os.urandom(6).hex()}"
    with contextlib.suppress(FileNotFoundError):
        place.rename(grave)
    shutil.rmtree(grave, ignore_errors=True)


def _record_files(store: Store) -> Iterator[Path]:
    return iter(sorted((store.root / "actions").glob("??/*.json")))


def _tree_folders(store: Store) -> Iterator[Path]:
    return iter(sorted(path for path in (store.root / "trees").glob("??/*") if path.is_dir()))
