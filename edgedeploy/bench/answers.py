"""Tensor packs to a device, without anything but tensors, and what it answered, checked."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedeploy.bench.checking import parsed, unpacked, whole
from edgedeploy.bench.job import OutputsJob

if TYPE_CHECKING:
    import numpy as np

_DTYPES = frozenset(
    {
        *("float16", "float32", "float64", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }
)
_INDEX_BYTES = 256 << 20
_AXES = 32


def write_subset(pack: Path, samples: int | None, folder: Path) -> int:
    """Write the first samples of a pack for a device, compressed; return how many there are.

    Names, truth and geometry stay here: a device that computes does not need them.

    Args:
        pack: Folder of the pack.
        samples: How many; None takes all.
        folder: Existing folder for ``index.json`` and ``tensors.bin.gz``.
    """
    from edgedeploy.data.pack import INDEX_NAME, TENSORS_NAME

    entries = json.loads((pack / INDEX_NAME).read_text(encoding="utf-8"))["samples"]
    entries = entries[: samples or len(entries)]
    sequences: dict[str, int] = {}
    kept: list[dict[str, Any]] = []
    end = 0
    for entry in entries:
        found = {"tensors": entry["tensors"]}
        if entry.get("sequence") is not None:
            found["sequence"] = sequences.setdefault(entry["sequence"], len(sequences))
        kept.append(found)
        for tensor in entry["tensors"].values():
            end = max(end, tensor.get("offset", 0) + tensor.get("nbytes", 0))
    text = json.dumps({"pack": 1, "samples": kept})
    (folder / INDEX_NAME).write_text(text, encoding="utf-8")
    goal = folder / f"{TENSORS_NAME}.gz"
    with open(pack / TENSORS_NAME, "rb") as source, gzip.open(goal, "wb", compresslevel=1) as out:
        while end > 0 and (data := source.read(min(end, 1 << 20))):
            out.write(data)
            end -= len(data)
    return len(kept)


def write_answers(index: bytes, tensors: Path, job: OutputsJob, count: int, goal: Path) -> None:
    """Write what a device answered as a pack, each sample under its own name again.

    Args:
        index: The device's ``outputs.json.gz``.
        tensors: Its ``outputs.bin.gz``.
        job: What it was asked.
        count: How many samples it was given.
        goal: Existing empty folder for the pack.

    Raises:
        ValueError: It is not what was asked for, or contradicts itself.
    """
    from edgedeploy.data.pack import PackReader, PackWriter

    data = parsed(unpacked(index, _INDEX_BYTES))
    entries = data.get("samples") if isinstance(data, dict) else None
    if not isinstance(entries, list) or len(entries) != count:
        raise ValueError(f"there are not {count} answers")
    samples, left = PackReader(job.pack), job.limit_bytes
    try:
        with gzip.open(tensors, "rb") as stream, PackWriter(goal) as writer:
            offset = 0
            for position, entry in enumerate(entries):
                place = f"answer {position}"
                given = entry.get("tensors") if isinstance(entry, dict) else None
                if not isinstance(given, dict) or not given.keys() <= set(job.outputs):
                    raise ValueError(f"{place} holds other tensors than were asked for")
                found = {}
                for name, about in sorted(given.items()):
                    found[name] = _tensor(about, f"{place}, output {name!r}", stream, offset, left)
                    read = about.get("nbytes", 0)
                    offset, left = offset + read, left - read
                sample = samples[position]
                writer.add(sample.id, found, sequence=sample.sequence)
    except (OSError, EOFError) as error:
        raise ValueError(f"its tensors cannot be read: {error}") from error


def _tensor(about: Any, place: str, stream: gzip.GzipFile, offset: int, left: int) -> np.ndarray:
    """Return one tensor, read from the stream that stands at ``offset``."""
    import numpy as np

    if not isinstance(about, dict):
        raise ValueError(f"{place} is no tensor")
    shape = _shape(about.get("shape"), place)
    if about.get("dtype") == "string":
        values = about.get("values")
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise ValueError(f"{place} holds no texts")
        if len(values) != math.prod(shape):
            raise ValueError(f"{place} holds {len(values)} texts for the shape {list(shape)}")
        return np.array(values, dtype=object).reshape(shape)
    if about.get("dtype") not in _DTYPES:
        raise ValueError(f"{place} has a dtype that no output has")
    dtype = np.dtype(about["dtype"]).newbyteorder("<")
    nbytes = whole(about.get("nbytes"), place, 0, left)
    if about.get("offset") != offset or nbytes != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{place} has another size than its shape")
    raw = stream.read(nbytes)
    if len(raw) != nbytes:
        raise ValueError(f"{place} is cut off")
    return np.frombuffer(raw, dtype).reshape(shape)


def _shape(value: Any, place: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _AXES:
        raise ValueError(f"{place} has no shape")
    return tuple(whole(size, place, 0, 2**31) for size in value)
