"""Importing OpenVINO without its telemetry."""

from __future__ import annotations

import sys
from typing import Any


def load_runtime() -> Any:
    """Return the openvino module, imported so that it reports and writes nothing.

    Importing it sends an event and writes an identifier below the home folder as soon as the
    package ``openvino_telemetry`` can be imported, and has no switch for that; where the package
    is absent it uses its own silent stub. So the import is made to fail.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
