"""Files that can lie in one folder safely, whatever the file system: the rules for their paths.

They hold for what comes from a device and for what a stranger's bundle lists. A path is relative,
plain and printable, and no two are the same to a file system that ignores case or the form of
accents. ``devices/ondevice/layout.py`` and ``release/verify_file.py`` have rules of their own that
agree with these, because they run without edgedeploy.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from typing import Protocol

MAX_FILES = 10_000
MAX_BYTES = 64 << 30
"""Of all files together."""
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
MAX_FOLDERS = 64
"""Parts of a path."""


class Listed(Protocol):
    """A file as a manifest lists it."""

    @property
    def path(self) -> str:
        """Relative POSIX path."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def sha256(self) -> str:
        """Digest of the content."""


class UnsafeFilesError(ValueError):
    """Files that cannot lie in one folder safely; the message says why."""


def check_files(files: Iterable[Listed], reserved: Collection[str], *, once: bool = True) -> None:
    """Refuse files that cannot lie in one folder safely, on any file system.

    Args:
        files: As a manifest lists them.
        reserved: Names in the folder that none of them may have.
        once: Files of one content are stored once; else each takes its size.

    Raises:
        UnsafeFilesError: A path leads out or is reserved, two paths are the same to some file
            system, one is a folder of another, one content has two sizes, they are not sorted, or
            they are too many or too large.
    """
    files = tuple(files)
    if len(files) > MAX_FILES:
        raise UnsafeFilesError(f"it lists {len(files)} files, more than {MAX_FILES}")
    if [file.path for file in files] != sorted({file.path for file in files}):
        raise UnsafeFilesError("its files are not sorted, or one is listed twice")
    taken = {folded(name): name for name in reserved}
    names: set[str] = set()
    folders: set[str] = set()
    sizes: dict[str, int] = {}
    for file in files:
        _check_path(file.path)
        if sizes.setdefault(file.sha256, file.size) != file.size:
            raise UnsafeFilesError(
                f"{file.path!r:.120} and another file have one digest and two sizes"
            )
        name = folded(file.path)
        first = taken.get(name.partition("/")[0])
        if first is not None:
            raise UnsafeFilesError(f"the name {first} is taken by the manifest itself")
        if name in names:
            raise UnsafeFilesError(
                f"{file.path!r:.120} and another path differ only in case or accents"
            )
        names.add(name)
        folders.update(folders_of(name))
    both = names & folders
    if both:
        raise UnsafeFilesError(f"{min(both)!r:.120} is both a file and a folder")
    total = sum(sizes.values()) if once else sum(file.size for file in files)
    if total > MAX_BYTES:
        raise UnsafeFilesError(f"its files have more than {MAX_BYTES} bytes")


def _check_path(path: str) -> None:
    parts = path.split("/")
    try:
        size = len(path.encode())
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        raise UnsafeFilesError("a path is not UTF-8") from None
    if size > MAX_PATH_BYTES or longest > MAX_NAME_BYTES:
        raise UnsafeFilesError(f"the path {path[:60]!r}... is too long")
    options = any(part.startswith("-") for part in parts)  # to a program that gets one as a word
    if options or len(parts) > MAX_FOLDERS:
        raise UnsafeFilesError(
            f"a part of the path {path!r:.120} begins with `-`, or it has too many"
        )
    if {"", ".", ".."} & set(parts) or "\\" in path or not path.isprintable():
        raise UnsafeFilesError(f"the path {path!r:.120} is not a plain relative one")


def folded(path: str) -> str:
    """Return what file systems that ignore case and forms of accents compare."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def folders_of(path: str) -> list[str]:
    """Return every folder that a path goes through."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
