"""Whole local measurements: records, samples, comparison and typed failures."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy.bench.job import BenchArtifact, BenchInputs, BenchJob, BenchPlan, GeneratedTensor
from edgedeploy.bench.measure import measure, signal_name
from edgedeploy.bench.record import read_samples, write_samples
from edgedeploy.bench.statistics import percentile
from edgedeploy.errors import BuildError, ToolError
from edgedeploy.errors.codes import bench as codes

PLAN = BenchPlan(warmup_max_s=0.2, window_s=0.005, min_s=0.1, min_count=700, max_s=30, layer_runs=3)
INPUTS = BenchInputs(generated=(GeneratedTensor(name="x", dtype="float32", shape=(4, 16)),))


def job_of(model: Path, **fields: Any) -> BenchJob:
    artifact = BenchArtifact(id="main", family="ort", path=model, target="linux-x86-64/ort")
    return BenchJob(**{"artifacts": (artifact,), "inputs": INPUTS, "plan": PLAN, **fields})


def test_records_hold_what_schema_1_says(tiny_model: Path, tmp_path: Path) -> None:
    slow = {"optimise": False}
    artifacts = (
        BenchArtifact(id="float", family="ort", path=tiny_model, target="t/ort"),
        BenchArtifact(id="int8", family="ort", path=tiny_model, digest="ab" * 32, options=slow),
    )
    seen: list[str] = []
    job = job_of(tiny_model, artifacts=artifacts, baseline="float", noise_floor=True)
    records = measure(job, tmp_path, on_progress=lambda event: seen.append(event["event"]))
    assert set(seen) == {"phase", "warm", "progress"}
    assert [item["artifact"] for item in records] == ["float", "ab" * 32]
    assert "comparison" not in records[0]
    record = records[1]
    assert record == json.loads(json.dumps(record))
    assert sorted(record) == [
        "artifact", "comparison", "conditions", "created", "device", "device_ms", "energy",
        "environment", "evidence",
        "first_inference_ms", "kind", "latency", "layers", "load_ms", "memory",
        "placement", "schema", "target", "validity",
    ]  # fmt: skip
    assert (record["schema"], record["kind"], record["evidence"]) == (1, "bench", "host-runtime")
    assert record["comparison"]["with"] == "float"
    ratio = record["comparison"]["ratio"]
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
    assert record["comparison"]["noise_floor_ratio"] > 0
    latency = record["latency"]
    windows = read_samples(tmp_path / latency["samples_file"])
    samples = np.array([item for window in windows for item in window], dtype=np.float64)
    for name, quantile in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)):
        found = percentile(samples, quantile)  # None on a machine that was too restless
        assert latency[name] == (found and found.scaled(1e-6).to_json())
    assert sum(map(len, windows)) == latency["n"] >= 700
    mean_ms = sum(map(sum, windows)) / latency["n"] / 1e6
    assert latency["mean_ms"] == pytest.approx(mean_ms)
    assert len(record["environment"]["windows"]) == len(windows)
    assert record["conditions"]["together_with"] == ["float"]
    assert str(tmp_path) not in json.dumps(records)
    # Two samples files and nothing else is left behind.
    assert {path.name for path in tmp_path.iterdir()} == {
        item["latency"]["samples_file"] for item in records
    }


def test_samples_of_the_same_run_are_the_same_bytes(tmp_path: Path) -> None:
    name = write_samples([[1, 2], [3]], tmp_path)
    first = (tmp_path / name).read_bytes()
    assert write_samples([[1, 2], [3]], tmp_path) == name
    assert (tmp_path / name).read_bytes() == first
    assert read_samples(tmp_path / name) == [[1, 2], [3]]


def fake_python(folder: Path, script: str) -> str:
    """Return an interpreter that runs a shell script instead."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def refused(job: BenchJob, folder: Path, **fields: Any) -> str:
    """Return the code of the error that a measurement ends with."""
    with pytest.raises((BuildError, ToolError)) as caught:
        measure(job, folder, **fields)
    diagnostic = caught.value.diagnostics[0]
    assert diagnostic.hint and diagnostic.code in codes.CODES
    return f"{diagnostic.code} {diagnostic.message}"


def test_a_crash_names_the_signal(tiny_model: Path, tmp_path: Path) -> None:
    python = fake_python(tmp_path, "echo 'Illegal instruction' >&2; kill -ILL $$")
    said = refused(job_of(tiny_model), tmp_path, python=python)
    assert said.startswith("E350") and "SIGILL" in said and "Illegal instruction" in said


def test_a_real_crash_in_a_loading_process_names_the_signal(
    tiny_model: Path, tmp_path: Path
) -> None:
    """A shared library that the runtime loads may abort in the process that loads the artifact."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    command = f'export PYTHONPATH={site}; exec {sys.executable} "$@"'
    said = refused(job_of(tiny_model), tmp_path, python=fake_python(tmp_path, command))
    assert said.startswith("E350") and "SIGSEGV" in said


def test_a_refused_model_tells_the_runtimes_reason(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    said = refused(job_of(broken), tmp_path)
    assert said.startswith("E351") and "broken.onnx" in said


def test_inputs_that_do_not_fit_are_told(tiny_model: Path, tmp_path: Path) -> None:
    said = refused(job_of(tiny_model, inputs=BenchInputs()), tmp_path)
    assert said.startswith("E351") and "'x'" in said


def test_a_hang_ends_at_the_deadline_with_its_children(tiny_model: Path, tmp_path: Path) -> None:
    python = fake_python(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait")
    said = refused(job_of(tiny_model), tmp_path, python=python, deadline_s=1)
    assert said.startswith("E352")
    state = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_an_end_without_a_result(tiny_model: Path, tmp_path: Path) -> None:
    said = refused(job_of(tiny_model), tmp_path, python=fake_python(tmp_path, "exit 0"))
    assert said.startswith("E353")


def test_a_missing_interpreter(tiny_model: Path, tmp_path: Path) -> None:
    assert refused(job_of(tiny_model), tmp_path, python="/no/python").startswith("E355")


def test_the_environment_is_scrubbed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    refused(job_of(tiny_model), tmp_path, python=fake_python(tmp_path, f"env > {tmp_path}/env"))
    names = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert "SECRET_TOKEN" not in names
    assert names["ORT_DISABLE_TELEMETRY"] == "1" and names["OMP_NUM_THREADS"] == "1"
    assert names["HOME"].startswith(str(tmp_path))


def test_a_throttled_board_makes_the_whole_record_unreliable(
    tiny_model: Path, tmp_path: Path, machine: Any
) -> None:
    machine.write("sys/class/thermal/cooling_device1/cur_state", 3)
    work = tmp_path / "work"
    work.mkdir()
    (record,) = measure(job_of(tiny_model, sysfs=machine.sysfs, procfs=machine.procfs), work)
    assert record["validity"]["verdict"] == "unreliable"
    assert "throttled: cooling device cpufreq-cpu0 was at state 3" in record["validity"]["reasons"]
    assert record["environment"]["memory_method"] == "ru_maxrss"  # the fake tree resets nothing


@pytest.mark.parametrize(
    ("number", "text"),
    [(9, "SIGKILL (killed, perhaps out of memory)"), (15, "SIGTERM"), (99, "signal 99")],
)
def test_signal_name(number: int, text: str) -> None:
    assert signal_name(number) == text
