"""A build document as a real build makes it: three targets with three different ends."""

from __future__ import annotations

import math

import pytest

from edgedeploy.errors import Diagnostic
from edgedeploy.report.document import (
    ArithmeticReport,
    BenchSummary,
    BuildDocument,
    CandidateReport,
    DriftReport,
    EvaluationReport,
    FileReport,
    FloatLayer,
    FloatReport,
    GateReport,
    Interval,
    LatencyComparison,
    LayerReport,
    MetricReport,
    ModelReport,
    ParityReport,
    PlacementReport,
    StageReport,
    StepsReport,
    TargetReport,
)


def metric(value: float, low: float, high: float) -> MetricReport:
    return MetricReport(
        name="cer", value=value, low=low, high=high, n=200, higher_is_better=False, fraction=True
    )


def bench(p50: float, runtime: str, **fields: object) -> BenchSummary:
    """Return a summary whose quantiles follow a long-tailed curve around the median."""
    quantiles = tuple(
        round(p50 * (0.94 + 0.06 * (q / 50) + 0.5 * math.exp((q - 100) / 2.5)), 4)
        for q in range(101)
    )
    known: dict[str, object] = {
        "created": "2026-11-24T10:02:31+00:00",
        "evidence": "host-runtime",
        "mode": "quick",
        "threads": 1,
        "runtime": runtime,
        "cpu": "Example CPU @ 2.20GHz",
        "n": round(10_000 / p50),
        "mean_ms": p50 * 1.02,
        "p50_ms": Interval(value=p50, low=p50 * 0.99, high=p50 * 1.015),
        "p90_ms": Interval(value=p50 * 1.08, low=p50 * 1.06, high=p50 * 1.11),
        "p99_ms": Interval(value=p50 * 1.34, low=p50 * 1.25, high=p50 * 1.5),
        "load_cold_ms": 31.2,
        "load_warm_ms": 8.41,
        "first_inference_ms": p50 * 2.2,
        "peak_bytes": 81_300_000,
        "baseline_bytes": 54_900_000,
        "validity": "valid",
        "quantiles_ms": quantiles,
    }
    return BenchSummary(**{**known, **fields})  # type: ignore[arg-type]


def layers(*times: float) -> tuple[LayerReport, ...]:
    names = ["backbone/conv", "backbone/dwconv", "neck/fc", "head/MatMul", "head/Softmax"]
    ops = ["QLinearConv", "QLinearConv", "QGemm", "MatMul", "Softmax"]
    return tuple(
        LayerReport(name=f"{names[i % 5]}.{i}", op=ops[i % 5], provider="CPUExecutionProvider",
                    mean_ms=time)
        for i, time in enumerate(times)
    )  # fmt: skip


def accepted_target() -> TargetReport:
    return TargetReport(
        target="linux-x86-64/ort",
        verdict="accepted",
        chosen="w8a8",
        candidates=(CandidateReport(name="w8a8", state="chosen", reason="passes all gates"),),
        artifact="4f" * 32,
        files=(FileReport(path="main.ort", size_bytes=3_120_400, sha256="ab" * 32),),
        size_bytes=3_120_400,
        evaluation=EvaluationReport(
            metric=metric(0.0052, 0.003, 0.0083),
            float_value=0.0041,
            delta=Interval(value=0.0011, low=-0.0004, high=0.0026),
            n=200,
            flipped_count=5,
            flipped_ids=("line-017", "line-044", "line-101", "line-150", "line-199"),
            parity=(ParityReport(output="probs", stats={"cosine": 0.9991, "max_abs": 0.083}),),
        ),
        bench=bench(
            3.55,
            "ort 1.32.0",
            comparison=LatencyComparison(
                other="float", ratio=Interval(value=0.521, low=0.507, high=0.534), verdict="faster"
            ),
        ),
        layers=layers(0.91, 0.72, 0.55, 0.41, 0.33, 0.21, 0.12, 0.08, 0.07, 0.05, 0.04, 0.03),
        placement=(
            PlacementReport(provider="CPU", nodes=120, total=120),
            PlacementReport(
                provider="NNAPI", nodes=97, total=120, left=("Softmax: axis is not the last",)
            ),
        ),
        arithmetic=ArithmeticReport(
            layers=53,
            integer_layers=52,
            macs=300_774_272,
            integer_macs=299_494_272,
            conversions=4,
            float_layers=(FloatLayer(name="head/MatMul", op="MatMul", macs=1_280_000),),
        ),
        gates=(
            GateReport(gate="metric", state="passed", limit="+1 pt", value="+0.11 pt",
                       evidence="host-runtime"),
            GateReport(gate="size", state="passed", limit="5 MB", value="3.12 MB"),
            GateReport(gate="not slower than float", state="passed", value="x0.521",
                       evidence="host-runtime"),
        ),
    )  # fmt: skip


