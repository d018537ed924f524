"""Models whose weights lie beside them: memory does not follow their size, and formats end."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from running import ROOT, edgedeploy, targets_of

from edgedeploy import backends
from edgedeploy.api import BuildOptions, Request, build
from edgedeploy.events import EventLog, StageFinished

BENCHMARK = ROOT / "benchmarks" / "large.py"
# Beyond model.files.INLINE_BYTES: the weights go to a data file in every stage.
WIDTH, LAYERS = 1536, 18
MODEL_MIB = LAYERS * 4 * WIDTH * WIDTH / 2**20


def benchmark() -> ModuleType:
    """The benchmark as a module: it writes the model and does the steps."""
    spec = importlib.util.spec_from_file_location("large", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_no_streaming_step_holds_the_model(tmp_path: Path) -> None:
    """Each step, with all its libraries, stays below the size of the model that it works on."""
    folder = tmp_path / "work"
    assert benchmark().make(folder, MODEL_MIB / 1024, WIDTH) == LAYERS
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    for step in ("normal", "w8", "w4", "parity-w8", "parity-w4"):
        command = [sys.executable, BENCHMARK, "--work", step, folder]
        done = subprocess.run(command, check=True, capture_output=True, env=environment)
        cost = json.loads(done.stdout)
        assert cost["peak_mib"] < MODEL_MIB, step
        if step.startswith("parity"):
            rows = cost["rows"]
            assert len(rows) == LAYERS
            # A step of 1/127 or 1/7 of the greatest of some thousand or of 32 normal numbers.
            least, most = (36, 44) if step == "parity-w8" else (17, 23)
            assert all(least < row["sqnr_db"] < most for row in rows)
    assert (folder / "normal" / "model.onnx.data").stat().st_size >= MODEL_MIB * 2**20
    assert (folder / "w8" / "model.onnx").stat().st_size < 0.26 * MODEL_MIB * 2**20
    assert (folder / "w4" / "model.onnx").stat().st_size < 0.16 * MODEL_MIB * 2**20


@pytest.mark.slow
def test_a_model_with_external_data_is_built_with_four_bits(tmp_path: Path, store: Path) -> None:
    benchmark().make(tmp_path / "work", 4 * 4 * 3072 * 3072 / 2**30, 3072)
    (tmp_path / "profile.yaml").write_text(
        "edgedeploy: 1\nname: large\nmodel: {source: work/source/model.onnx, dims: {n: 4}}\n"
        "quantize: w4\nbench: off\ntargets: [linux-x86-64/ort, intel-cpu/openvino]\n"
    )
    run = edgedeploy("build", tmp_path / "profile.yaml", "-o", tmp_path / "build", "--store", store)
    assert run.code == 0, run.err
    for said in targets_of(tmp_path / "build/large").values():
        assert said["chosen"] == "w4"
        assert said["size_bytes"] < 0.16 * 4 * 4 * 3072 * 3072


@pytest.mark.slow
def test_a_format_that_ends_is_known_before_anything_runs_in_vain(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limit set to what eight bits need: float and fp16 are refused, w8 is built."""
    benchmark().make(tmp_path / "work", 2 * 4 * 256 * 256 / 2**30, 256)
    (tmp_path / "profile.yaml").write_text(
        "edgedeploy: 1\nname: ends\nmodel: {source: work/source/model.onnx, dims: {n: 4}}\n"
        "quantize: fp16\nbench: off\n"
        "targets: {linux-x86-64/ort: , rpi5/ort: {quantize: w8}}\n"
    )
    limited = replace(backends.FAMILIES["ort"], most_bytes=2 * 256 * 256 + 100)
    monkeypatch.setitem(backends.FAMILIES, "ort", limited)
    stages: list[str] = []

    def note(event: object) -> None:
        if isinstance(event, StageFinished):
            stages.append(event.node)

    options = BuildOptions(output=tmp_path / "build", store=store)
    result = build(Request(profile=tmp_path / "profile.yaml"), options, EventLog(note))
    refused, built = result.outcomes
    assert refused.state == "failed"
    (finding,) = refused.trials[0].diagnostics
    assert finding.code == "E314"
    assert "`w8`, `w4`, `dynamic`" in finding.hint
    assert "`fp16`" not in finding.hint and "`none`" not in finding.hint
    assert built.state == "accepted"
    assert built.baseline is not None and built.baseline.state == "failed"
    assert not [node for node in stages if "fp16" in node or "float" in node]
