"""Measures artifacts on this machine: runs ``loop.py`` in a process of its own, makes records."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from edgedeploy.bench.job import BenchJob
from edgedeploy.bench.record import build_record
from edgedeploy.errors import BuildError, ToolError

LOOP = Path(__file__).with_name("loop.py")
_STDERR_LINES = 30
_LOADING_S = 600

Progress = Callable[[Mapping[str, Any]], None]


def measure(
    job: BenchJob,
    workdir: Path,
    *,
    python: str = sys.executable,
    deadline_s: float | None = None,
    on_progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Measure a job and return one record per artifact, in the job's order.

    Args:
        job: What to measure.
        workdir: An existing folder; the samples files that the records name are left in it.
        python: Interpreter that has the runtime.
        deadline_s: The measuring process is killed after this; None takes twice the plan's own
            limits and ten minutes of loading per artifact.
        on_progress: Called with each progress line of ``loop.py``, from another thread.

    Raises:
        BuildError: The runtime died (E350), refused the artifact or its inputs (E351), hung (E352)
            or gave no readable result (E353).
        ToolError: The interpreter cannot be started (E355).
    """
    created = datetime.now(UTC).isoformat(timespec="seconds")
    deadline_s = deadline_s or longest_s(job)
    result = run_loop(job, workdir, python=python, deadline_s=deadline_s, on_progress=on_progress)
    return [build_record(job, item, result, created, workdir) for item in job.artifacts]


def longest_s(job: BenchJob) -> float:
    """Return how long a job may take: its plan's limits twice, ten minutes of loading each."""
    plan, count = job.effective_plan, len(job.artifacts) + job.noise_floor
    return 2 * plan.max_s + count * (2 * plan.warmup_max_s + _LOADING_S)


def run_loop(
    job: BenchJob,
    workdir: Path,
    *,
    python: str,
    deadline_s: float,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Run ``loop.py`` on a job and return its result; raises as :func:`measure`."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=workdir) as name:
        folder = Path(name).absolute()
        job_path, result_path = folder / "job.json", folder / "result.json"
        job_path.write_text(json.dumps(job.to_loop(), indent=1), encoding="utf-8")
        with open(result_path, "wb") as out:
            process = _start([python, str(LOOP), str(job_path)], out, folder, job)
            noise = _wait(process, deadline_s, on_progress)
        try:
            result = json.loads(result_path.read_text(encoding="utf-8"))
        except ValueError:
            result = None
    return _checked(job, process.returncode, result, noise)


def _start(
    command: list[str], out: IO[bytes], folder: Path, job: BenchJob
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=_environment(job, folder),
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(
            f"cannot start the interpreter {command[0]}: {error.strerror}",
            code="E355",
            subject=command[0],
            hint="Name a Python that has the runtime installed.",
        ) from error


def _environment(job: BenchJob, folder: Path) -> dict[str, str]:
    """Return the environment of the measuring process: nothing of ours but what it needs."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    threads = max(item.threads for item in job.artifacts)
    return {
        **kept,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
    }


def _wait(
    process: subprocess.Popen[bytes], deadline_s: float, on_progress: Progress | None
) -> list[str]:
    """Wait for the process, pass progress on and return the last other lines of its stderr."""
    noise: deque[str] = deque(maxlen=_STDERR_LINES)
    stderr = process.stderr
    if stderr is None:  # opened as a pipe by run_loop
        raise ValueError("the process has no stderr pipe")
    reader = threading.Thread(target=_read_lines, args=(stderr, noise, on_progress), daemon=True)
    reader.start()
    try:
        process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        raise BuildError(
            f"the measurement did not end within {deadline_s:g} s",
            code="E352",
            hint="The runtime hangs or the model is too slow for the mode: try `quick`.",
        ) from None
    finally:
        _kill_group(process)
        reader.join(timeout=5)
        stderr.close()
    return list(noise)


def _read_lines(stderr: IO[bytes], noise: deque[str], on_progress: Progress | None) -> None:
    for raw in stderr:
        line = raw.decode("utf-8", "replace").rstrip()
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            noise.append(line)
        elif on_progress is not None:
            on_progress(event)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and the children of its own session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _checked(
    job: BenchJob, status: int, result: dict[str, Any] | None, noise: list[str]
) -> dict[str, Any]:
    """Return the result of a run that went well; raise the typed error of any other."""
    failed = (result or {}).get("failed", {})
    subject = failed.get("artifact") or ", ".join(item.id for item in job.artifacts)
    died = status if status < 0 else failed.get("status", 0)
    last = f" ({noise[-1]})" if noise else ""
    if died < 0:
        raise BuildError(
            f"the runtime died from {signal_name(-died)} while it was measured{last}",
            code="E350",
            subject=subject,
            hint="Run parity on the artifact first; if that passes, report the crash upstream.",
        )
    if failed:
        raise BuildError(
            f"cannot measure: {failed['message']}",
            code="E351",
            subject=subject,
            hint="Check the artifact's inputs and the threads and options of the bench.",
        )
    if status == 0 and result is not None:
        return result
    raise BuildError(
        f"the measuring process ended with status {status} and no readable result{last}",
        code="E353",
        subject=subject,
        hint="Check that the interpreter has NumPy and the runtime, and the disk has room.",
    )


def signal_name(number: int) -> str:
    """Return a signal's name with what it mostly means, such as ``SIGKILL (out of memory?)``."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    meanings = {
        "SIGKILL": "killed, perhaps out of memory",
        "SIGSEGV": "invalid memory access",
        "SIGILL": "an instruction that this CPU lacks",
        "SIGABRT": "it aborted itself",
    }
    return f"{name} ({meanings[name]})" if name in meanings else name
