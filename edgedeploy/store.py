"""The content-addressed store: trees of files and the action records that point at them.

Layout (one file system, owner only)::

    format                       "1"
    trees/ab/<digest>/...        immutable files (0444); the digest is artifact.Tree.digest
    seen/ab/<digest>.json        stat values under which the tree last hashed right
    actions/ab/<key>.json        what a stage made: outputs, observed inputs; written last
    locks/<name>                 flock while the file is there: an action, a tree or a scratch
    tmp/<name>/                  scratch of one process, as long as locks/scratch-<name> is held
    records/                     measurements: append-only, never read by the cache
    inputs.json                  digests of big user files by stat values
    in-use                       flock: shared by builds, alone for cleaning

A tree is visible only after its content is on disk; a record only after its trees. Whatever
moment the process dies, a reader sees whole things or nothing. A tree that another process may
be reading is taken away only under its lock and after it was found damaged there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedeploy.artifact import Tree, scan_tree, settle_tree
from edgedeploy.crashpoint import crashpoint
from edgedeploy.disk import (
    delete_folder,
    locked,
    make_folder,
    prove_locking,
    sync_tree,
)
from edgedeploy.disk import disk_errors as disk_errors  # part of the store's interface
from edgedeploy.errors import StoreError
from edgedeploy.events import EventLog, StoreHealed
from edgedeploy.filememory import FileMemory, Mark, settled, stat_mark
from edgedeploy.manifest import PART, canonical, digest, sync_folder, write_atomic

FORMAT = "1"
FOLDERS = ("trees", "seen", "actions", "locks", "tmp", "records")
SCRATCH_LOCK = "scratch-"
MAKING = "making"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRecord:
    """What one run of a stage made.

    Attributes:
        key: Key of the action (64 hex digits).
        kind: Stage kind.
        components: What the key was made of, by name; tells later why a key changed.
        outputs: Tree by output name.
        observed: Inputs that were seen only while it ran: ``{"file": path, "sha256": ...}`` or
            ``{"distribution": name, "version": ...}``; they are checked at every hit.
        summary: Small JSON data for reports.
        seconds: Wall time it took.
    """

    key: str
    kind: str
    components: Mapping[str, Any]
    outputs: Mapping[str, Tree]
    observed: tuple[Mapping[str, str], ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON data with a digest over itself."""
        data: dict[str, Any] = {
            "schema": 1,
            "key": self.key,
            "kind": self.kind,
            "components": dict(self.components),
            "outputs": {name: tree.to_json() for name, tree in self.outputs.items()},
            "observed": [dict(item) for item in self.observed],
            "summary": dict(self.summary),
            "seconds": self.seconds,
        }
        return {**data, "self": digest("record", data)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ActionRecord:
        """Return the record that :meth:`to_json` wrote.

        Raises:
            ValueError: It is not a record, of another schema, or its digest is wrong.
        """
        if not isinstance(data, dict) or data.get("schema") != 1:
            raise ValueError("unknown record schema")
        body = {name: value for name, value in data.items() if name != "self"}
        if digest("record", body) != data.get("self"):
            raise ValueError("record does not match its own digest")
        return cls(
            key=data["key"],
            kind=data["kind"],
            components=data["components"],
            outputs={name: Tree.from_json(tree) for name, tree in data["outputs"].items()},
            observed=tuple(data["observed"]),
            summary=data["summary"],
            seconds=data["seconds"],
        )


def action_key(components: Mapping[str, Any]) -> str:
    """Return the key of an action (64 hex digits) from everything that its outputs depend on."""
    return digest("action", components)


class _Scratch:
    """A folder below ``tmp/`` that is ours while we, or a worker of ours, hold its lock."""

    def __init__(self, root: Path) -> None:
        name = os.urandom(8).hex()
        lock = root / "locks" / f"{SCRATCH_LOCK}{name}"
        self.pid = os.getpid()
        # The lock is there before the folder and goes after it: who finds a folder without a
        # held lock may delete it.
        self.descriptor = locked(lock, fcntl.LOCK_EX)
        self.folder = root / "tmp" / name
        try:
            self.folder.mkdir(mode=0o700)
        except OSError:
            lock.unlink(missing_ok=True)
            os.close(self.descriptor)
            raise
        weakref.finalize(self, self._close, self.pid, self.descriptor, self.folder, lock)

    @staticmethod
    def _close(pid: int, descriptor: int, folder: Path, lock: Path) -> None:
        if os.getpid() == pid:  # a fork has the lock in common with its parent
            delete_folder(folder)
            lock.unlink(missing_ok=True)
        os.close(descriptor)


class Store:
    """One store folder; safe for many processes and threads at once.

    Args:
        root: The folder; made (0700) if it does not exist.
        events: Where found damage is told.

    Raises:
        StoreError: It cannot be made or written (E601, E602), cannot be locked (E603), belongs to
            another user or is writable by others (E604), or is a folder with something else or of
            an unknown format (E605).
    """

    def __init__(self, root: Path, events: EventLog | None = None) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - workers have another cwd
        self._events = events or EventLog()
        self._mutex = threading.Lock()
        self._own: _Scratch | None = None
        with disk_errors("cannot open the store"):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner()
            if not (self.root / "format").is_file():
                self._create()
            self._check_format()
            for name in FOLDERS:
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        self._files = FileMemory(self.root / "inputs.json", self.root / "tmp", self._events)

    def _create(self) -> None:
        """Make an empty folder a store; a folder with something else is left alone."""
        making = self.root / MAKING
        descriptor = locked(making, fcntl.LOCK_EX)
        try:
            if (self.root / "format").is_file():
                return  # another builder was first
            for name in sorted(os.listdir(self.root)):  # noqa: PTH208 - names, not paths
                if name.startswith(PART):
                    (self.root / name).unlink()
                elif name != MAKING:
                    raise StoreError(
                        f"the folder is no store: it holds {name!r}",
                        code="E605",
                        subject=str(self.root),
                        hint="set EDGEDEPLOY_STORE to an empty or a new folder",
                    )
            prove_locking(making)
            # First of all: whatever else is here later was made by a store.
            write_atomic(self.root / "format", FORMAT.encode())
        finally:
            making.unlink(missing_ok=True)
            os.close(descriptor)

    def _check_owner(self) -> None:
        state = self.root.stat()
        if state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) & 0o022:
            raise StoreError(
                "the store belongs to another user or others may write to it",
                code="E604",
                subject=str(self.root),
                hint="set EDGEDEPLOY_STORE to a folder of your own with mode 0700",
            )

    def _check_format(self) -> None:
        found = (self.root / "format").read_text(encoding="utf-8", errors="replace")
        if found != FORMAT:
            raise StoreError(
                f"the store has format {found[:20]!r}, this edgedeploy reads {FORMAT!r}",
                code="E605",
                subject=str(self.root),
                hint="use another folder, or move this one away",
            )

    # -- trees -----------------------------------------------------------------------------

    def tree_path(self, tree_digest: str) -> Path:
        """Return where the tree of that digest lies or would lie."""
        return self.root / "trees" / tree_digest[:2] / tree_digest

    def add_tree(
        self, folder: Path, segments: Mapping[str, Sequence[tuple[int, int]]] | None = None
    ) -> Tree:
        """Take over ``folder`` (below :meth:`work_folder`) as an immutable tree.

        Raises:
            StoreError: The disk is full or refuses; nothing becomes visible.
            UnfitTreeError: The folder holds what a tree cannot.
        """
        with disk_errors("cannot write to the store"):
            settle_tree(folder)
            tree = scan_tree(folder, segments)
            crashpoint("store.tree-hashed")
            place = self.tree_path(tree.digest)
            if self._kept(tree):
                delete_folder(folder)
                return tree
            sync_tree(folder)
            crashpoint("store.tree-synced")
            make_folder(place.parent)
            try:
                folder.rename(place)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                delete_folder(folder)  # another builder was first with the same content
            sync_folder(place.parent)
            crashpoint("store.tree-renamed")
            return tree

    def check_tree(self, tree: Tree, *, trust_memory: bool = True) -> Path:
        """Return the folder of a tree after checking it against its digests.

        Args:
            tree: The tree.
            trust_memory: A tree that was hashed before is right while every file's device, inode,
                size and times are as they were then.

        Raises:
            KeyError: It is missing or damaged; a damaged one is dropped.
        """
        place = self.tree_path(tree.digest)
        with disk_errors("cannot read the store"):
            if not place.is_dir():
                raise KeyError(tree.digest)
            if trust_memory and self._seen(tree):
                return place
            looked_ns = time.time_ns()
            marks = self._marks(tree)
            if self._hashes_right(tree):
                if marks is not None:
                    self._remember(tree, marks, looked_ns)
                return place
            if self._kept(tree):
                return place
        raise KeyError(tree.digest)

    def _kept(self, tree: Tree) -> bool:
        """Whether the tree is there and right; a damaged one is dropped."""
        place = self.tree_path(tree.digest)
        if not os.path.lexists(place):
            return False
        # Under a lock, so that nobody takes away what another has just put right.
        with self.lock(f"tree-{tree.digest}"):
            if not os.path.lexists(place):
                return False
            if self._hashes_right(tree):
                return True
            self.remove_tree(tree.digest)
        self._events.emit(
            StoreHealed(what=f"tree {tree.digest}", why="content does not match its digest")
        )
        return False

    def _hashes_right(self, tree: Tree) -> bool:
        """Whether what lies in the store under the tree's digest is that tree."""
        place = self.tree_path(tree.digest)
        try:
            return place.is_dir() and scan_tree(place).digest == tree.digest
        except (OSError, ValueError):
            return False

    def remove_tree(self, tree_digest: str) -> None:
        """Take a tree out of sight at once, then delete it."""
        grave = self.scratch / os.urandom(8).hex()
        with contextlib.suppress(FileNotFoundError):
            self.tree_path(tree_digest).rename(grave)
        delete_folder(grave)
        self._seen_path(tree_digest).unlink(missing_ok=True)

    def _seen_path(self, tree_digest: str) -> Path:
        return self.root / "seen" / tree_digest[:2] / f"{tree_digest}.json"

    def _marks(self, tree: Tree) -> list[Mark] | None:
        """Return the stat values of a tree's files and folders, None when some are missing."""
        place = self.tree_path(tree.digest)
        folders = {parent for file in tree.files for parent in Path(file.path).parents}
        names = [file.path for file in tree.files] + sorted(map(str, folders))
        try:
            return [stat_mark(os.lstat(place / name)) for name in names]
        except OSError:
            return None

    def _remember(self, tree: Tree, marks: list[Mark], looked_ns: int) -> None:
        if not all(settled(mark, looked_ns) for mark in marks):
            return
        path = self._seen_path(tree.digest)
        part = self.scratch / os.urandom(8).hex()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        # No fsync: this memory may be lost, then the tree is hashed again.
        part.write_bytes(canonical({"at_ns": looked_ns, "marks": marks}))
        part.replace(path)
        crashpoint("store.seen-written")

    def _seen(self, tree: Tree) -> bool:
        path = self._seen_path(tree.digest)
        try:
            memory = json.loads(path.read_bytes())
            marks = memory["marks"]
        except FileNotFoundError:
            return False
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            self._events.emit(StoreHealed(what=f"memory of tree {tree.digest}", why=str(error)))
            path.unlink(missing_ok=True)
            return False
        return bool(marks == self._marks(tree))

    # -- actions ---------------------------------------------------------------------------

    def action_path(self, key: str) -> Path:
        """Return where the record of an action lies or would lie."""
        return self.root / "actions" / key[:2] / f"{key}.json"

    def read_action(self, key: str) -> ActionRecord | None:
        """Return the record of an action, None when there is none; a damaged one is dropped."""
        path = self.action_path(key)
        with disk_errors("cannot read a record"):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
            try:
                record = ActionRecord.from_json(json.loads(content))
                if not record.key == key == action_key(record.components):
                    raise ValueError("record of another action")
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                path.unlink(missing_ok=True)
                self._events.emit(StoreHealed(what=f"record {key}", why=str(error)))
                return None
        return record

    def write_action(self, record: ActionRecord) -> None:
        """Make an action's record visible; its trees must have been added before."""
        path = self.action_path(record.key)
        with disk_errors("cannot write to the store"):
            make_folder(path.parent)
            write_atomic(path, canonical(record.to_json()), scratch=self.scratch)
        crashpoint("store.record-written")

    def drop_action(self, key: str) -> None:
        """Forget an action, so that it runs again."""
        with disk_errors("cannot write to the store"):
            self.action_path(key).unlink(missing_ok=True)

    def mark_used(self, key: str) -> None:
        """Note that an action is still wanted; cleaning takes the longest unused first."""
        with contextlib.suppress(OSError):
            os.utime(self.action_path(key))

    # -- locks -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, name: str, *, waiting: Callable[[float], None] | None = None) -> Iterator[None]:
        """Hold a lock, such as an action's by its key; waits while another has it.

        Args:
            name: A file name.
            waiting: Called again and again with the seconds waited so far; may raise to give up.

        Raises:
            StoreError: The file system cannot lock (E603).
        """
        path = self.root / "locks" / name
        descriptor = locked(path, fcntl.LOCK_EX, waiting)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # who waits for it finds that out and makes a new one
            os.close(descriptor)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep ``cache gc`` away while a build runs (a shared lock)."""
        descriptor = locked(self.root / "in-use", fcntl.LOCK_SH)
        try:
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the whole store for cleaning.

        Raises:
            StoreError: A build is using it (E606).
        """
        try:
            descriptor = locked(self.root / "in-use", fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                "a build is using the store",
                code="E606",
                subject=str(self.root),
                hint="run this again when no build is running",
            ) from error
        try:
            yield
        finally:
            os.close(descriptor)

    # -- work in progress ------------------------------------------------------------------

    def _scratch(self) -> _Scratch:
        with self._mutex, disk_errors("cannot write to the store"):
            if self._own is None or self._own.pid != os.getpid():
                self._own = _Scratch(self.root)
            return self._own

    @property
    def scratch(self) -> Path:
        """Folder of this process for unfinished files; swept by the next builder if it dies."""
        return self._scratch().folder

    @property
    def scratch_lock(self) -> int:
        """Descriptor that guards this process's work folders.

        A worker inherits it, so that nobody sweeps its folder before it has ended too.
        """
        return self._scratch().descriptor

    @contextlib.contextmanager
    def work_folder(self) -> Iterator[Path]:
        """Give a private folder on the store's file system; removed at the end, or by a sweep."""
        with disk_errors("cannot write to the store"):
            folder = self.scratch / os.urandom(8).hex()
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            delete_folder(folder)

    # -- digests of user files -------------------------------------------------------------

    def file_digests(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Return the SHA-256 of user files, from memory where their stat values are unchanged.

        Raises:
            OSError: A file cannot be read or is no regular file.
        """
        return self._files.digests(paths)
