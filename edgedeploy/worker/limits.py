"""Resource limits and signals of a worker, per platform."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping

PR_SET_PDEATHSIG = 1
# After the polite signal a program that ignores it gets this much more CPU time.
CPU_GRACE_S = 5


def apply_limits(limits: Mapping[str, float], platform: str = sys.platform) -> tuple[str, ...]:
    """Limit this process; return the names of limits that the platform cannot enforce.

    Args:
        limits: ``memory_bytes``, ``cpu_s`` and ``file_bytes``.
        platform: ``sys.platform``; macOS ignores RLIMIT_DATA, so memory is not limited there.
    """
    wanted = {
        "cpu_s": (resource.RLIMIT_CPU, int(limits["cpu_s"]), CPU_GRACE_S),
        "file_bytes": (resource.RLIMIT_FSIZE, int(limits["file_bytes"]), 0),
        "memory_bytes": (resource.RLIMIT_DATA, int(limits["memory_bytes"]), 0),
    }
    unenforced = []
    for name, (which, value, grace) in wanted.items():
        if name == "memory_bytes" and platform == "darwin":
            unenforced.append(name)
            continue
        _, hard = resource.getrlimit(which)
        if hard == resource.RLIM_INFINITY or value + grace < hard:
            hard = value + grace
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, (min(value, hard), hard))
            continue
        unenforced.append(name)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return tuple(unenforced)


def reset_signals() -> None:
    """Undo what the caller's environment or Python itself ignores or blocks.

    Python ignores SIGXFSZ, which would turn the file size limit into an odd error of whatever
    library wrote; a caller under ``nohup`` ignores SIGHUP, and so on.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in ("SIGXFSZ", "SIGXCPU", "SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def die_with_parent(parent: int, platform: str = sys.platform) -> None:
    """Let this process be killed when its parent, a single-threaded process, ends.

    Only Linux offers this; elsewhere the parent's own care must do. (Linux sends the signal when
    the *thread* that forked ends; hence the condition.)

    Args:
        parent: The parent's process id as the parent knows it.
        platform: ``sys.platform``.
    """
    if platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)
