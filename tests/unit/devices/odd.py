"""Running the agent with a Python that goes wrong on orders."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from edgedeploy.devices.depot import Depot
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.opening import open_depot
from tests.unit.devices.depots import Box

HARNESS = Path(__file__).with_name("odd_python.py")
LEASE = "module.main("


def odd_python(folder: Path) -> str:
    """Return the path of an interpreter that obeys ``ODD_PYTHON``."""
    path = folder / "odd-python"
    if not path.exists():
        command = f"exec {quote(sys.executable)} -IS {quote(str(HARNESS))}"
        path.write_text(f'#!/bin/sh\n{command} "$@"\n')
        path.chmod(0o755)
    return str(path)


@contextmanager
def orders(**what: Any) -> Iterator[None]:
    """Give orders to the agents that start within."""
    os.environ["ODD_PYTHON"] = json.dumps(what)
    try:
        yield
    finally:
        del os.environ["ODD_PYTHON"]


def odd_box(folder: Path, depot: Path | None = None) -> Box:
    """Return a box whose agents obey orders."""

    def opener(path: str) -> Depot:
        return open_depot(LocalRemote(), path, python=odd_python(folder))

    return Box(depot or folder / "depot", opener)


def lease(lease_s: float, alive_s: float = 2.0) -> dict[str, str]:
    """Return the replacement that shortens the agent's patience."""
    return {LEASE: f"module.LEASE_S = {lease_s}; module.ALIVE_S = {alive_s}; {LEASE}"}
