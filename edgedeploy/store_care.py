"""Looking after a store: listing, checking every byte, and removing what is no longer wanted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.artifact import scan_tree
from edgedeploy.disk import delete_folder, disk_errors
from edgedeploy.store import MAKING, SCRATCH_LOCK, ActionRecord, Store


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
        # Another process may forget it at any time.
        with contextlib.suppress(FileNotFoundError):
            used_s = path.stat().st_mtime
            if record is not None:
                size = sum(tree.size_bytes for tree in record.outputs.values())
                found.append(Listed(record=record, size_bytes=size, used_s=used_s))
    return sorted(found, key=lambda item: (-item.used_s, item.record.key))


def verify(store: Store, *, repair: bool = False) -> Verification:
    """Hash every tree again, whatever is remembered.

    Args:
        store: The store.
        repair: Drop damaged trees and the records that need them; the next build makes them anew.

    Raises:
        StoreError: A build is using the store that is to be repaired (E606), or the disk refuses.
    """
    with store.alone() if repair else contextlib.nullcontext(), disk_errors("cannot verify"):
        # Records before trees: a tree comes before its record, so none is missed meanwhile.
        actions = list_actions(store)
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
        dangling = [
            item.record.key
            for item in actions
            if not {tree.digest for tree in item.record.outputs.values()} <= sound
        ]
        if repair:
            for key in dangling:
                store.drop_action(key)
            for name in damaged:
                store.remove_tree(name)
    return Verification(
        trees=len(present), damaged=tuple(sorted(damaged)), dangling=tuple(sorted(dangling))
    )


def collect(store: Store, *, keep_bytes: int = 0, unused_days: float = 0.0) -> Collected:
    """Remove actions, the longest unused first, until at most ``keep_bytes`` of trees are left.

    Actions used within ``unused_days`` stay. Trees without an action and folders of dead builders
    go always.

    Raises:
        StoreError: A build is using the store (E606), or the disk refuses.
    """
    with store.alone(), disk_errors("cannot clean the store"):
        folders = sweep_work(store)
        actions = list_actions(store)
        now = time.time()
        sizes = {
            tree.digest: tree.size_bytes
            for item in actions
            for tree in item.record.outputs.values()
        }
        # A tree that several actions made goes with the last of them.
        wanted = Counter(name for item in actions for name in _trees_of(item))
        left = sum(sizes.values())
        gone = 0
        for item in reversed(actions):
            if left <= keep_bytes or now - item.used_s < unused_days * 86_400:
                continue
            store.drop_action(item.record.key)
            gone += 1
            for name in _trees_of(item):
                wanted[name] -= 1
                if not wanted[name]:
                    left -= sizes[name]
        trees = freed = 0
        for place in _tree_folders(store):
            if wanted[place.name]:
                continue
            freed += sum(file.lstat().st_size for file in place.rglob("*") if file.is_file())
            store.remove_tree(place.name)
            trees += 1
        for memory in (store.root / "seen").glob("??/*"):
            if not wanted[memory.stem]:
                memory.unlink()
    return Collected(actions=gone, trees=trees, folders=folders, freed_bytes=freed)


def sweep_work(store: Store) -> int:
    """Remove the folders and lock files of builders that are no longer alive.

    Returns:
        The number of folders removed.
    """
    tmp, locks = store.root / "tmp", store.root / "locks"
    swept = 0
    for lock in (*_entries(locks), store.root / MAKING):
        with contextlib.suppress(OSError), open(lock, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                continue
            if lock.name.startswith(SCRATCH_LOCK):
                delete_folder(tmp / lock.name.removeprefix(SCRATCH_LOCK))
                swept += 1
            lock.unlink()
    for folder in _entries(tmp):
        # A living owner made the lock before the folder and removes it after the folder.
        if not (locks / f"{SCRATCH_LOCK}{folder.name}").exists():
            delete_folder(folder)
            swept += 1
    return swept


def _entries(folder: Path) -> list[Path]:
    with disk_errors("cannot read the store"):
        return sorted(folder.iterdir())


def _trees_of(item: Listed) -> set[str]:
    return {tree.digest for tree in item.record.outputs.values()}


def _record_files(store: Store) -> Iterator[Path]:
    return iter(sorted((store.root / "actions").glob("??/*.json")))


def _tree_folders(store: Store) -> Iterator[Path]:
    return iter(sorted((store.root / "trees").glob("??/*")))
