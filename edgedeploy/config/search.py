"""The search path of target and profile files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedeploy.config.bundled import bundled_folder

Origin = Literal["option", "environment", "project", "user", "plugin", "bundled"]
"""Which step of the search found a file."""

TARGET_PATH_VARIABLE = "EDGEDEPLOY_TARGET_PATH"
ENTRY_POINT_GROUP = "edgedeploy.targets"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFolder:
    """A folder that is searched.

    Attributes:
        name: The plug-in distribution's name for ``plugin``, else the same as ``origin``.
    """

    origin: Origin
    name: str
    path: Path


def user_folder() -> Path | None:
    """Return the user's configuration folder (``$XDG_CONFIG_HOME/edgedeploy``).

    None where the user has no home, as in some containers.
    """
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification says that a relative value is to be ignored.
    try:
        root = Path(base) if base.startswith("/") else Path.home() / ".config"
    except RuntimeError:
        return None
    return root / "edgedeploy"


def target_folders(
    *, option: Sequence[Path] = (), project: Path | None = None
) -> Iterator[SearchFolder]:
    """Yield the folders that may hold ``boards/`` and ``runtimes/``, nearest first.

    Lazily: plug-in packages are looked up only when a caller gets that far, and are located
    without being imported.

    Args:
        option: Folders of ``--target-path``; they come first.
        project: The profile's folder; its ``targets/`` and that of the current folder count as the
            project's.
    """
    bundled = bundled_folder() / "targets"
    yield from (SearchFolder(origin="option", name="option", path=path) for path in option)
    listed = os.environ.get(TARGET_PATH_VARIABLE, "")
    for item in listed.split(os.pathsep):
        if item:
            yield SearchFolder(origin="environment", name="environment", path=Path(item))
    seen = [bundled.resolve()]  # in a checkout the project's folder is the bundled one
    for root in [Path.cwd()] if project is None else [project, Path.cwd()]:
        path = root / "targets"
        if path.resolve() not in seen:
            seen.append(path.resolve())
            yield SearchFolder(origin="project", name="project", path=path)
    user = user_folder()
    if user is not None:
        yield SearchFolder(origin="user", name="user", path=user / "targets")
    yield from _plugins()
    yield SearchFolder(origin="bundled", name="bundled", path=bundled)


def _plugins() -> Iterator[SearchFolder]:
    """Yield the folder of each plug-in: the entry point's value names the package that holds it."""
    import importlib.metadata
    import importlib.util

    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    for entry in sorted(found, key=lambda item: (item.name, item.value)):
        package = entry.value.partition(":")[0]
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            path = Path(next(iter(spec.submodule_search_locations)))
            yield SearchFolder(origin="plugin", name=entry.name, path=path)
