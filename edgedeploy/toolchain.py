"""What an output depends on besides its inputs: installed tools and edgedeploy's own code."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgedeploy.errors import ToolError

PACKAGE = Path(__file__).parent

EXTRAS: Mapping[str, str] = {"nncf": "'edgedeploy[nncf]'", "ziglang": "'edgedeploy[native]'"}
"""Optional distribution -> what to install, so that its version fits."""


@functools.cache
def tool_version(distribution: str) -> str:
    """Return the installed version of a Python distribution, read from its metadata.

    Raises:
        ToolError: It is not installed (E501).
    """
    if distribution == "python":
        return ".".join(str(part) for part in sys.version_info[:2])
    known = _dist_infos(tuple(sys.path)).get(_normal(distribution))
    if known is not None:
        return known
    from importlib import metadata  # slow to load; needed for odd ways of installing only

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError as error:
        raise ToolError(
            f"the Python package {distribution} is not installed",
            code="E501",
            subject=distribution,
            hint=f"pip install {EXTRAS.get(distribution, distribution)}",
        ) from error


def is_installed(distribution: str) -> bool:
    """Return whether a Python distribution is there."""
    try:
        tool_version(distribution)
    except ToolError:
        return False
    return True


@functools.cache
def _dist_infos(folders: tuple[str, ...]) -> Mapping[str, str]:
    """Return version by normalised name, as ``<name>-<version>.dist-info`` folders tell them.

    Source: PyPA specification "Recording installed projects".
    """
    found: dict[str, str] = {}
    for folder in folders:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - names, not paths
        except OSError:
            continue
        for name in names:
            stem, dot, _ = name.rpartition(".dist-info")
            distribution, dash, version = stem.rpartition("-")
            if dot and dash:
                found.setdefault(_normal(distribution), version)
    return found


def forget() -> None:
    """Look at versions and source code anew from now on."""
    for remembered in (tool_version, _dist_infos, code_digest):
        remembered.cache_clear()


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


@functools.cache
def code_digest(parts: tuple[str, ...], file: Path) -> str:
    """Return a digest of source code.

    Args:
        parts: Modules or packages below ``edgedeploy/``, such as ``passes`` or ``model``.
        file: One more source file.
    """
    whole = hashlib.sha256(file.read_bytes())
    for part in parts:
        for path in _sources(part):
            whole.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0")
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _sources(part: str) -> Sequence[Path]:
    """Return the Python files of one module or package, sorted."""
    place = PACKAGE / part
    if place.is_dir():
        return sorted(place.rglob("*.py"))
    return [PACKAGE / f"{part}.py"]
