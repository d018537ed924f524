"""The parent's side: start a worker, pass its progress on, and turn its end into a result."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import site
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.disk import disk_errors
from edgedeploy.errors import (
    ERROR_KINDS,
    BuildError,
    Diagnostic,
    EdgedeployError,
    InternalError,
    StoreError,
    ToolError,
)
from edgedeploy.stage import stage_root
from edgedeploy.toolchain import PACKAGE
from edgedeploy.worker import NO_MEMORY

LOG_TAIL_LINES = 20
LOG_TAIL_BYTES = 1 << 14
KILL_AFTER_S = 2.0
LOOK_S = 0.1
# A disk with less than this left counts as full: a log line no longer fits.
FULL_BYTES = 1 << 16


class Stopped(Exception):
    """The run was interrupted while a worker was running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One call of a stage in a worker.

    Attributes:
        node: The plan's name for it, for messages.
        kind: Stage kind.
        params, inputs, outputs, fields: As in :class:`edgedeploy.stage.Work`.
        limits: As :meth:`edgedeploy.stage.Limits.for_inputs` returns them.
        project: The user's project folder.
        folder: Private work folder: job, result, log, HOME and TMPDIR lie here.
        keyed: Files and folders whose content is in the stage's key already.
        interpreter: Python to run; another one can have other runtime versions.
        guards: Descriptors that stay open until the worker and all that it started have ended.
    """

    node: str
    kind: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    fields: Mapping[str, Any]
    limits: Mapping[str, float]
    project: Path
    folder: Path
    keyed: tuple[Path, ...] = ()
    interpreter: Path = Path(sys.executable)
    guards: tuple[int, ...] = ()


def run_job(
    job: Job,
    *,
    stop: threading.Event,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> dict[str, Any]:
    """Run one job to its end and return ``{"summary", "segments", "observed"}``.

    Raises:
        EdgedeployError: What the stage raised; or a BuildError when the worker crashed (E383),
            ran out of memory (E382), CPU time (E384), file size (E385) or wall time (E386).
        InternalError: The stage failed in a way that is a bug (E900).
        StoreError: The disk is full or refuses (E601, E602).
        ToolError: The interpreter cannot be started (E502).
        Stopped: ``stop`` was set; the worker has been killed.
    """
    reader, writer = os.pipe()
    try:
        try:
            process = _start(job, writer)
        finally:
            os.close(writer)
        worker = _Worker(process, reader)
        try:
            late = worker.attend(stop, progress, job.limits["deadline_s"])
        finally:
            worker.end()
    finally:
        os.close(reader)
    if stop.is_set():
        raise Stopped
    return _result(job, worker.status, late)


def _start(job: Job, writer: int) -> subprocess.Popen[bytes]:
    with disk_errors("cannot prepare a worker"):
        for name in ("home", "tmp"):
            (job.folder / name).mkdir(exist_ok=True)
        job_file = job.folder / "job.json"
        job_file.write_text(json.dumps(_job_data(job, writer)), encoding="ascii")
        output = open(job.folder / "log.txt", "wb")  # noqa: SIM115 - closed below
    try:
        return subprocess.Popen(
            [str(job.interpreter), "-P", str(PACKAGE / "worker" / "boot.py"), str(job_file)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(job),
            cwd=job.folder,
            pass_fds=(writer, *job.guards),
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(
            f"cannot start a worker: {error.strerror}",
            code="E502",
            subject=str(job.interpreter),
            hint="check that this Python can be run and that processes may still be started",
        ) from error
    finally:
        output.close()


def _job_data(job: Job, events: int) -> dict[str, Any]:
    def place(path: Path) -> str:
        return os.path.abspath(path)  # noqa: PTH100 - the worker runs in another folder

    root = stage_root(job.kind)
    return {
        "node": job.node,
        "kind": job.kind,
        "path": str(root) if root else None,
        "params": dict(job.params),
        "inputs": {name: place(path) for name, path in job.inputs.items()},
        "outputs": {name: place(path) for name, path in job.outputs.items()},
        "fields": dict(job.fields),
        "limits": dict(job.limits),
        "project": place(job.project),
        "keyed": [place(path) for path in job.keyed],
        "parent": os.getpid(),
        "events": events,
        "guards": list(job.guards),
    }


def _environment(job: Job) -> dict[str, str]:
    """Return a worker's whole environment: nothing of the user's that could change a result."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "LD_LIBRARY_PATH", "EDGEDEPLOY_CRASH_AT")
        if name in os.environ
    }
    if site.ENABLE_USER_SITE and site.getusersitepackages() in sys.path:
        kept["PYTHONUSERBASE"] = site.getuserbase()  # it would be looked for below HOME
    return {
        **kept,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "HOME": str(job.folder / "home"),
        "TMPDIR": str(job.folder / "tmp"),
        # One thread: sums in another order would make results depend on the number of cores.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
    }


