"""The child's side: run one stage as the job file says and write ``result.json``."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from edgedeploy.crashpoint import crashpoint
from edgedeploy.errors import BuildError, EdgedeployError
from edgedeploy.manifest import file_sha256
from edgedeploy.stage import Made, Work, stage_kind
from edgedeploy.worker.limits import apply_limits, die_with_parent
from edgedeploy.worker.observe import Observer

# How converters in C++ say that an allocation failed; they have no type for it in Python.
_NO_MEMORY = re.compile(
    r"bad.?alloc|Failed to allocate|Cannot allocate memory|Unable to allocate|out of memory", re.I
)


def main(job_file: str) -> None:
    """Run the job in ``job_file``; the result tells success and failure alike."""
    folder = Path(job_file).parent
    job: dict[str, Any] = json.loads(Path(job_file).read_bytes())
    die_with_parent(job["parent"])
    os.umask(0o022)
    crashpoint("worker.started")
    unenforced = apply_limits(job["limits"])
    try:
        result = {**_run(job, folder), "unenforced": unenforced}
    except EdgedeployError as error:
        result = _failure(error)
    except MemoryError as error:
        result = _failure(_no_memory(job, str(error)))
    except Exception as error:  # noqa: BLE001 - the edge of a process: everything becomes data
        text = "".join(traceback.format_exception(error))
        if _NO_MEMORY.search(str(error)):
            result = _failure(_no_memory(job, str(error)))
        else:
            result = {"bug": text}
    crashpoint("worker.before-result")
    part = folder / "result.part"
    part.write_text(json.dumps(result), encoding="utf-8")
    part.rename(folder / "result.json")


def _run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Call the stage's function and return what it made as JSON data."""
    stage = stage_kind(job["kind"])
    project = Path(job["project"])
    observer = None
    if stage.observes_user_code:
        sys.path.insert(0, str(project))
        sys.dont_write_bytecode = True  # the project is the user's
        inputs = [Path(path) for path in job["inputs"].values()]
        observer = Observer(project, [folder, *inputs])
    events = os.fdopen(job["events"], "w", buffering=1, encoding="utf-8")

    def progress(done: int, total: int, what: str) -> None:
        events.write(json.dumps([done, total, what]) + "\n")

    made: Made = stage.run(
        Work(
            params=job["params"],
            inputs={name: Path(path) for name, path in job["inputs"].items()},
            outputs={name: Path(path) for name, path in job["outputs"].items()},
            fields=job["fields"],
            project=project,
            progress=progress,
        )
    )
    observed = [
        {"file": str(path.resolve()), "sha256": file_sha256(path)} for path in made.observed
    ]
    if observer:
        known = {item["file"] for item in observed}
        observed += [item for item in observer.observed() if item.get("file") not in known]
    return {
        "summary": dict(made.summary),
        "segments": {name: list(cuts) for name, cuts in made.segments.items()},
        "observed": observed,
    }


def _failure(error: EdgedeployError) -> dict[str, Any]:
    return {
        "error": type(error).__name__,
        "diagnostics": [item.to_json() for item in error.diagnostics],
    }


def _no_memory(job: dict[str, Any], said: str) -> BuildError:
    limit_mib = int(job["limits"]["memory_bytes"]) >> 20
    return BuildError(
        f"stage {job['kind']} needs more memory than its limit of {limit_mib} MiB: {said[:200]}",
        code="E382",
        hint="check the model for huge constant shapes; a bigger model gets a bigger limit",
    )


if __name__ == "__main__":
    main(sys.argv[1])
