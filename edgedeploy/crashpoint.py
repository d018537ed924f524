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


def crashpoint(name: str) -> None:
    """Die by SIGKILL here when ``EDGEDEPLOY_CRASH_AT`` names this point."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
