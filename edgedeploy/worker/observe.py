"""Recording what user code loads and opens, so that the next build can check it."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from edgedeploy.manifest import file_sha256

_UNINTERESTING = ("/proc/", "/sys/", "/dev/", "/etc/", "/run/")


class Observer:
    """Watches every file that this process opens for reading from now on.

    An audit hook cannot be removed, so one worker makes one observer.

    Args:
        project: The user's project folder: its modules count as files.
        private: Folders of edgedeploy itself (inputs, outputs, temporary); not recorded.
    """

    def __init__(self, project: Path, private: Iterable[Path]) -> None:
        self._project = project.resolve()
        # What is installed is told by its distribution's version, not file by file.
        installed = {sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")}
        if sys.prefix != sys.base_prefix:
            installed.add(sys.prefix)
        self._outside = tuple(
            str(Path(folder).resolve()) + os.sep
            for folder in (*sorted(installed), *map(str, private))
        )
        self._opened: set[str] = set()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(args[0], (str, bytes)):
            return
        mode, flags = args[1], args[2]
        writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
        if writes or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            return
        self._opened.add(os.path.abspath(os.fsdecode(args[0])))  # noqa: PTH100 - no disk access

    def observed(self) -> list[dict[str, str]]:
        """Return project files with digests and loaded distributions with versions, sorted."""
        files = set(self._opened)
        loaded: set[str] = set()
        for module in list(sys.modules.values()):
            name = getattr(module, "__name__", "")
            source = getattr(module, "__file__", None)
            if source and Path(source).resolve().is_relative_to(self._project):
                files.add(source)
            if name:
                loaded.add(name.partition(".")[0])
        found = []
        for path in sorted({str(Path(item).resolve()) for item in files}):
            if path.startswith(_UNINTERESTING) or path.endswith(".pyc"):
                continue
            if path.startswith(self._outside):
                continue
            if Path(path).is_file():
                found.append({"file": path, "sha256": file_sha256(Path(path))})
        return found + _versions(loaded)


def _versions(modules: set[str]) -> list[dict[str, str]]:
    """Return the installed distributions that provide ``modules``."""
    names = {
        name
        for module, providers in metadata.packages_distributions().items()
        if module in modules
        for name in providers
        if name != "edgedeploy"
    }
    return [{"distribution": name, "version": metadata.version(name)} for name in sorted(names)]
