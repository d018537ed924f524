"""Quantization by NNCF: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from quant_support import RNET, build, normal_form, pack, session

from edgedeploy import toolchain
from edgedeploy.data.pack import PackWriter
from edgedeploy.errors import BuildError, EdgedeployError, ExitCode, ToolError
from edgedeploy.quant.by_nncf import load_nncf, quantize_by_nncf
from edgedeploy.stage import stage_kind

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("nncf") is None, reason="needs NNCF"),
]
GENERATOR = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


def samples_of(folder: Path, count: int = 8) -> Path:
    return pack(folder, [{"input_2": normal(1, 24, 24, 3)} for _ in range(count)])


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def refused(code: str, *arguments, **keywords) -> EdgedeployError:
    with pytest.raises(EdgedeployError) as caught:
        quantize_by_nncf(*arguments, **keywords)
    assert caught.value.diagnostics[0].code == code
    assert caught.value.diagnostics[0].hint
    return caught.value


def test_a_real_model_keeps_its_answers_and_bytes_repeat(tmp_path):
    model = normal_form(RNET, tmp_path)
    samples = samples_of(tmp_path / "p")
    report = quantize_by_nncf(model, samples, made(tmp_path / "a"))
    assert report.ops["Conv"] == 3 and report.activations >= 5
    quantized = onnx.load(tmp_path / "a/model.onnx")
    weights = [item for item in quantized.graph.initializer if item.data_type == 3]
    assert sum(np.prod(item.dims) for item in weights) > 100_000 - 5_000  # stored as int8
    inputs = {"input_2": normal(16, 24, 24, 3)}
    wanted = session(model).run(None, inputs)
    found = session(tmp_path / "a/model.onnx").run(None, inputs)
    for one, other in zip(wanted, found, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95
        assert np.any(one != other)
    quantize_by_nncf(model, samples, made(tmp_path / "b"))
    files = [(tmp_path / name / "model.onnx").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_what_is_to_stay_in_float_does(tmp_path):
    model = normal_form(RNET, tmp_path)
    samples = samples_of(tmp_path / "p", 4)
    convolutions = [node.name for node in onnx.load(model).graph.node if node.op_type == "Conv"]
    report = quantize_by_nncf(
        model,
        samples,
        made(tmp_path / "a"),
        keep_float=[f"?{convolutions[0][1:]}"],
        keep_float_ops=["MatMul", "Gemm"],
    )
    assert convolutions[0] not in report.quantized and convolutions[-1] in report.quantized
    assert not {"MatMul", "Gemm"} & set(report.ops)
    refused("E266", model, samples, tmp_path / "a", keep_float=["no-such-*"])
    every = ["Conv", "MatMul", "Gemm", "Add", "Mul", "PRelu", "MaxPool"]
    refused("E262", model, samples, tmp_path / "a", keep_float_ops=every)
    refused("E268", tmp_path / "a/model.onnx", samples, tmp_path / "a")
    refused("E260", model, pack(tmp_path / "none", []), tmp_path / "a")


def test_state_is_carried_along_a_sequence(tmp_path):
    """Frames of one add up to 1, 2, 3, 4; NNCF's range is the mean of what it sees of each."""
    nodes = [
        helper.make_node("Add", ["x", "state"], ["next"], "sum"),
        helper.make_node("Gemm", ["next", "w"], ["y"], "gemm"),
    ]
    model = build(
        tmp_path, nodes, {"w": normal(4, 2)}, {"x": (1, 4), "state": (1, 4)}, ["y", "next"]
    )
    folder = made(tmp_path / "p")
    with PackWriter(folder) as writer:
        for place in range(8):
            frame = np.full((1, 4), 1.0, np.float32)
            writer.add(f"f{place}", {"x": frame}, sequence=f"s{place // 4}")
    quantize_by_nncf(model, folder, made(tmp_path / "a"), state=[("state", "next")])
    graph = onnx.load(tmp_path / "a/model.onnx").graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    (before,) = [
        node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "next"
    ]
    assert 255 * float(constants[before.input[1]]) == pytest.approx(2.5, rel=0.01)
    refused("E267", model, folder, tmp_path / "a", state=[("state", "absent")])


def test_what_nncf_cannot_do_is_typed(tmp_path, monkeypatch):
    def broken(*arguments, **keywords):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(load_nncf(), "quantize", broken)
    model = normal_form(RNET, tmp_path)
    error = refused("E275", model, samples_of(tmp_path / "p", 2), tmp_path)
    assert isinstance(error, BuildError) and "no such thing" in str(error)


def test_nncf_reports_to_nobody():
    """In a process of its own: under pytest NNCF is silent by itself."""
    program = (
        "from edgedeploy.quant.by_nncf import load_nncf; load_nncf()\n"
        "from nncf.telemetry.wrapper import NNCFTelemetryStub, telemetry\n"
        "assert isinstance(telemetry, NNCFTelemetryStub), telemetry"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_its_version_is_in_the_key():
    assert "nncf" in stage_kind("quantize_nncf").tools
    assert toolchain.tool_version("nncf").startswith("3.")


def test_where_it_is_missing_the_command_is_named(monkeypatch):
    site = Path(onnx.__file__).parents[1]
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry) != site])
    toolchain.forget()
    try:
        with pytest.raises(ToolError) as caught:
            toolchain.tool_version("nncf")
    finally:
        toolchain.forget()
    assert caught.value.exit_code == ExitCode.TOOL == 5
    assert caught.value.diagnostics[0].hint == "pip install 'edgedeploy[nncf]'"
