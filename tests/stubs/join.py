"""A stage that joins its inputs' text, after sleeping or failing as its parameters say."""

import ctypes
import os
import signal
import time
from pathlib import Path

from edgedeploy.errors import ModelError
from edgedeploy.stage import Limits, Made, StageKind, Work


def run(work: Work) -> Made:
    params = work.params
    start = time.monotonic_ns()
    work.progress(0, 2, "steps")
    time.sleep(params.get("sleep_s", 0))
    fault = params.get("fault")
    if fault == "model":
        raise ModelError("no good", code="E200", hint="change it", subject="node7")
    if fault == "segv":
        ctypes.string_at(0)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "bug":
        raise KeyError("oops")
    if fault == "memory":
        bytearray(1 << 40)
    if fault == "bigfile":
        (work.outputs["text"] / "big").write_bytes(bytes(3 << 20))
    if fault == "cpu":
        while True:
            pass
    if fault == "linger":
        os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "300")
    text = params.get("text", "")
    for name in sorted(work.inputs):
        path = work.inputs[name]
        text += (path / "text" if path.is_dir() else path).read_text()
    (work.outputs["text"] / "text").write_text(text)
    if params.get("trace"):
        with open(Path(params["trace"]), "a") as file:
            file.write(f"{params.get('name')} {start} {time.monotonic_ns()}\n")
    work.progress(2, 2, "steps")
    return Made(summary={"length": len(text), "home": os.environ["HOME"]})


STAGE = StageKind(
    kind="tests.stubs.join",
    run=run,
    outputs=("text",),
    tools=("numpy",),
    reads=("board.arch",),
    limits=Limits(file_bytes=2 << 20, cpu_s=2, deadline_s=20),
)
