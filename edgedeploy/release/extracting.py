"""Extracting a bundle: a folder that is whole, or none.

By our own rules: regular files and folders alone, each made new below a folder that is held open,
so that no link that somebody puts in its way is ever followed. Every file is hashed as it is
written. The folder gets its name when all of it is on the disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from edgedeploy.errors import UsageError
from edgedeploy.fileset import folders_of
from edgedeploy.manifest import PART, sweep_parts
from edgedeploy.release.bundle import ENVELOPE, MANIFEST, SUMS, sums
from edgedeploy.release.opening import Bundle

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def extract(bundle: Bundle, goal: Path, agree: Callable[[], None]) -> None:
    """Write a release as a folder: its files, the manifest, the signatures and ``SHA256SUMS``.

    Args:
        bundle: What was checked.
        goal: The folder; it must not exist, or be empty.
        agree: Called when all is written and before anybody can see it; what it raises leaves
            nothing behind.

    Raises:
        UsageError: There is something at ``goal`` (E742).
        IntegrityError: The bundle is no longer what was checked (E735).
        OSError: The disk refuses; nothing is left behind.
    """
    check_goal(goal)
    goal.parent.mkdir(parents=True, exist_ok=True)
    sweep_parts(goal.parent)
    part = f"{PART}{os.getpid()}.{os.urandom(6).hex()}"
    outer = os.open(goal.parent, _FOLDER & ~os.O_NOFOLLOW)  # who names it says where it leads
    try:
        os.mkdir(part, 0o700, dir_fd=outer)
        try:
            with _folder(part, outer) as root:
                _write_all(bundle, root)
                os.fchmod(root, 0o755)
                os.fsync(root)
            agree()
            os.rename(part, goal.name, src_dir_fd=outer, dst_dir_fd=outer)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True, dir_fd=outer)
            raise
        os.fsync(outer)
    finally:
        os.close(outer)


def check_goal(goal: Path) -> None:
    """Refuse a place where no folder can be made (E742); before the work, to spare it."""
    named = goal.name not in ("", "..")
    if named and not os.path.lexists(goal):
        return
    if not named or not stat.S_ISDIR(goal.lstat().st_mode) or any(goal.iterdir()):
        raise UsageError(
            f"{goal} is there already, and is no empty folder",
            code="E742",
            subject=str(goal),
            hint="name a folder that does not exist; nothing is ever written into one that does",
        )


def _write_all(bundle: Bundle, root: int) -> None:
    release = bundle.release
    folders = sorted({folder for file in release.files for folder in folders_of(file.path)})
    for folder in folders:
        with _parent(folder, root) as (inside, name):
            os.mkdir(name, 0o755, dir_fd=inside)
    for file in release.files:
        _write(root, file.path, bundle.parts(file.path))
    own = {MANIFEST: release.manifest, ENVELOPE: bundle.envelope, SUMS: sums(release.files)}
    for name, content in own.items():
        _write(root, name, [content])
    for folder in reversed(folders):
        with _parent(folder, root) as (inside, name), _folder(name, inside) as handle:
            os.fchmod(handle, 0o755)
            os.fsync(handle)


def _write(root: int, path: str, parts: Iterable[bytes]) -> None:
    with (
        _parent(path, root) as (inside, name),
        open(os.open(name, _NEW, 0o600, dir_fd=inside), "wb") as file,
    ):
        file.writelines(parts)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())


@contextlib.contextmanager
def _parent(path: str, root: int) -> Iterator[tuple[int, str]]:
    """Open the folder that a path lies in, part by part and through no link."""
    *folders, name = path.split("/")
    with contextlib.ExitStack() as stack:
        inside = root
        for folder in folders:
            inside = stack.enter_context(_folder(folder, inside))
        yield inside, name


@contextlib.contextmanager
def _folder(name: str, inside: int) -> Iterator[int]:
    handle = os.open(name, _FOLDER, dir_fd=inside)
    try:
        yield handle
    finally:
        os.close(handle)
