"""Bench records in short, as they stand in the build document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedeploy.bench.record import read_samples
from edgedeploy.report.document import (
    BenchSummary,
    Interval,
    LatencyComparison,
    LayerReport,
    PlannedOperation,
    UnitsReport,
)

_NS_PER_MS = 1e6


def bench_summary(record: Mapping[str, Any], folder: Path) -> BenchSummary:
    """Return a bench record (schema 1) in short.

    Args:
        record: From :func:`edgedeploy.bench.measure.measure`.
        folder: Where the record's samples file lies.
    """
    latency, conditions = record["latency"], record["conditions"]
    samples = sorted(
        sample for window in read_samples(folder / latency["samples_file"]) for sample in window
    )
    comparison = record.get("comparison")
    return BenchSummary(
        created=record["created"],
        evidence=record["evidence"],
        mode=conditions["mode"],
        threads=conditions["threads"],
        runtime=f"{conditions['family']} {conditions['runtime_version']}",
        cpu=record["device"].get("cpu"),
        n=latency["n"],
        mean_ms=latency["mean_ms"],
        p50_ms=_interval(latency["p50_ms"]),
        p90_ms=_interval(latency["p90_ms"]),
        p99_ms=_interval(latency["p99_ms"]),
        load_cold_ms=record["load_ms"]["cold"],
        load_warm_ms=record["load_ms"]["warm"],
        first_inference_ms=record["first_inference_ms"],
        peak_bytes=record["memory"]["peak_bytes"],
        baseline_bytes=record["memory"]["baseline_bytes"],
        device_bytes=record["memory"].get("device_bytes"),
        **(record.get("device_ms") or {}),
        validity=record["validity"]["verdict"],
        reasons=tuple(record["validity"]["reasons"]),
        comparison=None
        if comparison is None
        else LatencyComparison(
            other=comparison["with"],
            ratio=_interval(comparison["ratio"]),
            verdict=comparison["verdict"],
        ),
        quantiles_ms=tuple(
            samples[round(percent * (len(samples) - 1) / 100)] / _NS_PER_MS
            for percent in range(101)
        ),
        device=record["device"].get("name"),
        emulated=record["device"].get("emulated", ""),
        imported=record.get("imported", False),
        energy_j=_interval(record["energy"]["per_inference_j"]),
        energy=_energy(record["energy"]),
        state=conditions.get("inputs", {}).get("state"),
    )


def _energy(energy: Mapping[str, Any]) -> str:
    """Return where a figure of energy comes from, or why there is none."""
    if energy["per_inference_j"] is None:
        return str(energy["why_not"] or "too few windows in which power was read")
    idle = "" if energy["idle_w"] is None else f"; idle {energy['idle_w']:.3g} W"
    rails = ", ".join(energy["rails"])
    return f"{energy['source']} ({rails}): {energy['scope']}; {energy['method']}{idle}"


def layer_reports(record: Mapping[str, Any]) -> tuple[LayerReport, ...]:
    """Return the per-layer times of a bench record."""
    return tuple(LayerReport(**layer) for layer in record["layers"])


def unit_report(told: Mapping[str, Any] | None) -> UnitsReport | None:
    """Return on which units a device runs an artifact, as its bench record says."""
    if told is None:
        return None
    operations = tuple(
        PlannedOperation(**{**item, "supported": tuple(item["supported"])})
        for item in told["operations"]
    )
    return UnitsReport(**{**told, "operations": operations})


def _interval(data: Mapping[str, float] | None) -> Interval | None:
    return None if data is None else Interval(**data)
