"""The child's side: run one stage as the job file says and write ``result.json``."""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedeploy.crashpoint import crashpoint
from edgedeploy.errors import BuildError, EdgedeployError, StoreError
from edgedeploy.manifest import canonical, file_sha256
from edgedeploy.stage import Made, Work, stage_kind
from edgedeploy.worker import NO_MEMORY
from edgedeploy.worker.limits import apply_limits
from edgedeploy.worker.supervise import supervise

if TYPE_CHECKING:
    from edgedeploy.worker.observe import Observer


def main(job_file: str) -> None:
    """Run the job in ``job_file``, watched by this process, in a child of it."""
    folder = Path(job_file).parent
    job: dict[str, Any] = json.loads(Path(job_file).read_bytes())
    for descriptor in (job["events"], *job["guards"]):
        os.set_inheritable(descriptor, False)
    supervise(job["parent"], job["events"], lambda: _stage(job, folder))


def _stage(job: dict[str, Any], folder: Path) -> None:
    """Run the stage; the result tells success and failure alike."""
    for descriptor in job["guards"]:
        os.close(descriptor)  # the supervisor holds them, and ends last
    os.umask(0o022)
    faulthandler.enable(open(folder / "fault.txt", "w"))  # noqa: SIM115 - for life
    crashpoint("worker.started")
    unenforced = apply_limits(job["limits"])
    try:
        content = canonical({**_run(job, folder), "unenforced": unenforced})
    except EdgedeployError as error:
        cause = error.__cause__
        # A reader takes what its library lacked memory for as damage; here the limits are known.
        lacked = cause is not None and _lacks_memory(cause)
        content = _failure(_no_memory(job, str(cause)) if lacked else error)
    except Exception as error:  # noqa: BLE001 - the edge of a process: everything becomes data
        content = _unexpected(job, error)
    crashpoint("worker.before-result")
    part = folder / "result.part"
    part.write_bytes(content)
    part.rename(folder / "result.json")


def _run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Call the stage's function and return what it made as JSON data."""
    if job["path"] and job["path"] not in sys.path:
        sys.path.append(job["path"])
    stage = stage_kind(job["kind"])
    project = Path(job["project"])
    observers: list[Observer] = []

    def observe() -> None:
        if not observers:
            from edgedeploy.worker.observe import Observer  # slow to load, and seldom wanted

            sys.path.insert(0, str(project))
            observers.append(Observer([folder, *map(Path, job["keyed"])]))

    # One write for each line, so that a line is whole whenever this process dies.
    events = os.fdopen(job["events"], "wb", buffering=0)

    def progress(done: int, total: int, what: str) -> None:
        events.write(json.dumps([done, total, what]).encode() + b"\n")

    if stage.run is None:
        raise TypeError(f"the stage {job['kind']} is not made by workers")
    made: Made = stage.run(
        Work(
            params=job["params"],
            inputs={name: Path(path) for name, path in job["inputs"].items()},
            outputs={name: Path(path) for name, path in job["outputs"].items()},
            fields=job["fields"],
            project=project,
            progress=progress,
            observe=observe,
        )
    )
    return {
        "summary": dict(made.summary),
        "segments": {name: list(cuts) for name, cuts in made.segments.items()},
        "observed": _observed(made.observed, observers),
    }


def _observed(told: Sequence[Path], observers: Sequence[Observer]) -> list[dict[str, str]]:
    """Return what the stage says that it read, and what it was seen to read."""
    found = [{"file": str(path.resolve()), "sha256": file_sha256(path)} for path in told]
    for observer in observers:
        known = {item["file"] for item in found}
        found += [item for item in observer.observed() if item.get("file") not in known]
    return found


def _lacks_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or NO_MEMORY.search(str(error)) is not None


def _unexpected(job: dict[str, Any], error: Exception) -> bytes:
    """Return the failure for an exception that is not typed: memory, disk, or a bug."""
    if _lacks_memory(error):
        return _failure(_no_memory(job, str(error)))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _failure(
            StoreError(
                f"stage {job['node']} could not write: {error.strerror}",
                code="E601",
                subject=str(error.filename or ""),
                hint="free space (`edgedeploy cache gc`) or set EDGEDEPLOY_STORE",
            )
        )
    return canonical({"bug": "".join(traceback.format_exception(error))})


def _failure(error: EdgedeployError) -> bytes:
    return canonical(
        {
            "error": type(error).__name__,
            "diagnostics": [item.to_json() for item in error.diagnostics],
        }
    )


def _no_memory(job: dict[str, Any], said: str) -> BuildError:
    limit_mib = int(job["limits"]["memory_bytes"]) >> 20
    return BuildError(
        f"stage {job['node']} needs more memory than its limit of {limit_mib} MiB"
        + (f": {said[:200]}" if said else ""),
        code="E382",
        subject=job["node"],
        hint="check the model for huge constant shapes; a bigger model gets a bigger limit",
    )


if __name__ == "__main__":
    main(sys.argv[1])