class _Worker:
    """A running worker.

    Args:
        process: Its supervisor.
        reader: The end of the pipe on which progress and the stage's end are told.
    """

    def __init__(self, process: subprocess.Popen[bytes], reader: int) -> None:
        self._process = process
        self._reader = reader
        self._rest = b""
        self._ended: int | None = None
        os.set_blocking(reader, False)

    @property
    def status(self) -> int:
        """Exit status of the stage, or minus the signal it died of; known after :meth:`end`."""
        return self._process.returncode if self._ended is None else self._ended

    def attend(
        self,
        stop: threading.Event,
        progress: Callable[[int, int, str], None],
        deadline_s: float,
    ) -> bool:
        """Pass progress on until the worker has ended; return whether it is late instead."""
        deadline = time.monotonic() + deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            while not stop.is_set():
                if time.monotonic() > deadline:
                    return True
                if selector.select(LOOK_S) and not self._read(progress):
                    break
                if self._has_ended():
                    self._read(progress)
                    break
        return False

    def _read(self, progress: Callable[[int, int, str], None]) -> bool:
        """Pass on what the pipe holds; return False at its end."""
        while True:
            try:
                chunk = os.read(self._reader, 1 << 16)
            except BlockingIOError:
                return True
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                # A line that was cut off when the stage died says nothing.
                with contextlib.suppress(ValueError):
                    said = json.loads(line)
                    if isinstance(said, dict):
                        self._ended = os.waitstatus_to_exitcode(said["ended"])
                    else:
                        progress(*said)
            if not chunk:
                return False

    def _has_ended(self) -> bool:
        """Whether the supervisor has ended; it stays a zombie, so that its id is not reused."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._process.poll() is not None
        try:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._process.pid, flags) is not None
        except ChildProcessError:
            return True

    def end(self) -> None:
        """End the worker and everything it started, and reap it."""
        if self._process.stdin:
            # The supervisor takes this as the order to end.
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        deadline = time.monotonic() + KILL_AFTER_S
        pause_s = 0.0005
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.02)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _result(job: Job, status: int, late: bool) -> dict[str, Any]:
    """Turn a worker's end into its result or a typed error."""
    if late:
        raise BuildError(
            f"stage {job.node} did not end within {job.limits['deadline_s']:.0f} s",
            code="E386",
            subject=job.node,
            hint="the converter hangs on this model; report it with the model's `inspect` output",
        )
    try:
        result: dict[str, Any] = json.loads((job.folder / "result.json").read_bytes())
    except (OSError, ValueError) as error:
        raise _crash(job, status) from error
    if "bug" in result:
        raise InternalError(
            f"stage {job.node} failed unexpectedly: {result['bug'].strip().splitlines()[-1]}",
            code="E900",
            subject=job.node,
            hint="this is a bug of edgedeploy; run again with --debug for the trace",
        ) from RuntimeError(result["bug"])
    if "error" in result:
        kind: type[EdgedeployError] = ERROR_KINDS[result["error"]]
        raise kind(Diagnostic.from_json(item) for item in result["diagnostics"])
    return result


def _crash(job: Job, status: int) -> EdgedeployError:
    """Return the typed error for a worker that ended without a result."""
    if shutil.disk_usage(job.folder).free < FULL_BYTES:
        return StoreError(
            f"the disk is full: the worker of stage {job.node} could not write",
            code="E601",
            subject=str(job.folder),
            hint="free space (`edgedeploy cache gc`) or set EDGEDEPLOY_STORE",
        )
    tail = _tail(job.folder / "log.txt")
    hint = "the store and the other targets are unharmed; run again with --debug for its log"
    if status == -signal.SIGXCPU:
        code, what = "E384", f"used more than its {job.limits['cpu_s']} s of CPU time"
    elif status == -signal.SIGXFSZ:
        code, what = "E385", f"wrote a file of more than {job.limits['file_bytes']} bytes"
    elif status != -signal.SIGKILL and NO_MEMORY.search("\n".join(tail)):
        code, what = "E382", f"needs more than {int(job.limits['memory_bytes']) >> 20} MiB memory"
    elif status < 0:
        code, what = "E383", f"died of {signal.Signals(-status).name}"
        if status == -signal.SIGKILL:
            hint = "if the system ended it for want of memory, free some or build with -j 1"
    else:
        code, what = "E383", f"ended with status {status} and no result"
    inputs = ", ".join(sorted(path.name[:16] for path in job.inputs.values()))
    said = f"; it said: {tail[-1][:300]}" if tail else ""
    error = BuildError(
        f"the worker of stage {job.node} {what} (inputs: {inputs or 'none'}){said}",
        code=code,
        subject=job.node,
        hint=hint,
    )
    for name in ("log.txt", "fault.txt"):
        if lines := _tail(job.folder / name):
            error.add_note("\n".join([f"end of the worker's {name}:", *lines]))
    return error


def _tail(log: Path) -> list[str]:
    """Return the last lines of a log that are not empty, fit to be shown."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    shown = (
        "".join(letter for letter in line if letter.isprintable()).strip()
        for line in text.splitlines()
    )
    return [line for line in shown if line][-LOG_TAIL_LINES:]
