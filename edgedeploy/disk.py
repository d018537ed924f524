"""What the store asks of the local disk: typed errors, locks, durable names and deletion."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgedeploy.errors import StoreError
from edgedeploy.manifest import sync_folder

LOCK_POLL_S = 0.02


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


def delete_folder(folder: Path) -> None:
    """Delete a folder, whatever modes its folders have; what the system holds on to stays."""
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.lexists(folder):
        return
    with contextlib.suppress(OSError):
        if folder.is_symlink() or not folder.is_dir():
            folder.unlink()
            return
        # A stage may have taken away its own right to enter.
        folder.chmod(0o700)
        for base, names, _ in os.walk(folder):
            for name in names:
                place = Path(base, name)
                if not place.is_symlink():
                    place.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def locked(path: Path, mode: int, waiting: Callable[[float], None] | None = None) -> int:
    """Open and flock a file; the descriptor holds the lock.

    Raises:
        BlockingIOError: It is taken and ``mode`` says not to wait.
        StoreError: The disk refuses (E601, E602) or the file system cannot lock (E603).
    """
    started = time.monotonic()
    while True:
        with disk_errors("cannot lock in the store"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_lock(descriptor, mode, waiting is not None):
                if waiting:
                    waiting(time.monotonic() - started)
                time.sleep(LOCK_POLL_S)
            # Whoever had it may have removed the file: then the lock guards nothing.
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _try_lock(descriptor: int, mode: int, poll: bool) -> bool:
    """Flock a descriptor; False when it is taken and the caller polls."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB if poll else mode)
    except BlockingIOError:
        if not poll:
            raise
        return False
    except OSError as error:
        raise _cannot_lock(error.strerror or str(error)) from error
    return True


def prove_locking(path: Path) -> None:
    """Refuse a file system whose locks do not exclude; ``path`` is locked by the caller.

    Raises:
        StoreError: A second lock on the file was granted (E603).
    """
    try:
        os.close(locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError:
        return
    raise _cannot_lock("two holders at once")


def _cannot_lock(reason: str) -> StoreError:
    return StoreError(
        f"the store's file system cannot lock files: {reason}",
        code="E603",
        hint="set EDGEDEPLOY_STORE to a folder on a local disk",
    )


def make_folder(folder: Path) -> None:
    """Make one of the 256 sub-folders; its name is durable afterwards."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    sync_folder(folder.parent)


def sync_tree(folder: Path) -> None:
    """Make every file and name of a tree durable."""
    for base, _, names in os.walk(folder, topdown=False):
        for name in names:
            descriptor = os.open(Path(base, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(base))
