"""Bench records in short."""

from __future__ import annotations

from pathlib import Path

from edgedeploy.bench.record import write_samples
from edgedeploy.report.document import Interval
from edgedeploy.report.summary import bench_summary, layer_reports


def test_a_record_in_short(tmp_path: Path) -> None:
    name = write_samples([list(range(1_000_000, 51_000_000, 1_000_000)),
                          list(range(51_000_000, 102_000_000, 1_000_000))], tmp_path)  # fmt: skip
    interval = {"value": 51.0, "low": 50.0, "high": 52.0}
    layer = {"name": "mm", "op": "MatMul", "provider": "CPU", "mean_ms": 0.5}
    record = {
        "schema": 1,
        "kind": "bench",
        "created": "2026-11-24T10:00:00+00:00",
        "artifact": "ab" * 32,
        "target": "linux-x86-64/ort",
        "device": {"cpu": "Example", "name": "robot", "emulated": "qemu-aarch64"},
        "conditions": {"mode": "full", "threads": 2, "family": "ort", "runtime_version": "1.32.0"},
        "evidence": "host-runtime",
        "load_ms": {"cold": None, "warm": 2.0},
        "first_inference_ms": 3.0,
        "latency": {"n": 101, "mean_ms": 51.0, "p50_ms": interval, "p90_ms": interval,
                    "p99_ms": None, "samples_file": name},
        "memory": {"peak_bytes": 9, "baseline_bytes": 4},
        "energy": {"per_inference_j": interval, "idle_w": 2.0, "source": "hwmon", "scope": "rails",
                   "rails": ["VDD_IN"], "method": "sampled", "why_not": None},
        "layers": [layer],
        "environment": {},
        "validity": {"verdict": "unreliable", "reasons": ["too short: x"]},
        "comparison": {"with": "float", "ratio": interval, "verdict": "slower",
                       "noise_floor_ratio": 0.01},
    }  # fmt: skip
    found = bench_summary(record, tmp_path)
    assert found.quantiles_ms == tuple(float(ms) for ms in range(1, 102))
    assert found.p50_ms == Interval(value=51, low=50, high=52) and found.p99_ms is None
    assert (found.mode, found.threads, found.runtime) == ("full", 2, "ort 1.32.0")
    assert found.comparison is not None and found.comparison.verdict == "slower"
    assert (found.validity, found.reasons) == ("unreliable", ("too short: x",))
    assert (found.device, found.emulated) == ("robot", "qemu-aarch64")
    assert found.energy_j == Interval(value=51, low=50, high=52)
    assert found.energy == "hwmon (VDD_IN): rails; sampled; idle 2 W"
    assert layer_reports(record)[0].op == "MatMul"
    assert found.state is None  # a record of before it was said
    record["conditions"]["inputs"] = {"state": "zero"}
    assert bench_summary(record, tmp_path).state == "zero"
