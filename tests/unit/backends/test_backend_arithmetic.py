"""What runs on integers: known counts of multiply-adds, and graphs that cannot be fused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from backend_models import SIZES, feed, value
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.backends import load

FAMILIES = ("ort", "openvino")


def counted(family, model, folder, sizes=()):
    folder.mkdir()
    backend = load(family)
    backend.compile(model, folder, {}, {})
    return backend.arithmetic(folder, feed(model, sizes)).to_json()


def tensor(name: str, *shape: int, dtype=np.float32):
    return numpy_helper.from_array(np.ones(shape, dtype), name)


# (operator, attributes, shape of the input, shapes of the weights, result, multiply-adds): the last
# is places x taps x channels, written out by hand.
KINDS = {
    "conv": ("Conv", {"strides": [2, 1]}, (2, 6, 9, 8), [(4, 6, 3, 3)], (2, 4, 4, 6), 192 * 54),
    "grouped": ("Conv", {"group": 3}, (1, 6, 8, 8), [(9, 2, 3, 3)], (1, 9, 6, 6), 9 * 36 * 18),
    "depthwise": ("Conv", {"group": 6}, (1, 6, 8, 8), [(6, 1, 3, 3)], (1, 6, 6, 6), 6 * 36 * 9),
    "transposed": (
        "ConvTranspose",
        {"strides": [2, 2]},
        (1, 6, 5, 5),
        [(6, 4, 2, 2)],
        (1, 4, 10, 10),
        6 * 25 * 4 * 4,
    ),
    "gemm": ("Gemm", {"transB": 1}, (5, 7), [(3, 7)], (5, 3), 5 * 3 * 7),
    "gemm-transposed": ("Gemm", {"transA": 1}, (7, 5), [(7, 3)], (5, 3), 5 * 3 * 7),
    "matmul": ("MatMul", {}, (2, 4, 5, 7), [(7, 3)], (2, 4, 5, 3), 2 * 4 * 5 * 3 * 7),
    "vector": ("MatMul", {}, (7,), [(7, 3)], (3,), 3 * 7),
    "lstm": ("LSTM", {"hidden_size": 4}, (5, 2, 3), [(1, 16, 3), (1, 16, 4)], None, 5 * 2 * 16 * 7),
    "gru": (
        "GRU",
        {"hidden_size": 4, "direction": "bidirectional"},
        (5, 2, 3),
        [(2, 12, 3), (2, 12, 4)],
        None,
        5 * 2 * 2 * 12 * 7,
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_multiply_adds_are_those_of_the_definition(family, kind, save, tmp_path):
    op, attributes, given, weights, result, macs = KINDS[kind]
    names = [f"w{number}" for number in range(len(weights))]
    node = helper.make_node(op, ["x", *names], ["y"], name="layer", **attributes)
    if result is None:
        result = (5, weights[0][0], 2, 4)
    model = save(
        [node],
        [value("x", given)],
        [value("y", result)],
        initializers=[tensor(n, *shape) for n, shape in zip(names, weights, strict=True)],
    )
    found = counted(family, model, tmp_path / "out")
    assert (found["layers"], found["integer_layers"], found["conversions"]) == (1, 0, 0)
    assert (found["macs"], found["integer_macs"], found["uncounted_layers"]) == (macs, 0, 0)
    assert [layer["macs"] for layer in found["float_layers"]] == [macs]


@pytest.mark.parametrize("name", ["rec", "det", "magika", "onet"])
def test_both_runtimes_count_the_same_in_real_models(name, real_model, tmp_path):
    """Sizes are open in these; one count comes from executed kernels, the other from the IR."""
    model = real_model(name)
    ort, openvino = (counted(it, model, tmp_path / it, SIZES[name]) for it in FAMILIES)
    for found in (ort, openvino):
        found.pop("float_layers")
        assert found["integer_layers"] == found["uncounted_layers"] == found["conversions"] == 0
    assert ort == openvino and ort["macs"] > 1_000_000


def quantized(save, *, rounded_result: bool):
    """A quantized convolution, and a product of activations; its result is quantized or not."""
    pair = ("scale", "zero")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *pair], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", *pair], ["x_d"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_d"]),
        helper.make_node("Conv", ["x_d", "w_d"], ["h"], name="conv"),
    ]
    last = "h"
    if rounded_result:
        nodes += [
            helper.make_node("QuantizeLinear", ["h", *pair], ["h_q"]),
            helper.make_node("DequantizeLinear", ["h_q", *pair], ["h_d"]),
        ]
        last = "h_d"
    nodes += [
        helper.make_node("Softmax", [last], ["s"], name="softmax"),
        helper.make_node("MatMul", ["s", "s"], ["y"], name="square"),
    ]
    constants = {
        "w": np.random.default_rng(0).integers(-127, 127, (32, 32, 3, 3)).astype(np.int8),
        "w_scale": np.float32(0.001),
        "w_zero": np.int8(0),
        "scale": np.float32(0.02),
        "zero": np.uint8(128),
    }
    return save(
        nodes,
        [value("x", (1, 32, 10, 10))],
        [value("y", (1, 32, 8, 8))],
        initializers=[numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )


CONV, SQUARE = 32 * 64 * 288, 32 * 64 * 8


@pytest.mark.parametrize("rounded_result", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_graph_that_cannot_be_fused_shows(family, rounded_result, save, tmp_path):
    """ORT has no integer convolution with a float result: it converts and computes in float."""
    found = counted(family, quantized(save, rounded_result=rounded_result), tmp_path / "out")
    integer = rounded_result or family == "openvino"
    assert (found["layers"], found["macs"]) == (2, CONV + SQUARE)
    assert (found["integer_layers"], found["integer_macs"]) == (integer, CONV * integer)
    left = found["float_layers"]
    assert [layer["macs"] for layer in left] == ([SQUARE] if integer else [CONV, SQUARE])
    if family == "ort":
        assert [layer["name"] for layer in left] == (["square"] if integer else ["conv", "square"])
        assert found["conversions"] == (2 if integer else 3)


@pytest.mark.parametrize("level", [0, 4])
def test_weights_alone_count_where_the_kernel_rounds_activations(level, save, tmp_path):
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], name="product", domain="com.microsoft",
        K=64, N=16, bits=4, block_size=32, accuracy_level=level,
    )  # fmt: skip
    model = save(
        [node],
        [value("x", (3, 64))],
        [value("y", (3, 16))],
        initializers=[tensor("w", 16, 2, 16, dtype=np.uint8), tensor("s", 16, 2)],
        domains=[("com.microsoft", 1)],
    )
    found = counted("ort", model, tmp_path / "out")
    assert (found["layers"], found["macs"]) == (1, 3 * 16 * 64)
    assert found["integer_macs"] == (3 * 16 * 64 if level == 4 else 0)


def test_what_the_stock_quantizer_leaves_in_float_shows(quantized_model, tmp_path):
    """It does not quantize the results of seven convolutions, which ORT then computes in float."""
    found = {it: counted(it, quantized_model, tmp_path / it, SIZES["cls"]) for it in FAMILIES}
    assert [found[it]["layers"] for it in FAMILIES] == [54, 54]
    assert [found[it]["integer_layers"] for it in FAMILIES] == [47, 54]


def test_int8_weights_that_are_made_float_are_no_integers(save, tmp_path):
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["w_d"]),
        helper.make_node("MatMul", ["x", "w_d"], ["y"], name="product"),
    ]
    weights = [tensor("w", 64, 32, dtype=np.int8), numpy_helper.from_array(np.float32(0.1), "s")]
    model = save(nodes, [value("x", (2, 64))], [value("y", (2, 32))], initializers=weights)
    found = counted("openvino", model, tmp_path / "out")
    assert (found["layers"], found["integer_layers"]) == (1, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_loops(family, save, tmp_path):
    """A product in the body of a loop: counted as often as it ran, or said to be uncounted."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "w"], ["g"], name="inner"),
            helper.make_node("Identity", ["going"], ["on"], name="same"),
        ],
        "body",
        [
            value("i", (), TensorProto.INT64),
            value("going", (), TensorProto.BOOL),
            value("h", (4, 4)),
        ],
        [value("on", (), TensorProto.BOOL), value("g", (4, 4))],
    )
    node = helper.make_node("Loop", ["turns", "", "x"], ["y"], name="loop", body=body)
    model = save(
        [node],
        [value("x", (4, 4))],
        [value("y", (4, 4))],
        initializers=[tensor("w", 4, 4), numpy_helper.from_array(np.int64(3), "turns")],
    )
    onnx.checker.check_model(str(model))
    found = counted(family, model, tmp_path / "out")
    if family == "ort":
        assert (found["layers"], found["macs"]) == (1, 3 * 64)
    else:
        assert found["uncounted_layers"] or found["macs"] == 3 * 64
