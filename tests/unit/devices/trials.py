"""A version on trial, for tests of what becomes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from edgedeploy.devices.depot import Depot
from tests.unit.devices.depots import Box, content, push

FILES = {"main/model.ort": content(1, 5000), "labels.txt": b"cat\ndog\n"}
OTHER = {"main/model.ort": content(2, 5000), "labels.txt": b"cat\ndog\n"}


def trial(box: Box) -> tuple[Depot, str, str]:
    """Return a depot that holds the lock and has a version on trial; the old and the new one."""
    depot = box.open()
    depot.lock()
    one, two = push(depot, FILES), push(depot, OTHER)
    depot.activate(one, 60)
    depot.confirm()
    depot.activate(two, 60)
    assert box.current() == two
    return depot, one, two


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def pid(box: Box) -> int:
    return int(json.loads((box.folder / "lock.owner").read_text())["pid"])
