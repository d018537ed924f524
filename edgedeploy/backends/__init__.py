"""Backends: one per family of runtimes; each compiles an ONNX model and runs the result.

Nothing heavy is imported here: :func:`load` imports a family when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from edgedeploy.errors import BuildError

if TYPE_CHECKING:
    from edgedeploy.backends.base import Backend

FAMILIES: dict[str, str] = {
    "ort": "ortmobile",
    "openvino": "ov",
}
"""Runtime id of a target -> package of its backend, which has a ``BACKEND`` in ``backend.py``."""


def load(runtime: str) -> Backend:
    """Return the backend of a target's runtime.

    Raises:
        BuildError: There is no such family (E311).
    """
    if runtime not in FAMILIES:
        raise BuildError(
            f"there is no backend for the runtime {runtime!r}",
            code="E311",
            subject=runtime,
            hint=f"use one of: {', '.join(sorted(FAMILIES))}",
        )
    backend: Backend = importlib.import_module(f"{__name__}.{FAMILIES[runtime]}.backend").BACKEND
    return backend
