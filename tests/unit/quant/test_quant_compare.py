"""The layer comparison finds the layer that was broken on purpose."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper
from quant_support import build, pack, run, sqnr_db

from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.compare import compare
from edgedeploy.quant.qdq import quantize
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.table import CalibrationTable

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
    from edgedeploy.data.pack import PackReader

    wanted, found = (
        np.concatenate(
            [np.arctanh(run(path, s.tensors()).astype(np.float64)) for s in PackReader(folder)]
        )
        for path in (model, tmp_path / "out/model.onnx")
    )
    assert rows["conv_6"].sqnr_db == pytest.approx(sqnr_db(wanted, found), abs=0.05)
