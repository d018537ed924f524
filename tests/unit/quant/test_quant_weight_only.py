"""Int8 weights with float activations."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from quant_support import MAGIKA, SILERO, build, normal_form, run, sqnr_db

from edgedeploy.errors import EdgedeployError
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.weight_only import write

GENERATOR = np.random.default_rng(17)
W8 = Scheme(activations="float", recurrent="weights")


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_quant_weights_of_every_layer_become_int8_and_stay_near(tmp_path, out):
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "g", "b"], ["h"], transB=1),
        helper.make_node("MatMul", ["h", "m"], ["y"]),
    ]
    constants = {"c": normal(8, 3, 3, 3), "g": normal(16, 8), "b": normal(16), "m": normal(16, 5)}
    model = build(tmp_path, nodes, constants, {"x": ("n", 3, "h", "w")}, ["y"])
    report = write(model, W8, out)
    assert report.ops == {"Conv": 1, "Gemm": 1, "MatMul": 1}
    assert report.activations == 0
    loaded = onnx.load(out / "model.onnx")
    onnx.checker.check_model(loaded, full_check=True)
    stored = {item.name: numpy_helper.to_array(item) for item in loaded.graph.initializer}
    assert not any(array.dtype == np.float32 and array.ndim > 1 for array in stored.values())
    x = {"x": normal(2, 3, 9, 7)}
    assert sqnr_db(run(model, x), run(out / "model.onnx", x)) > 30


@pytest.mark.parametrize(("name", "share"), [(MAGIKA, 0.3), (SILERO, 0.6)])
def test_quant_real_models_shrink(name, share, tmp_path, out):
    model = normal_form(name, tmp_path)
    write(model, W8, out)
    onnx.checker.check_model(out / "model.onnx")
    assert (out / "model.onnx").stat().st_size <= share * model.stat().st_size


def test_quant_a_model_without_weights_is_refused(tmp_path, out):
    model = build(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {}, {"x": ("n", 3)}, ["y"])
    with pytest.raises(EdgedeployError) as caught:
        write(model, W8, out)
    assert caught.value.diagnostics[0].code == "E262"
    assert not list(out.iterdir())
