"""The content-addressed store: trees of files and the action records that point at them.

Layout (one file system, owner only)::

    format                       "1"
    trees/ab/<digest>/...        immutable files (0444); the digest is artifact.Tree.digest
    seen/ab/<digest>.json        stat values under which the tree last hashed right
    actions/ab/<key>.json        what a stage made: outputs, observed inputs; written last
    locks/<key>                  flock: one builder runs an action, others wait for its record
    tmp/<random>/                work in progress, its ``owner`` file flocked while in use
    records/                     measurements: append-only, never read by the cache
    inputs.json                  digests of big user files by stat values

A tree is visible only after its content is on disk; a record only after its trees. Whatever
moment the process dies, a reader sees whole things or nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedeploy.artifact import Tree, scan_tree
from edgedeploy.crashpoint import crashpoint
from edgedeploy.errors import StoreError
from edgedeploy.events import EventLog, StoreHealed
from edgedeploy.manifest import canonical, digest, file_sha256, sync_folder, write_atomic

FORMAT = "1"
# A file changed within this time of being looked at may change again with the same time stamp:
# coarse kernel time stamps tick every 4-10 ms.
RACY_NS = 100_000_000


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


def default_store_path() -> Path:
    """Return where the store lies: ``EDGEDEPLOY_STORE``, else below the user's cache folder."""
    given = os.environ.get("EDGEDEPLOY_STORE")
    if given:
        return Path(given).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    base = Path(cache) if cache and Path(cache).is_absolute() else Path.home() / ".cache"
    return base / "edgedeploy" / "store"


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn an OSError of the body into a StoreError that names the cause."""
    try:
        yield
    except OSError as error:
        code, hint = "E602", "check the path, its permissions and the disk"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            code, hint = "E601", "free space (`edgedeploy cache gc`) or set EDGEDEPLOY_STORE"
        reason = error.strerror or str(error)
        raise StoreError(
            f"{what}: {reason}", code=code, subject=str(error.filename or ""), hint=hint
        ) from error


class Store:
    """One store folder; safe for many processes at once.

    Args:
        root: The folder; made (0700) if it does not exist.
        events: Where found damage is told.

    Raises:
        StoreError: It cannot be made or written (E601, E602), cannot be locked (E603), belongs to
            another user or is writable by others (E604), or has an unknown format (E605).
    """

    def __init__(self, root: Path, events: EventLog | None = None) -> None:
        self.root = root
        self._events = events or EventLog()
        if not (root / "format").is_file():
            self._create()
        self._check()

    def _create(self) -> None:
        with disk_errors("cannot make the store"):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("trees", "seen", "actions", "locks", "tmp", "records"):
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
            write_atomic(self.root / "format", FORMAT.encode())

    def _check(self) -> None:
        with disk_errors("cannot read the store"):
            state = self.root.stat()
            found = (self.root / "format").read_text(encoding="utf-8", errors="replace")
        if state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) & 0o022:
            raise StoreError(
                "the store belongs to another user or others may write to it",
                code="E604",
                subject=str(self.root),
                hint="set EDGEDEPLOY_STORE to a folder of your own with mode 0700",
            )
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
        """
        with disk_errors("cannot write to the store"):
            tree = scan_tree(folder, segments)
            crashpoint("store.tree-hashed")
            place = self.tree_path(tree.digest)
            if place.is_dir() and self._hashes_right(tree):
                shutil.rmtree(folder)
                return tree
            _seal(folder)
            crashpoint("store.tree-synced")
            place.parent.mkdir(mode=0o700, exist_ok=True)
            self._remove(place)
            with contextlib.suppress(FileExistsError):
                try:
                    folder.rename(place)
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:  # another builder was first: same content
                        raise
            sync_folder(place.parent)
            crashpoint("store.tree-renamed")
            self._remember(tree)
            return tree

    def check_tree(self, tree: Tree) -> Path:
        """Return the folder of a tree after checking it against its digests.

        A tree that was hashed before is trusted while every file's device, inode, size and
        times are as they were then.

        Raises:
            KeyError: It is missing or damaged; a damaged one is dropped.
        """
        place = self.tree_path(tree.digest)
        with disk_errors("cannot read the store"):
            if not place.is_dir():
                raise KeyError(tree.digest)
            if self._seen(tree):
                return place
            if self._hashes_right(tree):
                self._remember(tree)
                return place
            self._events.emit(
                StoreHealed(what=f"tree {tree.digest}", why="content does not match its digest")
            )
            self._remove(place)
        raise KeyError(tree.digest)

    def _hashes_right(self, tree: Tree) -> bool:
        """Whether what lies in the store under the tree's digest is that tree."""
        try:
            return scan_tree(self.tree_path(tree.digest)).digest == tree.digest
        except (OSError, ValueError):
            return False

    def _remove(self, place: Path) -> None:
        """Take a tree out of sight at once, then delete it."""
        if not place.exists():
            return
        grave = self.root / "tmp" / f"{place.name}.{os.urandom(6).hex()}"
        with contextlib.suppress(FileNotFoundError):
            place.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)
        self._seen_path(place.name).unlink(missing_ok=True)

    def _seen_path(self, tree_digest: str) -> Path:
        return self.root / "seen" / tree_digest[:2] / f"{tree_digest}.json"

    def _remember(self, tree: Tree) -> None:
        path = self._seen_path(tree.digest)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        now = time.time_ns()
        marks = [_stat_mark(self.tree_path(tree.digest) / file.path) for file in tree.files]
        # No fsync: this memory may be lost, then the tree is hashed again.
        part = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
        part.write_bytes(canonical({"at_ns": now, "marks": marks}))
        part.replace(path)
        crashpoint("store.seen-written")

    def _seen(self, tree: Tree) -> bool:
        try:
            memory = json.loads(self._seen_path(tree.digest).read_bytes())
            marks = [_stat_mark(self.tree_path(tree.digest) / file.path) for file in tree.files]
            settled = all(mark[4] + RACY_NS < memory["at_ns"] for mark in marks)
            return settled and marks == memory["marks"]
        except (OSError, ValueError, KeyError, TypeError):
            return False

    # -- actions ---------------------------------------------------------------------------

    def _action_path(self, key: str) -> Path:
        return self.root / "actions" / key[:2] / f"{key}.json"

    def read_action(self, key: str) -> ActionRecord | None:
        """Return the record of an action, None when there is none; a damaged one is dropped."""
        path = self._action_path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read a record: {error}", code="E602") from error
        try:
            record = ActionRecord.from_json(json.loads(content))
            if record.key != key:
                raise ValueError("record of another key")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._events.emit(StoreHealed(what=f"record {key}", why=str(error)))
            path.unlink(missing_ok=True)
            return None
        return record

    def write_action(self, record: ActionRecord) -> None:
        """Make an action's record visible; its trees must have been added before."""
        path = self._action_path(record.key)
        with disk_errors("cannot write to the store"):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomic(path, canonical(record.to_json()))
        crashpoint("store.record-written")

    def drop_action(self, key: str) -> None:
        """Forget an action, so that it runs again."""
        self._action_path(key).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock of an action; waits while another builder runs it.

        Raises:
            StoreError: The file system cannot lock (E603).
        """
        path = self.root / "locks" / key
        descriptor = _locked(path, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep ``cache gc`` away while a build runs (a shared lock)."""
        descriptor = _locked(self.root / "in-use", fcntl.LOCK_SH)
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
            descriptor = _locked(self.root / "in-use", fcntl.LOCK_EX | fcntl.LOCK_NB)
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

    @contextlib.contextmanager
    def work_folder(self) -> Iterator[Path]:
        """Give a private folder on the store's file system; removed at the end, or by gc."""
        with disk_errors("cannot write to the store"):
            folder = self.root / "tmp" / os.urandom(8).hex()
            folder.mkdir(mode=0o700)
            owner = os.open(folder / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(owner, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(owner)

    # -- digests of user files -------------------------------------------------------------

    def file_digests(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Return the SHA-256 of user files, from memory where their stat values are unchanged.

        Raises:
            OSError: A file cannot be read.
        """
        memory_path = self.root / "inputs.json"
        try:
            memory: dict[str, Any] = json.loads(memory_path.read_bytes())
        except (OSError, ValueError):
            memory = {}
        found: dict[Path, str] = {}
        changed = False
        for path in paths:
            now = time.time_ns()
            mark = _stat_mark(path)
            known = memory.get(str(path))
            if known and known["mark"] == mark and mark[4] + RACY_NS < known["at_ns"]:
                found[path] = known["sha256"]
                continue
            found[path] = file_sha256(path)
            memory[str(path)] = {"mark": mark, "sha256": found[path], "at_ns": now}
            changed = True
        if changed:
            with contextlib.suppress(OSError):
                part = memory_path.with_name(f".inputs.{os.urandom(4).hex()}")
                part.write_bytes(canonical(memory))
                part.replace(memory_path)
        return found


def _locked(path: Path, mode: int) -> int:
    """Open and flock a file; the descriptor holds the lock.

    Raises:
        BlockingIOError: It is taken and ``mode`` says not to wait.
        StoreError: The disk refuses (E602) or the file system cannot lock (E603).
    """
    while True:
        with disk_errors("cannot lock in the store"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, mode)
            # gc may have removed the file between open and flock: then the lock guards nothing.
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError as error:
            os.close(descriptor)
            raise StoreError(
                f"the store's file system cannot lock files: {error.strerror}",
                code="E603",
                subject=str(path.parent),
                hint="set EDGEDEPLOY_STORE to a folder on a local disk",
            ) from error
        os.close(descriptor)


def _stat_mark(path: Path) -> list[int]:
    """Return device, inode, size, modification and change time (ns): changes with the content."""
    state = path.stat()
    return [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def _seal(folder: Path) -> None:
    """Make every file of a tree read-only and durable."""
    for base, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(base, name)
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fchmod(descriptor, 0o444)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(base))
