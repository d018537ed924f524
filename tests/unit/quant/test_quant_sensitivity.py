"""Sensitivity: multiply-adds, divergences and the noise of layers against other ways to them."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import scipy.special
import scipy.stats
from onnx import helper
from quant_support import build, pack, run

from edgedeploy.data.pack import PackReader
from edgedeploy.errors import ModelError
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.layers import find_layers, load_checked
from edgedeploy.quant.multiply_adds import multiply_adds
from edgedeploy.quant.outputs import SAMPLES, Outputs
from edgedeploy.quant.qdq import quantize_loaded
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.sensitivity import sensitivity
from edgedeploy.quant.survey import Survey

GENERATOR = np.random.default_rng(5)
SCHEME = Scheme(ranges="minmax")


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Three products; the second has a weight that 8 bits with one scale cannot hold."""
    folder = tmp_path_factory.mktemp("chain")
    weights = {f"w{n}": normal(12, 12) / 3 for n in range(3)}
    weights["w1"][0, :] *= 100.0
    nodes, source = [], "x"
    for count in range(3):
        nodes.append(helper.make_node("MatMul", [source, f"w{count}"], [f"m{count}"]))
        nodes.append(helper.make_node("Tanh", [f"m{count}"], [f"t{count}"]))
        source = f"t{count}"
    model = build(folder, nodes, weights, {"x": ("n", 12)}, [source])
    samples = pack(folder / "pack", [{"x": normal(4, 12)} for _ in range(20)])
    return model, samples, calibrate(model, samples, folder / "t.json")


def test_quant_the_layer_that_8_bits_break_is_the_most_sensitive(chain):
    model, samples, table = chain
    per_tensor = Scheme(ranges="minmax", per_channel=False)
    found = sensitivity(model, table, samples, per_tensor, methods=("minmax", "mse"))
    assert found.samples == SAMPLES
    assert [layer.node for layer in found.layers] == ["matmul_0", "matmul_2", "matmul_4"]
    assert found.ranked()[0].node == "matmul_2"
    assert set(found.methods) == {"minmax", "mse"}
    assert found.methods[found.ranges] == min(found.methods.values())
    assert [layer.multiply_adds for layer in found.layers] == [4 * 12 * 12] * 3
    assert [layer.weights for layer in found.layers] == [144] * 3
    assert Survey.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_quant_noise_is_that_of_the_model_with_one_layer_quantized(chain, tmp_path):
    model, samples, table = chain
    found = sensitivity(model, table, samples, SCHEME, methods=())
    variant = load_checked(model)
    quantize_loaded(variant, table, SCHEME, "matmul_2")
    assert sum(node.op_type == "QuantizeLinear" for node in variant.graph) == 1
    path = tmp_path / "one.onnx"
    ir.save(variant, path)
    pack_ = PackReader(samples)
    inputs = [pack_[n * len(pack_) // SAMPLES].tensors() for n in range(SAMPLES)]
    exact = np.concatenate([run(model, item) for item in inputs]).astype(float)
    other = np.concatenate([run(path, item) for item in inputs]).astype(float)
    layer = found.layers[1]
    assert layer.noise == pytest.approx(np.sum((exact - other) ** 2) / np.sum(exact**2), rel=0.05)
    truth, guess = (scipy.special.softmax(item, axis=-1) for item in (exact, other))
    wanted = np.mean(scipy.stats.entropy(truth, guess, axis=-1))
    assert layer.kl == pytest.approx(wanted, rel=0.05)
    assert layer.sqnr_db == pytest.approx(-10 * math.log10(layer.noise))


def test_quant_divergence_takes_distributions_as_they_are(tmp_path):
    weight = normal(6, 5)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Softmax", ["m"], ["p"]),
    ]
    model = build(tmp_path, nodes, {"w": weight}, {"x": ("n", 6)}, ["p"])
    inputs = [{"x": normal(3, 6)} for _ in range(4)]
    outputs = Outputs(model, pack(tmp_path / "pack", inputs), ())
    changed = load_checked(model)
    value = changed.graph.initializers["w"]
    value.const_value = ir.Tensor(weight * np.float32(1.1), name="w")
    _, found = outputs.compare(changed)
    truth = [scipy.special.softmax(item["x"] @ weight, axis=-1) for item in inputs]
    guess = [scipy.special.softmax(item["x"] @ (weight * 1.1), axis=-1) for item in inputs]
    wanted = np.mean(scipy.stats.entropy(np.concatenate(truth), np.concatenate(guess), axis=-1))
    assert found == pytest.approx(wanted, rel=1e-3)


def test_quant_sensitivity_needs_a_float_output(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("ArgMax", ["m"], ["y"]),
    ]
    model = build(tmp_path, nodes, {"w": normal(6, 5)}, {"x": ("n", 6)}, ["y"])
    proto = onnx.load(model)
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(proto, model)
    samples = pack(tmp_path / "pack", [{"x": normal(3, 6)}])
    with pytest.raises(ModelError) as caught:
        Outputs(model, samples, ())
    assert caught.value.diagnostics[0].code == "E262"


def test_quant_multiply_adds_of_every_kind_of_layer(tmp_path):
    constants = {
        "conv": normal(8, 2, 3, 3),  # two groups of two channels
        "up": normal(8, 5, 2, 2),
        "left": normal(7, 5),
        "gemm": normal(9, 7 * 36),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["c"], group=2),  # [1, 8, 3, 3]
        helper.make_node("ConvTranspose", ["c", "up"], ["u"], strides=[2, 2]),  # [1, 5, 6, 6]
        helper.make_node("Reshape", ["u", "flat"], ["r"]),  # [5, 36]
        helper.make_node("MatMul", ["left", "r"], ["m"]),  # [7, 36]
        helper.make_node("Reshape", ["m", "row"], ["v"]),  # [1, 252]
        helper.make_node("Gemm", ["v", "gemm"], ["g"], transB=1),  # [1, 9]
    ]
    shapes = {"flat": np.array([5, 36]), "row": np.array([1, 252])}
    model = build(tmp_path, nodes, {**constants, **shapes}, {"x": (1, 4, 5, 5)}, ["g"])
    loaded = load_checked(model)
    layers = [layer.node for layer in find_layers(loaded.graph)]
    found = multiply_adds(loaded, model.parent, layers, {"x": normal(1, 4, 5, 5)})
    assert list(found.values()) == [
        8 * 9 * (2 * 9),  # elements of the result times products for each
        8 * 9 * (5 * 4),  # elements of the operand times where each goes
        7 * 36 * 5,
        9 * 252,
    ]


