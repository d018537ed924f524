"""The parent's side: start a worker, pass its progress on, and turn its end into a result."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.errors import ERROR_KINDS, BuildError, Diagnostic, EdgedeployError, InternalError
from edgedeploy.toolchain import PACKAGE

LOG_TAIL_LINES = 20
KILL_AFTER_S = 2.0


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
        interpreter: Python to run; another one can have other runtime versions.
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
    interpreter: Path = Path(sys.executable)


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
        Stopped: ``stop`` was set; the worker has been killed.
    """
    reader, writer = os.pipe()
    job_file = job.folder / "job.json"
    job_file.write_text(json.dumps(_job_data(job, writer)), encoding="utf-8")
    log = job.folder / "log.txt"
    for name in ("home", "tmp"):
        (job.folder / name).mkdir(exist_ok=True)
    try:
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [str(job.interpreter), "-m", "edgedeploy.worker", str(job_file)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(job),
                cwd=job.folder,
                pass_fds=(writer,),
                start_new_session=True,
            )
    finally:
        os.close(writer)
    try:
        late = _attend(process, reader, stop, progress, job.limits["deadline_s"])
    finally:
        os.close(reader)
    if stop.is_set():
        raise Stopped
    return _result(job, process.returncode, late, log)


def _job_data(job: Job, events: int) -> dict[str, Any]:
    return {
        "kind": job.kind,
        "params": dict(job.params),
        "inputs": {name: str(path) for name, path in job.inputs.items()},
        "outputs": {name: str(path) for name, path in job.outputs.items()},
        "fields": dict(job.fields),
        "limits": dict(job.limits),
        "project": str(job.project),
        "parent": os.getpid(),
        "events": events,
    }


def _environment(job: Job) -> dict[str, str]:
    """Return a worker's whole environment: nothing of the user's that could change a result."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "LD_LIBRARY_PATH", "EDGEDEPLOY_CRASH_AT", "SYSTEMROOT")
        if name in os.environ
    }
    return {
        **kept,
        "PYTHONPATH": str(PACKAGE.parent),
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


def _attend(
    process: subprocess.Popen[bytes],
    events: int,
    stop: threading.Event,
    progress: Callable[[int, int, str], None],
    deadline_s: float,
) -> bool:
    """Pass progress on until the process ends; return whether the deadline killed it."""
    end = time.monotonic() + deadline_s
    selector = selectors.DefaultSelector()
    selector.register(events, selectors.EVENT_READ)
    listening = True
    rest = b""
    late = False
    try:
        while process.poll() is None:
            if stop.is_set():
                break
            if time.monotonic() > end:
                late = True
                break
            # Once the event pipe has ended only the process itself is waited for.
            if not listening:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.05)
                continue
            if selector.select(timeout=0.1):
                chunk = os.read(events, 1 << 16)
                if not chunk:
                    selector.unregister(events)
                    listening = False
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    done, total, what = json.loads(line)
                    progress(done, total, what)
    finally:
        selector.close()
        kill_group(process)
    return late


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a worker and everything it started, and reap it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=KILL_AFTER_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _result(job: Job, returncode: int, late: bool, log: Path) -> dict[str, Any]:
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
        raise _crash(job, returncode, log) from error
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


def _crash(job: Job, returncode: int, log: Path) -> BuildError:
    """Return the typed error for a worker that ended without a result."""
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    said = f"; it said: {tail[-1][:300]}" if tail else ""
    inputs = ", ".join(sorted(path.name[:16] for path in job.inputs.values()))
    if returncode == -signal.SIGXCPU:
        code, what = "E384", f"used more than its {job.limits['cpu_s']} s of CPU time"
    elif returncode == -signal.SIGXFSZ:
        code, what = "E385", f"wrote a file of more than {job.limits['file_bytes']} bytes"
    elif returncode < 0:
        code, what = "E383", f"died of {signal.Signals(-returncode).name}"
    else:
        code, what = "E383", f"ended with status {returncode} and no result"
    return BuildError(
        f"the worker of stage {job.node} {what} (inputs: {inputs}){said}",
        code=code,
        subject=job.node,
        hint="the store and the other targets are unharmed; run again with --debug for its log",
    )
