"""The supervisor: the process between the builder and a stage.

It holds no lock and loads no library, so nothing that a converter does can keep it from its one
duty: when the stage ends, or the builder lets go of its standard input (by dying, too), everything
that the stage started is killed. Only then is the end reported.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from edgedeploy.worker.limits import die_with_parent, reset_signals

PR_SET_CHILD_SUBREAPER = 36
LOOK_S = 1.0
END_WITHIN_S = 5.0


def supervise(builder: int, report: int, stage: Callable[[], None]) -> NoReturn:
    """Run ``stage`` in a child process, see it end, and end with it.

    Standard input must be a pipe from the builder, which never writes to it.

    Args:
        builder: Process id of the builder.
        report: Descriptor on which ``{"ended": <wait status>}`` is written as a line at the end.
        stage: What the child does.
    """
    if sys.platform == "linux":
        # Who leaves the session and the process group still becomes our child.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    me = os.getpid()
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        reset_signals()
        die_with_parent(me)
        os.close(wake)
        os.close(woken)
        _run(stage)
    status = _await(child, builder, wake)
    _end_descendants(child if status is None else None)
    if status is not None:
        # A line of its own, even when the stage was cut off in the middle of one.
        with contextlib.suppress(OSError):
            os.write(report, b"\n" + json.dumps({"ended": status}).encode() + b"\n")
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("unreachable")


def _run(stage: Callable[[], None]) -> NoReturn:
    """Do the child's part; never returns, and skips the clean-up of C++ libraries at exit."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    code = 1
    try:
        stage()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the edge of a process; the log is what the builder reads
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code & 0xFF)


def _await(child: int, builder: int, wake: int) -> int | None:
    """Return the child's wait status, None when the builder lets go first."""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select(LOOK_S)}
            if wake in ready:
                os.read(wake, 4096)
            with contextlib.suppress(ChildProcessError):
                while ended := os.waitpid(-1, os.WNOHANG):
                    if ended[0] == child:
                        return ended[1]
                    if ended[0] == 0:
                        break
            if 0 in ready and not os.read(0, 1):
                return None
            if os.getppid() != builder:  # another child of it may hold our standard input open
                return None


def _end_descendants(child: int | None) -> None:
    """Kill and reap what descends from this process; without /proc only ``child``, if any."""
    deadline = time.monotonic() + END_WITHIN_S
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        # Killing a parent makes its children ours: the next round finds them.
        for pid in _children() or ([child] if child else []):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def _children() -> list[int]:
    """Return the process ids of this process's children (none where there is no /proc)."""
    found = []
    me = os.getpid()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # pid (name) state ppid ...; the name may hold spaces and brackets
            if int(entry.read_bytes().rpartition(b")")[2].split()[1]) == me:
                found.append(int(entry.parent.name))
    return found
