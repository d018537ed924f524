"""Models with dynamic activations, and integer weights of recurrent nodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import openvino
import pytest
from onnx import helper, numpy_helper
from quant_support import MAGIKA, build, normal_form, optimised_ops, pack, run, session, sqnr_db

from edgedeploy.errors import EdgedeployError
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.dynamic import quantize_dynamic
from edgedeploy.quant.qdq import quantize
from edgedeploy.quant.scheme import Scheme

GENERATOR = np.random.default_rng(11)
DYNAMIC = Scheme(activations="dynamic")


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


def node(op: str, inputs: list[str], outputs: list[str], **attributes: object):
    return helper.make_node(op, inputs, outputs, **attributes)


@pytest.fixture(autouse=True)
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def made(out, model, scheme=DYNAMIC):
    report = quantize_dynamic(model, scheme, out)
    loaded = onnx.load(out / "model.onnx")
    onnx.checker.check_model(loaded, full_check=True)
    return loaded, report


GEMMS = {
    "plain": ({}, (16, 6)),
    "transposed": ({"transB": 1}, (6, 16)),
    "scaled": ({"transB": 1, "alpha": -0.5, "beta": 3.0}, (6, 16)),
}


@pytest.mark.parametrize("case", GEMMS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_quant_dynamic_products_agree_and_are_one_kernel(case, per_channel, tmp_path, out):
    attributes, shape = GEMMS[case]
    nodes = [
        node("Gemm", ["x", "w", "b"], ["g"], **attributes),
        node("Relu", ["g"], ["r"]),
        node("MatMul", ["r", "v"], ["y"]),
    ]
    constants = {"w": normal(*shape), "b": normal(6), "v": normal(6, 3)}
    model = build(tmp_path, nodes, constants, {"x": ("n", 16)}, ["y"])
    loaded, report = made(out, model, replace(DYNAMIC, per_channel=per_channel))
    assert report.ops == {"Gemm": 1, "MatMul": 1}
    assert [item.name for item in loaded.graph.output] == ["y"]
    assert not any(array.ndim == 2 for array in floats(loaded))
    x = {"x": normal(8, 16)}
    assert sqnr_db(run(model, x), run(out / "model.onnx", x)) > 25
    found = optimised_ops(out / "model.onnx", tmp_path)
    assert found["DynamicQuantizeMatMul"] + found["MatMulIntegerToFloat"] == 2
    assert not {"MatMul", "Gemm", "MatMulInteger"} & set(found)


def floats(model: onnx.ModelProto) -> list[np.ndarray]:
    arrays = map(numpy_helper.to_array, model.graph.initializer)
    return [array for array in arrays if array.dtype == np.float32]


def test_quant_an_activation_is_quantized_once_for_all_its_readers(tmp_path, out):
    nodes = [node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(3)]
    constants = {f"w{i}": normal(8, 4) for i in range(3)}
    model = build(tmp_path, nodes, constants, {"x": ("n", 8)}, ["y0", "y1", "y2"])
    loaded, _ = made(out, model)
    ops = Counter(item.op_type for item in loaded.graph.node)
    assert ops["DynamicQuantizeLinear"] == 1
    assert ops["MatMulInteger"] == 3


def test_quant_what_has_no_dynamic_form_stays_float_with_its_reason(tmp_path, out):
    nodes = [
        node("Conv", ["x", "k"], ["c"], name="conv"),
        node("Flatten", ["c"], ["f"]),
        node("Gemm", ["f", "w"], ["g"], name="turned", transA=1),
        node("MatMul", ["left", "g"], ["h"], name="left_weight"),
        node("MatMul", ["h", "v"], ["y"], name="product"),
    ]
    constants = {
        "k": normal(2, 3, 1, 1),
        "w": normal(1, 5),
        "left": normal(4, 8),
        "v": normal(5, 2),
    }
    model = build(tmp_path, nodes, constants, {"x": (1, 3, 2, 2)}, ["y"])
    _, report = made(out, model)
    assert report.quantized == ("product",)
    assert {item.node: item.reason.split()[0] for item in report.kept} == {
        "conv": "Conv",
        "turned": "its",
        "left_weight": "its",
    }
    with pytest.raises(EdgedeployError) as caught:
        quantize_dynamic(model, replace(DYNAMIC, keep_float=("product",)), out)
    assert caught.value.diagnostics[0].code == "E262"
    with pytest.raises(EdgedeployError) as caught:
        quantize_dynamic(model, replace(DYNAMIC, keep_float=("produkt",)), out)
    assert caught.value.diagnostics[0].code == "E266"


RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent_net(tmp_path, op: str, direction: str):
    gates, directions = RECURRENT[op], 2 if direction == "bidirectional" else 1
    constants = {
        "w": normal(directions, gates * 8, 12) / 3,
        "r": normal(directions, gates * 8, 8) / 3,
        "b": normal(directions, 2 * gates * 8) / 3,
    }
    nodes = [node(op, ["x", "w", "r", "b"], ["y"], hidden_size=8, direction=direction)]
    return build(tmp_path, nodes, constants, {"x": ("s", 1, 12)}, ["y"])


@pytest.mark.parametrize("op", RECURRENT)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("recurrent", ["integer", "weights"])
def test_quant_recurrent_weights_become_int8(op, direction, recurrent, tmp_path, out):
    """In static schemes too, on both runtimes that take such nodes."""
    model = recurrent_net(tmp_path, op, direction)
    samples = [{"x": normal(6, 1, 12)} for _ in range(3)]
    table = calibrate(model, pack(tmp_path / "pack", samples), tmp_path / "t.json")
    report = quantize(model, table, Scheme(recurrent=recurrent), out)
    assert report.ops == {op: 1}
    loaded = onnx.load(out / "model.onnx")
    ops = Counter(item.op_type for item in loaded.graph.node)
    integer = op == "LSTM" and recurrent == "integer"
    assert ops == ({"DynamicQuantizeLSTM": 1} if integer else {op: 1, "DequantizeLinear": 2})
    assert not any(array.ndim == 3 for array in floats(loaded))
    wanted = run(model, samples[0])
    assert sqnr_db(wanted, run(out / "model.onnx", samples[0])) > 30
    if recurrent == "weights":
        compiled = openvino.Core().compile_model(str(out / "model.onnx"), "CPU")
        assert sqnr_db(wanted, compiled(samples[0])[0]) > 30


def test_quant_recurrent_nodes_stay_float_where_the_scheme_says_so(tmp_path, out):
    model = recurrent_net(tmp_path, "LSTM", "forward")
    with pytest.raises(EdgedeployError) as caught:
        quantize_dynamic(model, replace(DYNAMIC, recurrent="float"), out)
    assert caught.value.diagnostics[0].code == "E262"


def test_quant_dynamic_keeps_a_real_model(tmp_path, out):
    """Stock dynamic quantization makes this model five times slower: ConvInteger."""
    model = normal_form(MAGIKA, tmp_path)
    loaded, report = made(out, model)
    assert report.ops == {"MatMul": 1, "Gemm": 1}
    assert {item.op for item in report.kept} == {"Conv"}
    assert "ConvInteger" not in {item.op_type for item in loaded.graph.node}
    row = np.full((1, 2048), 256, np.int32)
    row[0, :900] = GENERATOR.integers(32, 127, 900)
    wanted, found = (session(p).run(None, {"bytes": row})[0] for p in (model, out / "model.onnx"))
    assert sqnr_db(wanted, found) > 20


def exact(axis: int, *shape: int) -> np.ndarray:
    """Weights that int8 represents exactly: each channel holds integers, the greatest 127."""
    found = GENERATOR.integers(-126, 127, shape).astype(np.float32)
    found.swapaxes(0, axis)[:, 0] = 127
    return found / 64


@pytest.mark.parametrize(("opset", "domain"), [(17, "com.microsoft"), (21, "")])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_quant_sixteen_bit_activations_hardly_round(opset, domain, dtype, tmp_path, out):
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "v"], ["y"]),
    ]
    constants = {"w": exact(0, 6, 3, 3, 3), "b": normal(6), "v": exact(1, 6, 4)}
    model = build(tmp_path, nodes, constants, {"x": ("n", 3, 6, 6)}, ["y"], opset=opset)
    samples = [{"x": normal(2, 3, 6, 6)} for _ in range(4)]
    table = calibrate(model, pack(tmp_path / "pack", samples), tmp_path / "t.json")
    scheme = Scheme(
        activations="static16", activation_dtype=dtype, ranges="minmax", quantize_bias=False
    )
    results = {}
    for name, weights_only in (
        ("wide", scheme),
        ("narrow", replace(scheme, activations="static8")),
    ):
        report = quantize(model, table, weights_only, out)
        assert report.ops["Conv"] == 1
        results[name] = run(out / "model.onnx", samples[0])
        if name == "wide":
            loaded = onnx.load(out / "model.onnx")
            pairs = [n for n in loaded.graph.node if n.op_type == "QuantizeLinear"]
            assert {item.domain for item in pairs} == {domain}
            kinds = {array.dtype for array in map(numpy_helper.to_array, loaded.graph.initializer)}
            assert np.dtype(dtype.replace("8", "16")) in kinds
    wanted = run(model, samples[0])
    assert sqnr_db(wanted, results["wide"]) > 60 > sqnr_db(wanted, results["narrow"])
