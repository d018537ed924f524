"""The job of the native runner: lines of words, and one file that holds all inputs.

``native/runner.c`` says what each line means.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from edgedeploy.bench.loop import read_samples
from edgedeploy.bench.runtimes import session_entries

if TYPE_CHECKING:
    import numpy as np

ALIGNMENT_BYTES = 64

# ONNXTensorElementDataType, without those that NumPy has no dtype for.
# Source: onnxruntime_c_api.h; the numbers are those of onnx.TensorProto.DataType.
TYPES: Mapping[str, int] = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
}

_ORDERS = 256
"""Repetitions until their order begins anew."""

_NS = 10**9


class UnfitJobError(ValueError):
    """A job that the native runner cannot do."""


def word(text: str) -> str:
    """Return a text as one word of the job."""
    return quote(text, safe="-_./:") or "%20"


def artifact_lines(artifacts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines that describe artifacts as ``loop.py`` gets them.

    Raises:
        UnfitJobError: One needs another runtime or execution provider.
    """
    for artifact in artifacts:
        options = artifact["options"]
        if artifact["family"] != "ort":
            raise UnfitJobError(f"the native runner has no runtime for {artifact['family']}")
        if options.get("providers", ["CPUExecutionProvider"]) != ["CPUExecutionProvider"]:
            raise UnfitJobError("the native runner has the CPU's execution provider alone")
        optimise = int(options.get("optimise") is not False)
        yield f"artifact {word(artifact['path'])} {artifact['threads']} {optimise}"
        for key, value in sorted(session_entries(dict(artifact), artifact["path"]).items()):
            yield f"config {word(key)} {word(str(value))}"
        for path in artifact["files"] or [artifact["path"]]:
            yield f"file {word(path)}"


def sample_lines(inputs: Mapping[str, Any], tensors: Path, name: str) -> Iterator[str]:
    """Write a job's inputs into one file and yield the lines that describe them.

    Args:
        inputs: As ``loop.py`` gets them, the pack being a folder here.
        tensors: File here for their bytes, little-endian.
        name: The path of that file on the device.

    Raises:
        UnfitJobError: An input is text, or of a type that ONNX Runtime has no tensors of.
    """
    import numpy

    yield f"pack {word(name)}"
    sequence: Any = None
    with open(tensors, "wb") as out:
        for sample, feed in read_samples(numpy, dict(inputs), "/"):
            anew = sample.get("sequence") is None or sample["sequence"] != sequence
            sequence = sample.get("sequence")
            yield f"sample {int(anew)}"
            for key, value in sorted(feed.items()):
                yield _tensor_line(key, value, out.tell())
                content = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
                out.write(content + b"\0" * (-len(content) % ALIGNMENT_BYTES))


def _tensor_line(name: str, value: np.ndarray, offset: int) -> str:
    number = TYPES.get(value.dtype.name)
    if number is None:
        raise UnfitJobError(f"the native runner takes no input of {value.dtype.name} ({name})")
    dims = " ".join(str(size) for size in value.shape)
    return f"tensor {word(name)} {number} {offset} {value.nbytes} {value.ndim} {dims}".rstrip()


def plan_lines(plan: Mapping[str, Any], artifacts: int, seed: int) -> Iterator[str]:
    """Yield the lines that say how long and in which order windows are measured.

    Args:
        plan: As ``loop.py`` gets it.
        artifacts: How many.
        seed: The order is the one that ``loop.py`` takes with this seed.
    """
    times = [plan[name] for name in ("warmup_max_s", "window_s", "min_s", "max_s")]
    warmup, window, least, most = (math.ceil(value * _NS) for value in times)
    yield f"plan {warmup} {window} {least} {plan['min_count']} {plan['min_repetitions']} {most}"
    source = random.Random(seed)
    for _ in range(_ORDERS):
        slots = list(range(artifacts))
        source.shuffle(slots)
        yield "order " + " ".join(str(slot) for slot in slots)


def job_text(lines: Iterable[str], cpus: Sequence[int]) -> bytes:
    """Return a whole job; it ends when the connection does."""
    head = ["edgedeploy-runner 1", "held"]
    if cpus:
        head.append("cpus " + " ".join(str(cpu) for cpu in cpus))
    return ("\n".join([*head, *lines]) + "\n").encode("ascii")
