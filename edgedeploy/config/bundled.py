"""Where the data files that ship with edgedeploy lie: targets and profiles."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from edgedeploy.errors import ToolError


def bundled_folder() -> Path:
    """Return the folder that holds ``targets/`` and ``profiles/``.

    An installed wheel carries them under ``edgedeploy/_data``; a checkout or an editable install
    has them beside the package.

    Raises:
        ToolError: The installation has no such files.
    """
    package = importlib.resources.files("edgedeploy")
    candidates = [package / "_data"]
    if isinstance(package, Path):
        candidates.append(package.parent)
    for folder in candidates:
        if isinstance(folder, Path) and (folder / "targets" / "boards").is_dir():
            return folder
    raise ToolError(
        "the target files of edgedeploy are missing from this installation",
        hint="install edgedeploy again with pip, as files (not as a zip archive)",
    )


def is_bundled(profile: Path) -> bool:
    """Return whether a profile ships with edgedeploy, so that nothing is written beside it.

    Raises:
        ToolError: As :func:`bundled_folder`.
    """
    return profile.resolve().is_relative_to((bundled_folder() / "profiles").resolve())
