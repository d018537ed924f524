"""Resource limits and parent-death handling of a worker, per platform."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Mapping

PR_SET_PDEATHSIG = 1


def apply_limits(limits: Mapping[str, float], platform: str = sys.platform) -> tuple[str, ...]:
    """Limit this process; return the names of limits that the platform cannot enforce.

    Args:
        limits: ``memory_bytes``, ``cpu_s`` and ``file_bytes``.
        platform: ``sys.platform``; macOS ignores RLIMIT_DATA, so memory is not limited there.
    """
    wanted = {
        "cpu_s": (resource.RLIMIT_CPU, int(limits["cpu_s"])),
        "file_bytes": (resource.RLIMIT_FSIZE, int(limits["file_bytes"])),
        "memory_bytes": (resource.RLIMIT_DATA, int(limits["memory_bytes"])),
    }
    unenforced = []
    for name, (which, value) in wanted.items():
        if name == "memory_bytes" and platform == "darwin":
            unenforced.append(name)
            continue
        _, hard = resource.getrlimit(which)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, (value, hard))
            continue
        unenforced.append(name)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return tuple(unenforced)


def die_with_parent(parent: int, platform: str = sys.platform) -> None:
    """Arrange that this process dies when its parent does.

    Linux sends a signal; elsewhere a thread waits for the end of standard input, whose other
    end the parent holds.

    Args:
        parent: The parent's process id as the parent gave it.
        platform: ``sys.platform``.
    """
    if platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os.kill(os.getpid(), signal.SIGKILL)
        return

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
