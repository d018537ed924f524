"""Recognition of models that are quantized already, in every form that is in use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime import quantization
from quant_support import REC, RNET, build, installed, normal_form, pack

from edgedeploy.errors import EdgedeployError
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.dynamic import quantize_dynamic
from edgedeploy.quant.layers import already_quantized, load_checked
from edgedeploy.quant.qdq import quantize
from edgedeploy.quant.scheme import Scheme

GENERATOR = np.random.default_rng(2)


class Samples(quantization.CalibrationDataReader):
    def __init__(self) -> None:
        self.left = 2

    def get_next(self):
        self.left -= 1
        return (
            {"input_2": GENERATOR.normal(size=(4, 24, 24, 3)).astype(np.float32)}
            if (self.left >= 0)
            else None
        )


def stock(model: Path, made: Path, form: str) -> Path:
    """A model as onnxruntime's own tool quantizes it."""
    if form == "dynamic":
        quantization.quantize_dynamic(model, made)
    else:
        kind = quantization.QuantFormat.QDQ if form == "qdq" else quantization.QuantFormat.QOperator
        quantization.quantize_static(model, made, Samples(), quant_format=kind)
    return made


@pytest.mark.parametrize(
    ("form", "words"),
    [("qdq", "QDQ form"), ("qoperator", "QOperator form"), ("dynamic", "dynamic quantization")],
)
def test_quant_the_stock_tools_models_are_recognised(form, words, tmp_path):
    found = stock(normal_form(RNET, tmp_path), tmp_path / "quantized.onnx", form)
    assert str(already_quantized(found)).startswith(words)
    with pytest.raises(EdgedeployError, match=words) as caught:
        load_checked(found)
    assert caught.value.diagnostics[0].code == "E268"


def test_quant_our_own_models_are_recognised(tmp_path):
    model = normal_form(RNET, tmp_path)
    (tmp_path / "static").mkdir()
    (tmp_path / "dynamic").mkdir()
    samples = [{"input_2": GENERATOR.normal(size=(4, 24, 24, 3)).astype(np.float32)}]
    table = calibrate(model, pack(tmp_path / "pack", samples), tmp_path / "t.json")
    quantize(model, table, Scheme(), tmp_path / "static")
    quantize_dynamic(model, Scheme(activations="dynamic"), tmp_path / "dynamic")
    assert str(already_quantized(tmp_path / "static/model.onnx")).startswith("QDQ form")
    found = str(already_quantized(tmp_path / "dynamic/model.onnx"))
    assert found.startswith("dynamic quantization: DynamicQuantizeLinear node")


@pytest.mark.parametrize("source", [REC, RNET])
def test_quant_float_models_are_not_taken_for_quantized_ones(source):
    assert already_quantized(installed(*source)) is None


@pytest.mark.parametrize(
    ("op", "domain"),
    [("DequantizeLinear", ""), ("MatMulNBits", "com.microsoft"), ("MatMulBnb4", "com.microsoft")],
)
def test_quant_weights_alone_are_enough_wherever_they_are(op, domain, tmp_path):
    """In the graph, in a branch, in a local function; files with weights need not be there."""
    inside = helper.make_node(op, ["w", "s"], ["d"], name="inside", domain=domain)
    body = helper.make_graph(
        [inside], "b", [], [helper.make_tensor_value_info("d", TensorProto.FLOAT, None)]
    )
    branch = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    function = helper.make_function(
        "local", "F", ["w", "s"], ["d"], [inside], [helper.make_opsetid("", 17)]
    )
    call = helper.make_node("F", ["w", "s"], ["y"], domain="local")
    big = helper.make_tensor("w", TensorProto.UINT8, [4], b"\0\0\0\0", raw=True)
    onnx.external_data_helper.set_external_data(big, "missing.bin")
    big.ClearField("raw_data")
    for nodes, functions in (([inside], []), ([branch], []), ([call], [function])):
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "cs"],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [big],
        )
        path = tmp_path / "model.onnx"
        onnx.save(helper.make_model(graph, functions=functions), path)
        assert already_quantized(path) == f"weight-only form: {op} node 'inside'"


def test_quant_a_name_alone_means_nothing(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="QuantizeLinear")]
    assert already_quantized(build(tmp_path, nodes, {}, {"x": (1,)}, ["y"])) is None