def test_quant_multiply_adds_of_a_recurrent_layer(tmp_path):
    constants = {"w": normal(1, 16, 3), "r": normal(1, 16, 4), "b": normal(1, 32)}
    nodes = [helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=4)]
    model = build(tmp_path, nodes, constants, {"x": ("t", 2, 3)}, ["y"])
    loaded = load_checked(model)
    nodes_ = [node for node in loaded.graph if node.op_type == "LSTM"]
    found = multiply_adds(loaded, model.parent, nodes_, {"x": normal(5, 2, 3)})
    assert list(found.values()) == [5 * 2 * (16 * 3 + 16 * 4)]


def test_quant_sensitivity_of_a_model_that_computes_its_indices(tmp_path):
    """As exported transformers with int32 inputs do; what a cast gives is no float."""
    nodes = [
        helper.make_node("Cast", ["x"], ["index"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["words", "index"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["y"]),
    ]
    constants = {"words": normal(20, 6), "w": normal(6, 5)}
    model = build(tmp_path, nodes, constants, {"x": ("n",)}, ["y"])
    samples = pack(tmp_path / "pack", [{"x": np.float32([1, n])} for n in range(9)])
    table = calibrate(model, samples, tmp_path / "t.json")
    found = sensitivity(model, table, samples, SCHEME, methods=())
    assert {layer.op: layer.multiply_adds for layer in found.layers} == {"Gather": 0, "MatMul": 60}


def test_quant_noise_leaves_out_what_is_infinite_in_the_float_model(tmp_path):
    """A mask of -inf is no noise; an element that only the other form loses is all lost."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "mask"], ["y"]),
    ]
    mask = np.float32([0, -np.inf, 0])
    constants = {"w": np.eye(3, dtype=np.float32), "mask": mask}
    model = build(tmp_path, nodes, constants, {"x": ("n", 3)}, ["y"])
    outputs = Outputs(model, pack(tmp_path / "pack", [{"x": np.float32([[1, 2, 1]])}]), ())
    assert outputs.compare(load_checked(model)) == (0.0, 0.0)
    changed = load_checked(model)
    lost = np.float32([0, -np.inf, np.inf])
    changed.graph.initializers["mask"].const_value = ir.Tensor(lost, name="mask")
    assert outputs.compare(changed)[0] == pytest.approx(0.5)
