"""What an output depends on besides its inputs: installed tools and edgedeploy's own code."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from edgedeploy.errors import ToolError

PACKAGE = Path(__file__).parent


@functools.cache
def tool_version(distribution: str) -> str:
    """Return the installed version of a Python distribution, read from its metadata.

    Raises:
        ToolError: It is not installed (E501).
    """
    if distribution == "python":
        return ".".join(str(part) for part in sys.version_info[:2])
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError as error:
        raise ToolError(
            f"the Python package {distribution} is not installed",
            code="E501",
            subject=distribution,
            hint=f"pip install {distribution}",
        ) from error


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
