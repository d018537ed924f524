"""Reading what the native runner says: strictly, because it comes from a device."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from edgedeploy.bench.evidence import Evidence
from edgedeploy.bench.native_job import TYPES
from edgedeploy.remote import printable

_LINE_BYTES = 64 << 20  # a window of a second holds a duration per inference
_FAILURE_BYTES = 32 << 10  # the runner's texts have 4 KiB, at most three times that when encoded
_NAMES = {number: name for name, number in TYPES.items()}
_RANK = 32


class Words:
    """The lines of a result, split into words.

    Args:
        path: The result.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[list[str]]:
        ended = False
        with open(self._path, "rb") as file:
            while line := file.readline(_LINE_BYTES):
                if ended or not line.endswith(b"\n"):
                    raise ValueError("a line is too long, cut off, or after the end")
                words = line[:-1].decode("ascii").split(" ")
                ended = words == ["end"]
                if not ended:
                    yield words
        if not ended:
            raise ValueError("it is cut off")


def failure_of(path: Path) -> str | None:
    """Return what the runner says that failed, None when its last line says no such thing."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _FAILURE_BYTES))
        last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    words = last.decode("ascii", "replace").split(" ")
    return text(words[2]) if words[0] == "failed" and len(words) == 3 else None


def text(word: str) -> str:
    """Return a word of the runner as text that may be shown."""
    return printable(unquote_to_bytes(word))


def number(word: str) -> int:
    """Return a word that is a whole number of at most 19 digits.

    Raises:
        ValueError: It is none.
    """
    if not word.isdecimal() or len(word) > 19:
        raise ValueError(f"{word[:40]!r} is no number")
    return int(word)


def loading(path: Path) -> dict[str, Any]:
    """Return what ``load`` found, as ``loop.py``'s load phase does.

    Raises:
        ValueError: It is not that.
    """
    found = {words[0]: words[1:] for words in Words(path)}
    load, first, cold, baseline, peak, method, why = _of(found, "loaded", 7)
    return {
        "load_ns": number(load),
        "first_inference_ns": number(first),
        "cold": cold == "1",
        "why_not_cold": None if why == "-" else text(why),
        "baseline_bytes": number(baseline),
        "peak_bytes": number(peak),
        "memory_method": text(method),
        "version": text(_of(found, "version", 1)[0]),
    }


def profile_of(path: Path) -> str:
    """Return the path on the device of the profile that ``layers`` wrote.

    Raises:
        ValueError: It names none.
    """
    found = {words[0]: words[1:] for words in Words(path)}
    return text(_of(found, "profile", 1)[0])


def _of(found: Mapping[str, list[str]], key: str, count: int) -> list[str]:
    if len(found.get(key, ())) != count:
        raise ValueError(f"`{key}` is missing or malformed")
    return found[key]


def measurement(path: Path, ids: Sequence[str], evidence: Evidence) -> dict[str, Any]:
    """Return the windows, their evidence and the warm-up, as ``loop.py`` gives them.

    Args:
        path: The result of ``windows``.
        ids: Of the artifacts, in the job's order.
        evidence: What the runner was told to read.

    Raises:
        ValueError: It is not that.
    """
    warm: dict[int, dict[str, Any]] = {}
    windows: list[dict[str, Any]] = []
    readings: list[tuple[int, int, dict[int, str]]] = []
    host: list[int] = []
    ended, carried = "", False
    for key, *words in Words(path):
        if key == "read" and readings and len(words) == 2:
            readings[-1][2][number(words[0])] = text(words[1])
        elif key == "at" and len(words) == 2:
            readings.append((number(words[0]), number(words[1]), {}))
        elif key == "window" and len(words) > 4:
            slot, repetition, begin, end = (number(word) for word in words[:4])
            windows.append(
                {
                    "artifact": ids[slot] if slot < len(ids) else None,
                    "repetition": repetition,
                    "begin_ns": begin,
                    "end_ns": end,
                    "energy_j": None,
                    "samples_ns": [number(word) for word in words[4:]],
                }
            )
        elif key == "warm" and len(words) > 3:
            medians = [number(word) for word in words[3:]]
            about = {"stable": words[1] == "1", "elapsed_ns": number(words[2])}
            warm[number(words[0])] = {**about, "medians_ns": medians}
        elif key == "host" and len(words) >= 2:
            host = [number(word) for word in words]
        elif key == "ended" and len(words) == 1:
            ended = words[0]
        elif key == "carried" and not words:
            carried = True
        elif key != "version":
            raise ValueError(f"a line `{key[:40]}`")
    if not host or len(readings) != len(windows) + 1 or set(warm) != set(range(len(ids))):
        raise ValueError("lines are missing")
    before, *after = (evidence.sample(*reading) for reading in readings)
    return {
        "windows": [
            {**window, "environment": found} for window, found in zip(windows, after, strict=True)
        ],
        "before": before,
        "ended": ended,
        "carried": carried,
        "warmup": [warm[slot] for slot in range(len(ids))],
        "environment": {
            **evidence.facts,
            "cpus": host[0],
            "ticks_hz": host[1],
            "affinity": host[2:] or None,
        },
    }


def outputs(
    path: Path, wanted: Sequence[str], limit_bytes: int, tensors: Path, index: Path
) -> list[int]:
    """Write what ``outputs`` found in the form of ``loop.py``; return the times in ns.

    Args:
        path: The runner's result.
        wanted: Names of the outputs that are kept.
        limit_bytes: The most that they may be together.
        tensors: For the tensors, gzipped.
        index: For what they are, gzipped JSON.

    Raises:
        ValueError: It is not that.
    """
    times: list[int] = []
    samples: list[dict[str, Any]] = []
    offset = 0
    with open(path, "rb") as file, gzip.open(tensors, "wb", compresslevel=1) as out:
        content: dict[str, tuple[dict[str, Any], bytes]] = {}
        while (line := file.readline(_LINE_BYTES)) != b"end\n":
            key, *words = line[:-1].decode("ascii").split(" ")
            if key == "ran" and len(words) == 2:
                offset = _flush(samples, content, offset, out)
                times.append(number(words[1]))
                content = {}
            elif key == "output" and len(words) >= 5:
                about, data = _output(words, file, limit_bytes - offset)
                name = text(words[1])
                if name in wanted:
                    content[name] = (about, data)
            elif key != "version":
                raise ValueError("it is cut off" if not line else f"a line `{key[:40]}`")
        _flush(samples, content, offset, out)
    with gzip.open(index, "wb") as out:
        out.write(json.dumps({"pack": 1, "samples": samples}).encode())
    return times


def _output(words: Sequence[str], file: IO[bytes], left: int) -> tuple[dict[str, Any], bytes]:
    """Return one tensor: what it is, and its bytes that follow its line."""
    dtype = _NAMES.get(number(words[2]))
    size, rank = number(words[3]), number(words[4])
    shape = [number(word) for word in words[5:]]
    if dtype is None or rank != len(shape) or rank > _RANK or size > left:
        raise ValueError("an output has no type, no shape, or is too large")
    data = file.read(size)
    if len(data) != size or file.read(1) != b"\n":
        raise ValueError("an output is cut off")
    return {"dtype": dtype, "shape": shape, "nbytes": size}, data


def _flush(
    samples: list[dict[str, Any]],
    content: Mapping[str, tuple[dict[str, Any], bytes]],
    offset: int,
    out: gzip.GzipFile,
) -> int:
    """Write the outputs of one sample, sorted by name; return where the next begin."""
    entries = {}
    for name, (about, data) in sorted(content.items()):
        out.write(data)
        entries[name] = {**about, "offset": offset}
        offset += len(data)
    if content:
        samples.append({"tensors": entries})
    return offset
