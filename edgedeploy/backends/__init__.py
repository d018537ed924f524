"""Backends: one package or file per family of runtimes; each compiles an ONNX model and runs it.

Nothing heavy is imported here: :func:`load` imports a family when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from edgedeploy.errors import BuildError

if TYPE_CHECKING:
    from edgedeploy.backends.base import Backend

FAMILIES: dict[str, str] = {
    "ortmobile": "edgedeploy.backends.ortmobile.backend",
    "ov": "edgedeploy.backends.ov.backend",
}
"""Family name -> module with a ``BACKEND``."""


def load(family: str) -> Backend:
    """Return the backend of a family.

    Raises:
        BuildError: There is no such family (E311).
    """
    if family not in FAMILIES:
        raise BuildError(
            f"there is no backend {family!r}",
            code="E311",
            subject=family,
            hint=f"use one of: {', '.join(sorted(FAMILIES))}",
        )
    backend: Backend = importlib.import_module(FAMILIES[family]).BACKEND
    return backend
