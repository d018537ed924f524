"""Building engines: one process each, and what went wrong there in words."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.backends.rtx.parsing import (
    clean,
    is_installed,
    not_installed,
    package_folders,
    refusals,
)
from edgedeploy.backends.trt.profiles import OptimisationProfile
from edgedeploy.errors import BuildError, Diagnostic
from edgedeploy.worker import NO_MEMORY

_PROGRAM = Path(__file__).with_name("onebuild.py")
_LIMITS = (signal.SIGXCPU, signal.SIGXFSZ)
_TOLD, _LONGEST = 3, 1000
_NODE = re.compile(r"operation '([^']+)'|Unknown node ([^ ]+)|node \{ForeignNode\[([^\]]+?)\.\.\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How an engine is to be built.

    Attributes:
        capabilities: Such as ``8.9``; the engine runs on each of them.
        profiles: One per optimisation profile; none for a network of fixed sizes.
        flags: Flags of the builder, all others are off.
        workspace_bytes: Scratch memory on the GPU that a kernel may use; None: no limit.
        details: Whether the engine keeps what an inspector shows of its layers.
    """

    capabilities: Sequence[str]
    profiles: Sequence[OptimisationProfile] = ()
    flags: Sequence[str] = ()
    workspace_bytes: int | None = None
    details: bool = False


def build_engine(program: Path, engine: Path, wish: Wish) -> tuple[str, ...]:
    """Write the engine of a typed graph; return the builder's warnings.

    Equal graphs and wishes give equal bytes, whoever builds them and where.

    Args:
        program: The typed graph; what lies beside it is read from there.
        engine: The file to write.
        wish: How to build it.

    Raises:
        BuildError: The builder is not installed (E326), the parser refuses the graph (E327) or the
            builder does (E328), or inputs decide on shapes (E335).
        MemoryError: It ran out of memory.
    """
    if not is_installed():
        raise not_installed()
    with tempfile.TemporaryDirectory(prefix="edgedeploy-rtx-") as scratch:
        answer = _run(program, engine, wish, Path(scratch))
    stage = answer["stage"]
    messages = [(severity, clean(text)) for severity, text in answer["messages"]]
    if stage == "parse":
        found = refusals(answer["errors"], program)
        raise BuildError(found or [_unexplained("parser", messages, program)])
    if answer["shape_inputs"]:
        raise BuildError([_shape_input(name) for name in answer["shape_inputs"]])
    if stage is not None:
        _check_memory("\n".join(text for _, text in messages))
        raise BuildError(_unexplained("builder", messages, program))
    return tuple(dict.fromkeys(text for severity, text in messages if severity == "warning"))


def _run(program: Path, engine: Path, wish: Wish, scratch: Path) -> dict[str, Any]:
    """Run the builder in a process of its own; return its answer."""
    job, result = scratch / "job.json", scratch / "answer.json"
    told = {
        "paths": package_folders(),
        "model": program.name,
        "engine": str(engine.absolute()),
        "result": str(result),
        "capabilities": ["SM" + item.replace(".", "") for item in wish.capabilities],
        "profiles": [
            {name: [sizes.low, sizes.opt, sizes.high] for name, sizes in profile.items()}
            for profile in wish.profiles
        ],
        "flags": list(wish.flags),
        "workspace": wish.workspace_bytes,
        "details": wish.details,
    }
    job.write_text(json.dumps(told), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", str(_PROGRAM), str(job)],
        cwd=program.parent,
        # Nothing of the caller's environment reaches the builder.
        env={"LC_ALL": "C.UTF-8", "HOME": str(scratch), "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if -done.returncode in _LIMITS:
        # The limit is this process's too: its supervisor knows how to say so.
        os.kill(os.getpid(), -done.returncode)
    if done.returncode != 0 or not result.is_file():
        raise _died(done.returncode, done.stderr, program)
    answer: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return answer


def _check_memory(text: str) -> None:
    """Raise what a worker takes for want of memory (E382), if that is what was said."""
    if NO_MEMORY.search(text):
        raise MemoryError(text[-_LONGEST:])


def _died(status: int, stderr: bytes, program: Path) -> BuildError:
    _check_memory(stderr.decode("utf-8", "replace"))
    how = f"exit status {status}"
    if status < 0:
        how = f"signal {signal.Signals(-status).name}"
    last = stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return BuildError(
        f"the builder of TensorRT for RTX ended with {how}" + "".join(f": {line}" for line in last),
        code="E328",
        subject=program.name,
        hint="if memory ran out, build on a larger machine; otherwise report it with the model",
    )


def _unexplained(who: str, messages: Sequence[tuple[str, str]], program: Path) -> Diagnostic:
    """Return what the builder said last, where it names no node of its own accord."""
    errors = [text for severity, text in messages if "error" in severity and "Cuda" not in text]
    told = list(dict.fromkeys(errors))[-_TOLD:]
    named = next((match for text in told if (match := _NODE.search(text))), None)
    subject = next(filter(None, named.groups()), None) if named else None
    return Diagnostic(
        code="E328",
        message=f"the {who} of TensorRT for RTX makes no engine: "
        + ("; ".join(told) or "it gives no reason"),
        subject=subject or program.name,
        hint="give it more `workspace`, or leave that out"
        if any("within workspace limit" in text for text in told)
        else "use another `quantize:`, keep the node in float (`keep_float`), or drop this target",
    )


def _shape_input(name: str) -> Diagnostic:
    return Diagnostic(
        code="E335",
        message=f"the values of the input {name!r} decide on shapes, which no profile can say",
        subject=name,
        hint=f"make it a constant: `inputs: {{{name}: {{value: ...}}}}`",
    )
