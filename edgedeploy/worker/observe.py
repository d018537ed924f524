"""Recording what user code loads and opens, so that the next build can check it.

Seen are files and folders that Python opens or lists in the process of the stage. A C library
opens files unseen; where Python lists a folder and opens none of its files, all of them count.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from importlib import machinery, metadata
from pathlib import Path
from typing import Any

from edgedeploy.filememory import ABSENT, listing_digest
from edgedeploy.manifest import file_sha256
from edgedeploy.toolchain import PACKAGE, tool_version

_UNINTERESTING = ("/proc/", "/sys/", "/dev/", "/etc/", "/run/")
_IMPORT_SYSTEM = "<frozen importlib._bootstrap_external>"
CHANGING = "changed while it was used"


class Observer:
    """Watches every file that this process opens for reading from now on.

    An audit hook cannot be removed, so one worker makes one observer.

    Args:
        private: Folders and files of edgedeploy itself (inputs, outputs, temporary); not recorded.
    """

    def __init__(self, private: Iterable[Path]) -> None:
        # What is installed is told by its distribution's version, not file by file.
        installed = {sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")}
        if sys.prefix != sys.base_prefix:
            installed.add(sys.prefix)
        outside = [
            os.path.realpath(place) for place in (*installed, str(PACKAGE), *map(str, private))
        ]
        self._private = frozenset(outside)
        self._outside = tuple(folder + os.sep for folder in sorted(outside))
        self._opened: dict[str, Any] = {}
        self._listed: set[str] = set()
        self._changing: set[str] = set()
        self._written: set[str] = set()
        _ignore_bytecode(self._outside)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(args[0], (str, bytes)):
                return  # an open descriptor
            if _reads(args[1], args[2]):
                self._saw(args[0])
            else:
                self._written.add(_absolute(args[0]))
        elif event == "os.rename":
            self._written.add(_absolute(args[1]))
        elif event in ("os.listdir", "os.scandir"):
            folder = "." if args[0] is None else args[0]
            # Imports list every folder of the path; what they find is in the modules.
            if isinstance(folder, (str, bytes)) and _caller() != _IMPORT_SYSTEM:
                self._listed.add(_absolute(folder))
        elif event == "sqlite3.connect" or (event == "ctypes.dlopen" and os.sep in str(args[0])):
            self._saw(str(args[0]))

    def _saw(self, name: str | bytes) -> None:
        path = _absolute(name)
        try:
            state = os.stat(path)  # noqa: PTH116 - called for every file that is opened
            mark = (state.st_ino, state.st_size, state.st_mtime_ns)
        except (OSError, ValueError):
            mark = None
        # What this process writes itself is what the next build will find.
        if self._opened.setdefault(path, mark) != mark and path not in self._written:
            self._changing.add(path)

    def observed(self) -> list[dict[str, str]]:
        """Return what was seen, sorted.

        Returns:
            ``{"file", "sha256"}`` (``ABSENT`` when it was looked for and is not there),
            ``{"folder", "names"}`` (:func:`listing_digest`) and ``{"distribution", "version"}``.
        """
        for path in list(self._opened):
            self._saw(path)
        loaded: set[str] = set()
        for module in list(sys.modules.values()):
            own = getattr(module, "__dict__", {})  # a lazy module would import on getattr
            if isinstance(own.get("__file__"), str):
                self._opened.setdefault(_absolute(own["__file__"]), None)
            loaded.add(str(own.get("__name__", "")).partition(".")[0])
        files: dict[str, str] = {}
        for path in list(self._opened):  # hashing opens files
            place = self._interesting(path)
            if place:
                files[place] = CHANGING if path in self._changing else _content(place)
        folders = {place for path in self._listed if (place := self._interesting(path))}
        for folder in folders - {os.path.dirname(path) for path in files}:  # noqa: PTH120
            for name in filter(os.path.isfile, _entries(folder)):
                files.setdefault(os.path.realpath(name), _content(name))
        return [
            *({"file": path, "sha256": files[path]} for path in sorted(files)),
            *({"folder": path, "names": listing_digest(Path(path))} for path in sorted(folders)),
            *_versions(loaded),
        ]

    def _interesting(self, path: str) -> str | None:
        """Return where a path leads, None when it is the system's, installed or edgedeploy's."""
        place = os.path.realpath(path)
        if place in self._private or place.startswith((*_UNINTERESTING, *self._outside)):
            return None
        return None if place.endswith(".pyc") else place


def _absolute(name: str | bytes) -> str:
    return os.path.abspath(os.fsdecode(name))  # noqa: PTH100 - links are followed at the end


def _reads(mode: object, flags: object) -> bool:
    """Whether opening a file so makes its content matter."""
    if isinstance(mode, str):
        return not any(letter in mode for letter in "wx") and ("a" not in mode or "+" in mode)
    if not isinstance(flags, int):
        return True
    return not flags & (os.O_WRONLY | os.O_TRUNC)


def _caller() -> str:
    """Return the source file of the code that raised the audit event."""
    return sys._getframe(2).f_code.co_filename


def _entries(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder)]  # noqa: PTH118, PTH208
    except OSError:
        return []


def _content(place: str) -> str:
    try:
        return file_sha256(Path(place)) if Path(place).is_file() else ABSENT
    except OSError:
        return ABSENT


def _ignore_bytecode(installed: tuple[str, ...]) -> None:
    """Let modules that are not installed be compiled from their source.

    Compiled files are matched to the source by whole seconds and size: an edit within a second
    would be recorded as the new source while the old one runs.
    """
    known = machinery.SourceFileLoader.path_stats

    def path_stats(self: machinery.SourceFileLoader, path: Any) -> Any:
        if not os.path.realpath(path).startswith(installed):
            raise OSError(f"{path} is always compiled")  # what the loader takes as "no bytecode"
        return known(self, path)

    machinery.SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]


def _versions(modules: set[str]) -> list[dict[str, str]]:
    """Return the installed distributions that provide ``modules``."""
    names = {
        name
        for module, providers in metadata.packages_distributions().items()
        if module in modules
        for name in providers
        if name != "edgedeploy"
    }
    return [{"distribution": name, "version": tool_version(name)} for name in sorted(names)]
