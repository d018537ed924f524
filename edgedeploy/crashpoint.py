"""Named points at which a test lets the process die, to prove that a cut anywhere is harmless."""

from __future__ import annotations

import os
import signal

VARIABLE = "EDGEDEPLOY_CRASH_AT"

NAMES = (
    "worker.started",
    "worker.before-result",
    "store.tree-hashed",
    "store.tree-synced",
    "store.tree-renamed",
    "store.record-written",
    "store.seen-written",
    "executor.before-run",
    "executor.after-run",
    "publish.copied",
    "publish.exchanged",
    "publish.done",
    "lock.written",
)


_passed: dict[str, int] = {}


def crashpoint(name: str) -> None:
    """Die by SIGKILL here when ``EDGEDEPLOY_CRASH_AT`` names this point.

    ``name`` means the first time that a process comes here, ``name:3`` the third.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    point, _, count = wanted.partition(":")
    if point != name:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
