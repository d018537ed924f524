"""The dated record of one measurement, schema 1, and its raw samples in a file beside it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.bench import compare
from edgedeploy.bench.job import BenchArtifact, BenchJob
from edgedeploy.bench.statistics import Estimate, percentile, ratio_of_blocks
from edgedeploy.bench.validity import judge

RECORD_SCHEMA = 1
_NS_PER_MS = 1e6


def build_record(
    job: BenchJob, artifact: BenchArtifact, result: Mapping[str, Any], created: str, folder: Path
) -> dict[str, Any]:
    """Return the record of one artifact and write its raw samples into ``folder``.

    Args:
        job: What was asked for.
        artifact: One artifact of the job.
        result: What ``loop.py`` printed.
        created: ISO 8601 time in UTC.
        folder: Where the samples file goes; the record names it relative to this folder.

    Returns:
        JSON data. ``first_inference_ms`` is that of the cold process when there was one, else of
        the warm one; ``load_ms.cold`` is None when the page cache could not be emptied
        (``environment.why_not_cold`` says why). Loading, the first inference and memory are None
        where what measures does not tell them. ``placement`` is None where the runtime does not
        tell on which units it runs what; ``layers`` is empty where it tells no times.
    """
    windows = [item for item in result["windows"] if item["artifact"] == artifact.id]
    about = next(item for item in result["artifacts"] if item["id"] == artifact.id)
    cold, warm = about["cold"], about["warm"]
    record = {
        "schema": RECORD_SCHEMA,
        "kind": "bench",
        "created": created,
        "artifact": artifact.digest or artifact.id,
        "target": artifact.target,
        "device": dict(job.device),
        "conditions": _conditions(job, artifact, result, warm["version"]),
        "evidence": "simulated" if warm.get("simulated") else job.evidence,
        "load_ms": {
            "cold": _in_ms(cold["load_ns"]) if cold["cold"] else None,
            "warm": _in_ms(warm["load_ns"]),
        },
        "first_inference_ms": _in_ms((cold if cold["cold"] else warm)["first_inference_ns"]),
        "latency": _latency(job, artifact, windows, folder),
        "memory": {
            "peak_bytes": warm["peak_bytes"],
            "baseline_bytes": warm["baseline_bytes"],
            "device_bytes": warm.get("device_bytes"),
        },
        "device_ms": about.get("device_ms"),
        "energy": _energy(result["power"], windows),
        "layers": about["layers"],
        "placement": _placement(about),
        "environment": _environment(result, windows, about),
        "validity": judge(result, artifact.id, job.effective_plan, artifact.threads).to_json(),
    }
    comparison = _comparison(job, artifact, result["windows"])
    return {**record, "comparison": comparison} if comparison else record


def _placement(about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return on which units the operations run, where the runtime tells it.

    ``first_load_ms`` is the first load after the compilation: the system fits the model to its
    units then, and keeps what it made.
    """
    told = about.get("placement")
    return told and {**told, "first_load_ms": _in_ms(about["cold"]["load_ns"])}


def _in_ms(ns: int | None) -> float | None:
    return None if ns is None else ns / _NS_PER_MS


def _conditions(
    job: BenchJob, artifact: BenchArtifact, result: Mapping[str, Any], version: str
) -> dict[str, Any]:
    return {
        "mode": job.mode,
        "threads": artifact.threads,
        "cpus": list(job.cpus),
        "family": artifact.family,
        "runtime_version": version,
        "options": dict(artifact.options),
        "inputs": job.inputs.conditions(carried=bool(result.get("carried"))),
        "seed": job.seed,
        "plan": job.effective_plan.to_json(),
        "clock": result["clock"],
        "python": result["python"],
        "together_with": [item.id for item in job.artifacts if item.id != artifact.id],
    }


def _latency(
    job: BenchJob, artifact: BenchArtifact, windows: Sequence[Mapping[str, Any]], folder: Path
) -> dict[str, Any]:
    import numpy as np

    blocks = [np.asarray(window["samples_ns"], dtype=np.float64) for window in windows]
    samples = np.concatenate(blocks)
    name = write_samples([window["samples_ns"] for window in windows], folder)
    return {
        "n": len(samples),
        "mean_ms": float(samples.mean()) / _NS_PER_MS,
        "p50_ms": _ms(percentile(samples, 0.50)),
        "p90_ms": _ms(percentile(samples, 0.90)),
        "p99_ms": _ms(percentile(samples, 0.99)),
        "samples_file": name,
    }


def _energy(power: Mapping[str, Any], windows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the energy of one inference in J, all of it and above that of the idle machine.

    Each repetition is one value, what the source told over its windows divided by its inferences;
    the figure is their median, its interval by order statistics as that of a ratio.
    """
    spent: dict[int, list[tuple[float, float, int]]] = {}
    for window in windows:
        if window["energy_j"] is not None:
            idle_j = (power["idle_w"] or 0.0) * (window["end_ns"] - window["begin_ns"]) / 1e9
            part = (window["energy_j"], idle_j, len(window["samples_ns"]))
            spent.setdefault(window["repetition"], []).append(part)
    whole, above = [], []
    for parts in spent.values():
        joules, idle, count = (sum(column) for column in zip(*parts, strict=True))
        whole.append(joules / count)
        above.append((joules - idle) / count)
    known_idle = power["idle_w"] is not None
    return {
        **power,
        "per_inference_j": _over_repetitions(whole),
        "above_idle_j": _over_repetitions(above) if known_idle else None,
        "repetitions": len(spent),
    }


def _over_repetitions(values: Sequence[float]) -> dict[str, float] | None:
    found = ratio_of_blocks(values, [1.0] * len(values))
    return None if found is None else found.to_json()


def _ms(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate.scaled(1 / _NS_PER_MS).to_json()


def write_samples(windows: Sequence[Sequence[int]], folder: Path) -> str:
    """Write the raw durations (ns, one list per window) and return the file's name.

    The name is the digest of the content, so that records never overwrite each other's samples.
    """
    text = json.dumps({"unit": "ns", "windows": [list(window) for window in windows]})
    name = f"samples-{hashlib.sha256(text.encode()).hexdigest()}.json.gz"
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(text.encode())
    (folder / name).write_bytes(packed.getvalue())
    return name


def read_samples(path: Path) -> list[list[int]]:
    """Return the raw durations (ns, one list per window) that :func:`write_samples` wrote."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        windows: list[list[int]] = json.load(file)["windows"]
    return windows


def _environment(
    result: Mapping[str, Any], windows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        **result["environment"],
        "before": result["before"],
        "windows": [window["environment"] for window in windows],
        "warmup": about["warmup"],
        "ended": result["ended"],
        "why_not_cold": about["cold"]["why_not_cold"],
        "memory_method": about["warm"]["memory_method"],
    }


def _comparison(
    job: BenchJob, artifact: BenchArtifact, windows: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    if job.baseline is None or artifact.id == job.baseline:
        return None
    ratio = compare.block_ratio(windows, artifact.id, job.baseline)
    found: dict[str, Any] = {"with": job.baseline, "ratio": None, "verdict": "no difference shown"}
    floor = 0.0
    if job.noise_floor:
        same = compare.block_ratio(windows, job.baseline_again, job.baseline)
        floor = compare.noise_floor_ratio(same) if same else 0.0
        found["noise_floor_ratio"] = floor
    if ratio is not None:
        found["ratio"] = ratio.to_json()
        found["verdict"] = compare.verdict(ratio, floor)
    return found
