"""The layer comparison finds the layer that was broken on purpose."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from quant_support import MAGIKA, REC, build, normal_form, pack, run, sqnr_db

from edgedeploy.data.pack import PackReader
from edgedeploy.errors import ModelError
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.compare import compare, compare_streaming
from edgedeploy.quant.nodewise import run_nodes
from edgedeploy.quant.qdq import quantize
from edgedeploy.quant.scheme import MODES, Scheme
from edgedeploy.quant.table import CalibrationTable
from edgedeploy.quant.weight_only import write

GENERATOR = np.random.default_rng(2)


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


@pytest.fixture
def chain(tmp_path):
    nodes, constants, source = [], {}, "x"
    for count in range(4):
        nodes.append(helper.make_node("Conv", [source, f"w{count}"], [f"c{count}"]))
        nodes.append(helper.make_node("Tanh", [f"c{count}"], [f"t{count}"]))
        constants[f"w{count}"] = normal(8, 8, 1, 1) / 3
        source = f"t{count}"
    model = build(tmp_path, nodes, constants, {"x": ("n", 8, 6, 6)}, [source])
    folder = pack(tmp_path / "pack", [{"x": normal(1, 8, 6, 6)} for _ in range(6)])
    return model, folder, calibrate(model, folder, tmp_path / "t.json")


def test_quant_the_broken_layer_has_the_greatest_loss(chain, tmp_path):
    model, folder, table = chain
    tensors = dict(table.tensors)
    bad = tensors["c2"]
    tensors["c2"] = replace(bad, low=bad.low * 30, high=bad.high * 30)
    (tmp_path / "out").mkdir()
    broken = CalibrationTable(samples=table.samples, tensors=tensors)
    quantize(model, broken, Scheme(ranges="minmax"), tmp_path / "out")
    rows = compare(model, tmp_path / "out/model.onnx", folder, limit=4)
    assert {row.node for row in rows} == {"conv_0", "conv_2", "conv_4", "conv_6"}
    assert [row.sqnr_db for row in rows] == sorted(row.sqnr_db for row in rows)
    assert all(row.samples == 4 for row in rows)
    # conv_6 reads what the bad range of conv_4's result did.
    by_node = {row.node: row for row in rows}
    assert by_node["conv_6"].input_sqnr_db < by_node["conv_4"].input_sqnr_db - 10
    assert rows[0].node == "conv_6"


def test_quant_the_ratio_of_the_last_layer_is_that_of_the_outputs(chain, tmp_path):
    model, folder, table = chain
    (tmp_path / "out").mkdir()
    scheme = Scheme(quantized_outputs=(), keep_float=("conv_0", "conv_2", "conv_4"))
    quantize(model, table, scheme, tmp_path / "out")
    rows = {row.node: row for row in compare(model, tmp_path / "out/model.onnx", folder)}
    assert math.isinf(rows["conv_0"].sqnr_db)
    assert rows["conv_0"].to_json()["sqnr_db"] is None
    wanted, found = (
        np.concatenate(
            [np.arctanh(run(path, s.tensors()).astype(np.float64)) for s in PackReader(folder)]
        )
        for path in (model, tmp_path / "out/model.onnx")
    )
    assert rows["conv_6"].sqnr_db == pytest.approx(sqnr_db(wanted, found), abs=0.05)


def same_rows(model, quantized, samples) -> int:
    """Both ways to compare agree on every layer; return how many there are."""
    whole = {row.node: row for row in compare(model, quantized, samples)}
    streamed = {row.node: row for row in compare_streaming(model, quantized, samples)}
    assert streamed.keys() == whole.keys()
    for node, row in streamed.items():
        other = whole[node]
        assert (row.op, row.tensor, row.samples) == (other.op, other.tensor, other.samples)
        # Rounding to 8 bits at run time may fall to the other side where sums differ a little.
        assert row.sqnr_db == pytest.approx(other.sqnr_db, abs=0.3)
        if row.input_sqnr_db is not None and row.input_sqnr_db < 120:
            assert row.input_sqnr_db == pytest.approx(other.input_sqnr_db, abs=0.3)
    return len(streamed)


@pytest.mark.parametrize("mode", ["w8a8", "w4"])
def test_quant_node_by_node_the_comparison_is_the_same(mode, tmp_path):
    model = normal_form(REC, tmp_path)
    generator = np.random.default_rng(5)
    images = [generator.uniform(-1, 1, (1, 3, 48, width)) for width in (96, 64)]
    samples = pack(tmp_path / "pack", [{"x": image.astype(np.float32)} for image in images])
    out, scheme = tmp_path / "out", replace(Scheme(**MODES[mode]), rounding="nearest")
    out.mkdir()
    if scheme.calibrated:
        quantize(model, calibrate(model, samples, tmp_path / "t.json"), scheme, out)
    else:
        write(model, scheme, out)
    assert same_rows(model, out / "model.onnx", samples) > 40


def test_quant_lookups_and_integers_run_node_by_node(tmp_path):
    model = normal_form(MAGIKA, tmp_path)
    generator = np.random.default_rng(5)
    texts = [generator.integers(0, 257, (1, 2048)).astype(np.int32) for _ in range(2)]
    samples = pack(tmp_path / "pack", [{"bytes": text} for text in texts])
    (tmp_path / "out").mkdir()
    write(model, Scheme(**MODES["w4"]), tmp_path / "out")
    assert same_rows(model, tmp_path / "out/model.onnx", samples) >= 2


def test_quant_bodies_see_the_values_around_them(tmp_path):
    """An If whose branches read a weight and an activation of the main graph."""
    branches = {
        name: helper.make_graph(
            [helper.make_node(op, ["a", "w"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name, op in (("then_branch", "Add"), ("else_branch", "Sub"))
    }
    nodes = [
        helper.make_node("Tanh", ["x"], ["a"]),
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["b"], **branches),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    constants = {"w": normal(4, 4), "zero": np.float32(0)}
    model = build(tmp_path, nodes, constants, {"x": (4, 4)}, ["y"])
    samples = [{"x": np.full((4, 4), sign, np.float32)} for sign in (1, -1)]
    *_, last = run_nodes(ir.load(model), tmp_path, samples)
    for sample, found in zip(samples, last["y"], strict=True):
        np.testing.assert_array_equal(found, run(model, sample))


def test_quant_isolated_layers_do_not_pass_their_errors_on(chain, tmp_path):
    """Known answer: the quantized convolution on the float activation, one by one."""
    model, folder, _ = chain
    (tmp_path / "out").mkdir()
    scheme = Scheme(**{**MODES["w8"], "weight_bits": 7})
    write(model, scheme, tmp_path / "out")
    quantized = tmp_path / "out/model.onnx"
    rows = {row.node: row for row in compare_streaming(model, quantized, folder, isolated=True)}
    passed_on = {row.node: row for row in compare_streaming(model, quantized, folder)}
    assert rows["conv_0"].sqnr_db == pytest.approx(passed_on["conv_0"].sqnr_db)
    assert rows["conv_6"].sqnr_db > passed_on["conv_6"].sqnr_db + 1
    weights = {
        item.name: numpy_helper.to_array(item) for item in onnx.load(model).graph.initializer
    }
    for count, node in ((0, "conv_0"), (1, "conv_2"), (2, "conv_4")):
        weight = weights[f"w{count}"].reshape(8, 8)
        scale = np.abs(weight).max(axis=1, keepdims=True) / 63
        rounded = np.rint(weight / scale) * scale
        given = [activation(model, count, sample.tensors()["x"]) for sample in PackReader(folder)]
        exact, noisy = (
            np.concatenate([np.einsum("oi,nihw->nohw", w.astype(np.float64), x) for x in given])
            for w in (weight, rounded)
        )
        assert rows[node].sqnr_db == pytest.approx(sqnr_db(exact, noisy), abs=0.01)


def activation(model, layers: int, x: np.ndarray) -> np.ndarray:
    """What the float chain gives to its layer of this number."""
    for item in onnx.load(model).graph.initializer[:layers]:
        x = np.tanh(np.einsum("oi,nihw->nohw", numpy_helper.to_array(item).reshape(8, 8), x))
    return x


def test_quant_a_model_of_another_order_is_refused(chain, tmp_path):
    model, folder, _ = chain
    (tmp_path / "out").mkdir()
    write(model, Scheme(**MODES["w8"]), tmp_path / "out")
    other = onnx.load(tmp_path / "out/model.onnx")
    renamed = {"c0": "c2", "c2": "c0"}
    for node in other.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    onnx.save(other, tmp_path / "out/model.onnx")
    with pytest.raises(ModelError) as caught:
        compare_streaming(model, tmp_path / "out/model.onnx", folder)
    assert caught.value.diagnostics[0].code == "E269"
