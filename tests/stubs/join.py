"""A stage that joins its inputs' text, after sleeping or failing as its parameters say."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from edgedeploy.errors import ModelError
from edgedeploy.stage import Limits, Made, StageKind, Work


def run(work: Work) -> Made:
    params = work.params
    start = time.monotonic_ns()
    if params.get("trace"):
        note(params, "start", start)
    work.progress(0, 2, "steps")
    time.sleep(params.get("sleep_s", 0))
    fail(work, params.get("fault"))
    text = params.get("text", "")
    for name in sorted(work.inputs):
        path = work.inputs[name]
        text += (path / "text" if path.is_dir() else path).read_text()
    if params.get("constant"):
        text = params["constant"]
    if params.get("rewrite"):  # once: the file that is read changes under the stage's feet
        place, new, flag = map(Path, params["rewrite"])
        if not flag.exists() or flag.read_text() == "always":
            place.write_text(str(new) + ("" if not flag.exists() else str(time.time_ns())))
            flag.write_text(flag.read_text() if flag.exists() else "once")
    (work.outputs["text"] / "text").write_text(text)
    if params.get("trace"):
        note(params, "end", time.monotonic_ns())
    work.progress(2, 2, "steps")
    summary = {"length": len(text), "home": os.environ["HOME"], "environ": sorted(os.environ)}
    return Made(summary=summary)


def note(params: dict, what: str, at_ns: int) -> None:
    with open(Path(params["trace"]), "a") as file:
        file.write(f"{params.get('name')} {what} {at_ns}\n")


def fail(work: Work, fault: str | None) -> None:
    out = work.outputs["text"]
    if fault == "model":
        raise ModelError("no good", code="E200", hint="change it", subject="node7")
    if fault == "segv":
        print("converting node \x1b[31m/layer/Conv_7\x1b[0m", flush=True)
        ctypes.string_at(0)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "bug":
        raise KeyError("oops")
    if fault == "no-json":
        work.params["x"] = object()  # type: ignore[index]
        raise TypeError("not reached")
    if fault == "exit":
        sys.exit(9)
    if fault == "memory":
        bytearray(1 << 40)
    if fault == "bad-alloc":
        print("terminate called after throwing an instance of 'std::bad_alloc'", flush=True)
        os.abort()
    if fault == "bigfile":
        (out / "big").write_bytes(bytes(3 << 20))
    if fault == "fill":
        for index in range(10_000):
            (out / f"part{index}").write_bytes(bytes(1 << 20))
    if fault == "cpu":
        while True:
            pass
    if fault == "hang":
        os.kill(os.getpid(), signal.SIGSTOP)
    if fault == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(300)
    if fault in ("linger", "linger-hang"):
        os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "300")
        time.sleep(300 if fault == "linger-hang" else 0)
    if fault in ("daemon", "daemon-hang"):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.chdir("/")
                os.execlp("sleep", "sleep", "300")
            os._exit(0)
        time.sleep(300 if fault == "daemon-hang" else 0.05)
    if fault == "thread":
        import threading

        threading.Thread(target=time.sleep, args=(300,)).start()
    odd_outputs(out, fault, work)


def odd_outputs(out: Path, fault: str | None, work: Work) -> None:
    if fault == "symlink":
        (out / "link").symlink_to("/etc/hosts")
    if fault == "folder-link":
        (out / "link").symlink_to("/etc")
    if fault == "pipe":
        os.mkfifo(out / "pipe")
    if fault == "hard-link":
        (out / "link").hardlink_to(next(iter(work.inputs.values())))
    if fault == "no-output":
        aside = out.rename(out.with_name("aside"))
        out.symlink_to(aside)
    if fault == "name":
        (out / os.fsdecode(b"\xff\xfe")).write_text("x")
    if fault == "modes":
        (out / "sub" / "empty").mkdir(parents=True)
        (out / "sub" / "secret").write_text("s")
        (out / "sub" / "secret").chmod(0)
        (out / "sub").chmod(0o300)
        (work.outputs["text"].parent / "locked" / "in").mkdir(parents=True)
        (work.outputs["text"].parent / "locked").chmod(0)


STAGE = StageKind(
    kind="tests.stubs.join",
    run=run,
    outputs=("text",),
    tools=("numpy",),
    reads=("board.arch",),
    limits=Limits(file_bytes=2 << 20, cpu_s=20, deadline_s=20),
)
