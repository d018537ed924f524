"""Models for the backends: real ones brought near to the normal form, and small generated ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from backend_models import OPSET, SIZES, feed, near_normal_form, source_of
from onnx import helper

os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(scope="session")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the path of a real model by name, made once."""
    folder = tmp_path_factory.mktemp("real")

    def make(name: str) -> Path:
        path = folder / name / "model.onnx"
        if not path.exists():
            path.parent.mkdir()
            onnx.save(near_normal_form(source_of(name)), str(path))
        return path

    return make


@pytest.fixture(scope="session")
def quantized_model(real_model: Callable[[str], Path], tmp_path_factory) -> Path:
    """The direction classifier as QDQ: unsigned activations, signed weights per channel."""
    from onnxruntime import quantization

    path = tmp_path_factory.mktemp("qdq") / "model.onnx"
    samples = iter([feed(real_model("cls"), SIZES["cls"], seed) for seed in range(2)])

    class Samples(quantization.CalibrationDataReader):
        def get_next(self):
            return next(samples, None)

    quantization.quantize_static(
        str(real_model("cls")),
        str(path),
        Samples(),
        per_channel=True,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        extra_options={"ActivationSymmetric": False},
    )
    model = onnx.load(str(path))
    used = {node.domain for node in model.graph.node} | {""}
    kept = [item for item in model.opset_import if item.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="session")
def half_model(real_model: Callable[[str], Path], tmp_path_factory) -> Path:
    """The direction classifier in float16 with float32 inputs and outputs."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    path = tmp_path_factory.mktemp("half") / "model.onnx"
    model = onnx.load(str(real_model("cls")))
    onnx.save(convert_float_to_float16(model, keep_io_types=True), str(path))
    return path


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that saves a generated model."""

    def write(
        nodes, inputs, outputs, *, initializers=(), opset=OPSET, domains=(), name="model.onnx"
    ) -> Path:
        graph = helper.make_graph(nodes, "graph", inputs, outputs, initializer=list(initializers))
        opsets = [helper.make_opsetid("", opset)]
        opsets += [helper.make_opsetid(domain, version) for domain, version in domains]
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        path = folder / name
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
        return path

    return write
