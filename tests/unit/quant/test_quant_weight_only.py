"""Int8 and int4 weights with float activations."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from quant_support import MAGIKA, SILERO, build, normal_form, run, sqnr_db

from edgedeploy.backends import load
from edgedeploy.errors import EdgedeployError
from edgedeploy.quant.scheme import MODES, Scheme
from edgedeploy.quant.weight_only import write

GENERATOR = np.random.default_rng(17)
W8 = Scheme(**MODES["w8"])
W4 = Scheme(**MODES["w4"])


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


@pytest.fixture
def products(tmp_path):
    """Every kind of layer that a product with four-bit weights may be or not be made of."""
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["a"], name="conv"),
        helper.make_node("GlobalAveragePool", ["a"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node(
            "Gemm", ["f", "g", "b"], ["h"], name="last", transB=1, alpha=0.5, beta=2.0
        ),
        helper.make_node("Gemm", ["h", "d"], ["k"], name="first"),
        helper.make_node("Gemm", ["k", "t"], ["u"], name="turned", transA=1),
        helper.make_node("MatMul", ["l", "u"], ["v"], name="left"),
        helper.make_node("Transpose", ["v"], ["w"], perm=[1, 0]),
        helper.make_node("MatMul", ["w", "m"], ["y"], name="plain"),
    ]
    constants = {
        "c": normal(72, 3, 3, 3),
        "g": normal(160, 72),
        "b": normal(160),
        "d": normal(160, 40),
        "t": normal(2, 33),
        "l": normal(16, 40),
        "m": normal(16, 5),
    }
    return build(tmp_path, nodes, constants, {"x": (2, 3, "h", "w")}, ["y"])


def test_quant_four_bits_in_products_and_eight_elsewhere(products, out):
    report = write(products, W4, out)
    assert {(item.node, item.reason) for item in report.wider} == {
        ("conv", "Conv has no form with 4-bit weights"),
        ("turned", "its activation is transposed"),
        ("left", "its weight is the left operand or no plain matrix"),
    }
    assert report.kept == ()
    loaded = onnx.load(out / "model.onnx")
    onnx.checker.check_model(loaded, full_check=True)
    made = {node.name: node for node in loaded.graph.node if node.domain == "com.microsoft"}
    sizes = [
        tuple(helper.get_node_attr_value(node, key) for key in ("K", "N", "bits", "block_size"))
        for node in made.values()
    ]
    assert sizes == [(72, 160, 4, 32), (160, 40, 4, 32), (16, 5, 4, 32)]
    stored = {item.name: numpy_helper.to_array(item) for item in loaded.graph.initializer}
    assert not any(array.dtype == np.float32 and array.ndim > 1 for array in stored.values())


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_quant_the_runtimes_compute_what_four_bits_say(runtime, products, tmp_path, out):
    """Reference: the same model with every weight replaced by what its integers stand for."""
    write(products, W4, out)
    expected = onnx.load(products)
    for item in expected.graph.initializer:
        rounded = as_stored(numpy_helper.to_array(item), item.name)
        item.CopyFrom(numpy_helper.from_array(rounded, item.name))
    onnx.save(expected, tmp_path / "rounded.onnx")
    x = {"x": normal(2, 3, 9, 7)}
    (tmp_path / runtime).mkdir()
    backend = load(runtime)
    fields = {"board.arch": "x86-64", "board.os": "linux", "board.processor": "cpu"}
    fields["runtime.versions"] = ">=1.17"
    report = backend.compile(out / "model.onnx", tmp_path / runtime, {}, fields)
    if runtime == "ort":
        assert report.metadata["kernels"]["com.microsoft:MatMulNBits"] == 3
    with backend.runner(tmp_path / runtime) as runner:
        # The kernels round activations to 8 bits in blocks.
        assert sqnr_db(run(tmp_path / "rounded.onnx", x), runner.run(x)["y"]) > 30


def as_stored(array: np.ndarray, name: str) -> np.ndarray:
    """The weight after rounding: blocks of 32 inputs in products, else one scale per channel."""
    if name in "gdm":
        matrix = array.T if name == "g" else array
        back = np.concatenate([rounded(part, 0, 7) for part in np.split(matrix, cuts(matrix))])
        return np.ascontiguousarray(back.T if name == "g" else back)
    if array.ndim < 2:
        return array
    kept = {"c": (1, 2, 3), "t": 0, "l": None}[name]
    return rounded(array, kept, 127)


def cuts(matrix: np.ndarray) -> range:
    return range(32, len(matrix), 32)


def rounded(array: np.ndarray, axes: object, greatest: int) -> np.ndarray:
    scale = np.abs(array).max(axis=axes, keepdims=True) / greatest
    return (np.rint(array / scale) * scale).astype(np.float32)


def test_quant_openvino_keeps_four_bits_in_memory(tmp_path, out):
    import openvino

    node = helper.make_node("MatMul", ["x", "m"], ["y"])
    model = build(tmp_path, [node], {"m": normal(256, 128)}, {"x": ("n", 256)}, ["y"])
    write(model, W4, out)
    load("openvino").compile(out / "model.onnx", tmp_path, {}, {"board.processor": "cpu"})
    assert (tmp_path / "model.bin").stat().st_size < 256 * 128 * 5 / 8 + 200
    compiled = openvino.Core().compile_model(tmp_path / "model.xml", "CPU")
    kinds = {
        str(port.get_element_type().to_string())
        for op in compiled.get_runtime_model().get_ordered_ops()
        for port in op.outputs()
        if port.get_partial_shape().is_static and np.prod(port.get_shape()) == 256 * 128
    }
    assert kinds == {"u4"}


@pytest.mark.parametrize(
    ("name", "scheme", "share"), [(MAGIKA, W8, 0.3), (MAGIKA, W4, 0.26), (SILERO, W8, 0.6)]
)
def test_quant_real_models_shrink(name, scheme, share, tmp_path, out):
    model = normal_form(name, tmp_path)
    write(model, scheme, out)
    onnx.checker.check_model(out / "model.onnx")
    assert (out / "model.onnx").stat().st_size <= share * model.stat().st_size


def test_quant_a_model_without_weights_is_refused(tmp_path, out):
    model = build(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {}, {"x": ("n", 3)}, ["y"])
    with pytest.raises(EdgedeployError) as caught:
        write(model, W8, out)
    assert caught.value.diagnostics[0].code == "E262"
    assert not list(out.iterdir())