def refused_target() -> TargetReport:
    return TargetReport(
        target="intel-cpu/openvino",
        verdict="refused",
        chosen="fp16",
        candidates=(
            CandidateReport(name="w8a8", state="refused", reason="CER +2.3 pt, limit +1 pt"),
            CandidateReport(name="fp16", state="chosen", reason="the best of those tried"),
        ),
        artifact="5e" * 32,
        files=(
            FileReport(path="main.xml", size_bytes=301_222, sha256="cd" * 32),
            FileReport(path="main.bin", size_bytes=5_310_110, sha256="ef" * 32),
        ),
        size_bytes=5_611_332,
        evaluation=EvaluationReport(
            metric=metric(0.0041, 0.002, 0.007),
            float_value=0.0041,
            delta=Interval(value=0.0, low=0.0, high=0.0),
            n=200,
            flipped_count=0,
            parity=(ParityReport(output="probs", stats={"cosine": 0.999999, "max_abs": 1e-5}),),
            drift=(
                DriftReport(
                    output="probs",
                    sequences=4,
                    steps=50,
                    growth=Interval(value=1.1),
                    worst_step=7,
                    worst_rmse=0.01,
                    parts=(
                        StepsReport(first=0, last=24, rmse=0.004, reference_rms=0.7),
                        StepsReport(first=25, last=49, rmse=None, reference_rms=None),
                    ),
                ),
            ),
        ),
        bench=bench(
            6.73,
            "openvino 2026.4.1",
            p99_ms=None,
            n=620,
            validity="unreliable",
            reasons=("other load: other processes used 0.61 CPUs meanwhile",),
            comparison=LatencyComparison(
                other="float",
                ratio=Interval(value=0.988, low=0.954, high=1.03),
                verdict="no difference shown",
            ),
        ),
        layers=layers(2.1, 1.7, 1.1, 0.9, 0.4),
        gates=(
            GateReport(gate="metric", state="passed", limit="+1 pt", value="+0 pt",
                       evidence="host-runtime"),
            GateReport(gate="size", state="refused", limit="5 MB", value="5.61 MB"),
            GateReport(gate="latency p50", state="not judged", limit="8 ms",
                       reason="the measurement is unreliable"),
        ),
    )  # fmt: skip


def failed_target() -> TargetReport:
    return TargetReport(
        target="rpi5/ort",
        verdict="failed",
        candidates=(CandidateReport(name="w8a8", state="failed", reason="E301 a node is refused"),),
        diagnostics=(
            Diagnostic(
                code="E301",
                message="Resize with cubic mode has no int8 kernel <script>alert(1)</script>",
                subject="neck/Resize_3",
                hint="Name the node in `keep_float`.",
            ),
        ),
    )


@pytest.fixture
def document() -> BuildDocument:
    reference = FloatReport(
        metric=metric(0.0041, 0.002, 0.007), size_bytes=10_857_958, bench=bench(6.81, "ort 1.32.0")
    )
    targets = (accepted_target(), refused_target(), failed_target())
    model = ModelReport(
        name="main",
        source_sha256="12" * 32,
        signature={
            "inputs": [{"name": "x", "dtype": "float32", "dims": ["batch", 3, 48, "width"]}],
            "outputs": [{"name": "probs", "dtype": "float32", "dims": ["batch", None, 6625]}],
        },
        float=reference,
        targets=targets,
    )
    return BuildDocument(
        profile="quickstart",
        created="2026-11-24T10:03:05+00:00",
        version="0.1.0",
        tools={"onnx": "1.23.2", "onnxruntime": "1.32.0", "openvino": "2026.4.1"},
        host={
            "cpu": "Example CPU @ 2.20GHz",
            "cores": 2,
            "memory_bytes": 25_288_744_960,
            "system": "Debian GNU/Linux 12 (bookworm)",
            "virtual": "KVM",
        },
        models=(model,),
        stages=(
            StageReport(id="main/normal", kind="normalise", state="hit", why="same inputs"),
            StageReport(id="main/calibrate", kind="calibrate", state="ran",
                        why="the calibration data changed", seconds=2.31),
            StageReport(id="main/rpi5/ort", kind="compile", state="failed", why="never built",
                        seconds=0.4),
        ),
    )  # fmt: skip
