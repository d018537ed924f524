"""The structure of QDQ models and the arithmetic that the runtime makes of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from quant_support import build, optimised_ops, pack, run, sqnr_db

from edgedeploy.backends.ortmobile.convert import canonicalise, save_optimised
from edgedeploy.errors import EdgedeployError
from edgedeploy.passes import normalise
from edgedeploy.quant import layers, storage
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.qdq import QuantizeReport, quantize
from edgedeploy.quant.scheme import RUNTIME_DEFAULTS, Scheme
from edgedeploy.quant.table import CalibrationTable

GENERATOR = np.random.default_rng(5)
TENSORRT = Scheme(**RUNTIME_DEFAULTS["tensorrt"])


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


def node(op: str, inputs: list[str], outputs: list[str], **attributes: object):
    return helper.make_node(op, inputs, outputs, **attributes)


def make(tmp_path, model, inputs, scheme=None, count=4) -> tuple[onnx.ModelProto, QuantizeReport]:
    """Calibrate on random inputs of these shapes, quantize, check and load the result."""
    samples = [{key: normal(*shape) for key, shape in inputs.items()} for _ in range(count)]
    folder = pack(tmp_path / f"pack-{len(list(tmp_path.iterdir()))}", samples)
    table = calibrate(model, folder, tmp_path / "table.json")
    report = quantize(model, table, scheme or Scheme(ranges="minmax"), tmp_path / "out")
    made = onnx.load(tmp_path / "out/model.onnx")
    onnx.checker.check_model(made, full_check=True)
    names = [item.name for item in made.graph.node]
    assert len(set(names)) == len(names)
    return made, report


@pytest.fixture(autouse=True)
def out(tmp_path):
    (tmp_path / "out").mkdir()


def ops(model: onnx.ModelProto) -> Counter[str]:
    return Counter(item.op_type for item in model.graph.node)


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def axis_of(model: onnx.ModelProto, name: str) -> int | None:
    """The axis of the DequantizeLinear that reads an initialiser."""
    (reader,) = [
        n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == name
    ]
    return next((item.i for item in reader.attribute if item.name == "axis"), None)


RESIDUAL = [
    node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
    node("Relu", ["c1"], ["r1"]),
    node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
    node("Add", ["c2", "r1"], ["a"]),
    node("Clip", ["a", "lo", "hi"], ["r2"]),
    node("MaxPool", ["r2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
    node("Conv", ["p", "w3", "b3"], ["c3"]),
    node("GlobalAveragePool", ["c3"], ["g"]),
    node("Flatten", ["g"], ["f"]),
    node("Gemm", ["f", "w4", "b4"], ["y"], transB=1),
]


def residual_net(tmp_path, opset=17):
    constants = {
        **{
            "w1": normal(8, 3, 3, 3),
            "b1": normal(8),
            "w2": normal(8, 8, 3, 3) / 8,
            "b2": normal(8),
        },
        **{"w3": normal(8, 8, 1, 1), "b3": normal(8), "w4": normal(5, 8), "b4": normal(5)},
        **{"lo": np.float32(0), "hi": np.float32(60)},
    }
    return build(tmp_path, RESIDUAL, constants, {"x": ("n", 3, 16, 16)}, ["y"], opset=opset)


def test_quant_every_layer_of_a_residual_net_runs_on_integer_kernels(tmp_path):
    model = residual_net(tmp_path)
    _, report = make(tmp_path, model, {"x": (2, 3, 16, 16)})
    assert report.kept == ()
    assert report.ops["Conv"] == 3
    assert report.ops["Gemm"] == 1
    found = optimised_ops(tmp_path / "out/model.onnx", tmp_path)
    assert found["QLinearConv"] == 3
    assert found["QGemm"] == 1
    assert found["QLinearAdd"] == 1
    assert found["QLinearGlobalAveragePool"] == 1
    assert not {"Conv", "Gemm", "Add", "Relu", "Clip"} & set(found)
    x = {"x": normal(2, 3, 16, 16)}
    assert sqnr_db(run(model, x), run(tmp_path / "out/model.onnx", x)) > 25


@pytest.mark.parametrize("opset", [13, 15])
def test_quant_takes_every_opset_that_the_normal_form_keeps(opset, tmp_path):
    """Magika's and Silero's models are of opset 15, and stay so."""
    assert normalise._OLDEST_KEPT_OPSET == layers.MINIMUM_OPSET
    model = residual_net(tmp_path, opset)
    made, report = make(tmp_path, model, {"x": (2, 3, 16, 16)})
    assert made.opset_import[0].version == opset
    assert report.ops["Conv"] == 3
    x = {"x": normal(2, 3, 16, 16)}
    assert sqnr_db(run(model, x), run(tmp_path / "out/model.onnx", x)) > 25


def test_quant_inputs_and_outputs_stay_float_and_activations_have_one_pair(tmp_path):
    made, report = make(tmp_path, residual_net(tmp_path), {"x": (2, 3, 16, 16)})
    for item in (*made.graph.input, *made.graph.output):
        assert item.type.tensor_type.elem_type == TensorProto.FLOAT
    assert [item.name for item in made.graph.output] == ["y"]
    quantized = [item.input[0] for item in made.graph.node if item.op_type == "QuantizeLinear"]
    assert len(set(quantized)) == len(quantized) == report.activations
    assert "y" not in quantized
    assert "c1" not in quantized  # the Relu is folded: its result is what is quantized
    assert {item.domain for item in made.opset_import} == {""}


def test_quant_same_range_ops_share_their_operands_parameters(tmp_path):
    made, _ = make(tmp_path, residual_net(tmp_path), {"x": (2, 3, 16, 16)})
    pairs = {
        n.input[0]: tuple(n.input[1:]) for n in made.graph.node if n.op_type == "QuantizeLinear"
    }
    assert pairs["r2"] == pairs["p"]
    assert pairs["g"] == pairs["f"]
    assert pairs["c3"] != pairs["g"]


def test_quant_a_graph_output_that_is_quantized_keeps_its_name(tmp_path):
    nodes = [node("Conv", ["x", "w"], ["y"]), node("Conv", ["y", "v"], ["z"])]
    constants = {"w": normal(4, 3, 1, 1), "v": normal(2, 4, 1, 1)}
    model = build(tmp_path, nodes, constants, {"x": (1, 3, 5, 5)}, ["y", "z"])
    made, _ = make(tmp_path, model, {"x": (1, 3, 5, 5)})
    assert [item.name for item in made.graph.output] == ["y", "z"]
    assert optimised_ops(tmp_path / "out/model.onnx", tmp_path)["QLinearConv"] == 2
    x = {"x": normal(1, 3, 5, 5)}
    assert sqnr_db(run(model, x), run(tmp_path / "out/model.onnx", x)) > 25


AXES = {
    "conv": (node("Conv", ["x", "w"], ["y"]), (6, 4, 1, 1), (1, 4, 3, 3), 0),
    "conv_transpose": (node("ConvTranspose", ["x", "w"], ["y"]), (4, 6, 2, 2), (1, 4, 3, 3), 1),
    "conv_transpose_groups": (
        node("ConvTranspose", ["x", "w"], ["y"], group=2),
        (4, 3, 2, 2),
        (1, 4, 3, 3),
        None,
    ),
    "gemm": (node("Gemm", ["x", "w"], ["y"]), (4, 6), (3, 4), 1),
    "gemm_transposed": (node("Gemm", ["x", "w"], ["y"], transB=1), (6, 4), (3, 4), 0),
    "matmul": (node("MatMul", ["x", "w"], ["y"]), (4, 6), (2, 3, 4), 1),
    "matmul_weight_left": (node("MatMul", ["w", "x"], ["y"]), (6, 4), (4, 3), None),
    "matmul_batched_weight": (node("MatMul", ["x", "w"], ["y"]), (2, 4, 6), (2, 3, 4), None),
}


@pytest.mark.parametrize("case", AXES)
@pytest.mark.parametrize("per_channel", [True, False])
def test_quant_weight_axes(case, per_channel, tmp_path):
    operation, weight_shape, input_shape, axis = AXES[case]
    weight = normal(*weight_shape)
    model = build(tmp_path, [operation], {"w": weight}, {"x": input_shape}, ["y"])
    scheme = Scheme(
        ops=("Conv", "ConvTranspose", "Gemm", "MatMul"), per_channel=per_channel, ranges="minmax"
    )
    made, report = make(tmp_path, model, {"x": input_shape}, scheme)
    assert report.quantized
    axis = axis if per_channel else None
    assert axis_of(made, "w_quantized") == axis
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    expected = np.abs(weight).max(axis=others) / 127
    np.testing.assert_allclose(weights(made)["w_scale"], expected, rtol=1e-6)
    x = {"x": normal(*input_shape) / 2}  # inside the calibrated range
    wanted, path = run(model, x), tmp_path / "out/model.onnx"
    found = sqnr_db(wanted, run(path, x)), sqnr_db(wanted, run(path, x, optimise=True))
    assert min(found) > 20


def test_quant_tied_weights_are_stored_once_and_conflicting_axes_apart(tmp_path):
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["a", "w"], ["b"]),
        node("Gemm", ["c", "w"], ["d"], transB=1),
        node("Mul", ["c", "w"], ["e"]),
    ]
    model = build(
        tmp_path, nodes, {"w": normal(4, 4)}, {"x": (1, 3, 4), "c": (4, 4)}, ["b", "d", "e"]
    )
    made, _ = make(tmp_path, model, {"x": (1, 3, 4), "c": (4, 4)})
    stored = {
        name: item
        for name, item in weights(made).items()
        if item.dtype == np.int8 and item.ndim == 2
    }
    assert len(stored) == 2  # one along axis 1 for both MatMul, one along axis 0 for Gemm
    assert weights(made)["w"].dtype == np.float32  # Mul still reads it


def test_quant_a_weight_that_is_an_output_stays_one(tmp_path):
    weight = normal(4, 3)
    model = build(
        tmp_path, [node("MatMul", ["x", "w"], ["y"])], {"w": weight}, {"x": (1, 2, 4)}, ["y", "w"]
    )
    made, report = make(tmp_path, model, {"x": (1, 2, 4)})
    assert report.quantized
    np.testing.assert_array_equal(weights(made)["w"], weight)


def test_quant_the_int32_bias_is_exact_where_weights_vanish(tmp_path):
    """A channel of zero weights takes its scale from the bias alone, not from rounding noise."""
    weight, bias = normal(4, 3, 1, 1), np.array([0.25, -7.5, 1e-3, 300.0], np.float32)
    weight[1], weight[3] = 0.0, 1e-9
    model = build(
        tmp_path,
        [node("Conv", ["x", "w", "b"], ["y"])],
        {"w": weight, "b": bias},
        {"x": (1, 3, 4, 4)},
        ["y"],
    )
    scheme = Scheme(quantized_outputs=())
    made, _ = make(tmp_path, model, {"x": (1, 3, 4, 4)}, scheme)
    stored = [item for item in weights(made).values() if item.dtype == np.int32 and item.any()]
    assert len(stored) == 1
    x = np.zeros((1, 3, 4, 4), np.float32)
    found = run(tmp_path / "out/model.onnx", {"x": x})[0, :, 0, 0]
    np.testing.assert_allclose(found[[1, 3]], bias[[1, 3]], rtol=1e-6)
    np.testing.assert_allclose(found, bias, atol=1e-4)  # one unit of the accumulator


def test_quant_a_layer_kept_float_between_integer_ones_is_float_in_the_artifact(tmp_path):
    """The runtime's own optimiser would give its weights one int8 scale in all."""
    nodes = [
        node("Conv", ["x", "w1"], ["a"]),
        node("Conv", ["a", "w2"], ["b"], name="kept"),
        node("Conv", ["b", "w3"], ["y"]),
    ]
    spread = np.float32(10) ** np.arange(-6, 2, dtype=np.float32)  # of the channels' weights
    constants = {
        "w1": normal(8, 3, 1, 1),
        "w2": normal(8, 8, 1, 1) * spread.reshape(8, 1, 1, 1),
        "w3": normal(2, 8, 1, 1) / spread.reshape(1, 8, 1, 1),
    }
    model = build(tmp_path, nodes, constants, {"x": (1, 3, 5, 5)}, ["y"])
    scheme = Scheme(keep_float=("kept",), ranges="minmax")
    make(tmp_path, model, {"x": (1, 3, 5, 5)}, scheme)
    save_optimised(tmp_path / "out/model.onnx", tmp_path / "m.ort", arm=False, quantized=True)
    found = canonicalise(tmp_path / "m.ort", tmp_path / "c.ort", tmp_path / "s.ort").kernels
    assert {name: found.get(name, 0) for name in ("ai.onnx:QLinearConv", "ai.onnx:Conv")} == {
        "ai.onnx:QLinearConv": 2,
        "ai.onnx:Conv": 1,
    }


def test_quant_tensorrt_gets_symmetric_int8_and_no_integer_bias(tmp_path):
    made, _ = make(tmp_path, residual_net(tmp_path), {"x": (2, 3, 16, 16)}, TENSORRT)
    constants = weights(made)
    assert not any(item.dtype in (np.int32, np.uint8) for item in constants.values())
    for item in made.graph.node:
        if item.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not constants[item.input[2]].any()


def test_quant_embeddings_are_looked_up_as_int8(tmp_path):
    nodes = [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Gather", ["t", "i"], ["y"])]
    table = normal(50, 8)
    model = build(tmp_path, nodes, {"t": table}, {"x": ("n",)}, ["y"])
    ids = np.array([3, 49, 0], np.float32)
    folder = pack(tmp_path / "p", [{"x": ids}])
    quantize(model, calibrate(model, folder, tmp_path / "t.json"), Scheme(), tmp_path / "out")
    found = run(tmp_path / "out/model.onnx", {"x": ids})
    half_steps = np.abs(table).max(axis=0) / 254  # of each column
    assert (np.abs(found - table[[3, 49, 0]]) <= half_steps * 1.001).all()
    made = onnx.load(tmp_path / "out/model.onnx")
    assert weights(made)["t_quantized"].dtype == np.int8
    assert [item.op_type for item in made.graph.node] == ["Cast", "Gather", "DequantizeLinear"]
    # The rows are made float, never the table: also after the runtime's own optimisation.
    assert not any(
        array.shape == table.shape and array.dtype == np.float32
        for array in optimised_weights(tmp_path)
    )


def optimised_weights(folder) -> list[np.ndarray]:
    optimised_ops(folder / "out/model.onnx", folder)
    return list(weights(onnx.load(folder / "optimised.onnx")).values())


@pytest.mark.parametrize("shape", [(4, 5, 6), (30, 8)])
def test_quant_a_gather_that_looks_up_no_rows_stays_float(shape, tmp_path):
    """Anchors and grids are no embeddings: their numbers are positions."""
    nodes = [
        node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        node("Gather", ["t", "i"], ["g"], axis=1),
        node("Identity", ["g"], ["y"]),
    ]
    model = build(tmp_path, nodes, {"t": normal(*shape)}, {"x": ("n",)}, ["y"])
    folder = pack(tmp_path / "p", [{"x": np.zeros(2, np.float32)}])
    with pytest.raises(EdgedeployError) as caught:
        quantize(model, calibrate(model, folder, tmp_path / "t.json"), Scheme(), tmp_path / "out")
    assert caught.value.diagnostics[0].code == "E262"


def test_quant_values_that_were_empty_or_constant_do_no_harm(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Mul", ["a", "zero"], ["z"]),
        node("Conv", ["z", "w2"], ["y"]),
    ]
    constants = {
        "w": normal(4, 3, 1, 1),
        "w2": normal(2, 4, 1, 1),
        "zero": np.zeros((1, 1, 1, 3), np.float32),
    }
    model = build(tmp_path, nodes, constants, {"x": ("n", 3, 3, 3)}, ["y"])
    make(tmp_path, model, {"x": (1, 3, 3, 3)})
    assert not run(tmp_path / "out/model.onnx", {"x": normal(1, 3, 3, 3)}, optimise=True).any()
    with pytest.raises(EdgedeployError) as caught:
        make(tmp_path, model, {"x": (0, 3, 3, 3)})
    assert caught.value.diagnostics[0].code == "E262"
    assert "empty" in str(caught.value)


def test_quant_subgraphs_stay_float_and_read_the_float_weight(tmp_path):
    body = helper.make_graph(
        [node("MatMul", ["x", "w"], ["then_y"], name="inside")],
        "then",
        [],
        [helper.make_tensor_value_info("then_y", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [node("Identity", ["a"], ["else_y"], name="pass")],
        "else",
        [],
        [helper.make_tensor_value_info("else_y", TensorProto.FLOAT, None)],
    )
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="outside"),
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["positive"]),
        node("If", ["positive"], ["y"], then_branch=body, else_branch=other),
    ]
    constants = {"w": normal(4, 4), "zero": np.float32(0)}
    model = build(tmp_path, nodes, constants, {"x": (2, 3, 4)}, ["y"])
    _, report = make(tmp_path, model, {"x": (2, 3, 4)})
    assert report.quantized == ("outside",)
    assert [(item.node, item.reason) for item in report.kept] == [("inside", "it is in a subgraph")]
    for sign in (1, -1):
        x = {"x": sign * np.abs(normal(2, 3, 4)) / 2}
        assert sqnr_db(run(model, x), run(tmp_path / "out/model.onnx", x)) > 20


def test_quant_exclusions_are_kept_and_reported(tmp_path):
    model = residual_net(tmp_path)
    scheme = Scheme(keep_float=("conv_2",), keep_float_roles=("first",), keep_float_ops=("Gemm",))
    _, report = make(tmp_path, model, {"x": (2, 3, 16, 16)}, scheme)
    reasons = {item.node: item.reason for item in report.kept}
    assert reasons == {
        "conv_0": "the scheme keeps first layers in float",
        "conv_2": "the profile keeps it in float",
        "gemm_9": "the scheme keeps Gemm in float",
    }
    assert report.ops == {"Conv": 1}


@pytest.mark.parametrize(
    ("scheme", "code"),
    [(Scheme(keep_float=("conv_0", "nope*")), "E266"), (Scheme(ops=("MatMul",)), "E262")],
)
def test_quant_a_scheme_that_does_nothing_is_refused(scheme, code, tmp_path):
    with pytest.raises(EdgedeployError) as caught:
        make(tmp_path, residual_net(tmp_path), {"x": (2, 3, 16, 16)}, scheme)
    assert caught.value.diagnostics[0].code == code


def test_quant_a_table_of_another_model_is_refused(tmp_path):
    with pytest.raises(EdgedeployError) as caught:
        quantize(
            residual_net(tmp_path),
            CalibrationTable(samples=1, tensors={}),
            Scheme(),
            tmp_path / "out",
        )
    assert caught.value.diagnostics[0].code == "E263"


def test_quant_a_quantized_model_is_not_quantized_again(tmp_path):
    make(tmp_path, residual_net(tmp_path), {"x": (2, 3, 16, 16)})
    with pytest.raises(EdgedeployError) as caught:
        quantize(
            tmp_path / "out/model.onnx",
            CalibrationTable.read(tmp_path / "table.json"),
            Scheme(),
            tmp_path,
        )
    assert caught.value.diagnostics[0].code == "E268"


def test_quant_the_same_input_gives_the_same_bytes(tmp_path):
    model = residual_net(tmp_path)
    make(tmp_path, model, {"x": (2, 3, 16, 16)})
    table = CalibrationTable.read(tmp_path / "table.json")
    digests = set()
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        quantize(model, table, Scheme(ranges="minmax"), folder)
        digests.add(hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest())
    digests.add(hashlib.sha256((tmp_path / "out/model.onnx").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_quant_big_models_get_their_weights_beside_them(tmp_path, monkeypatch):
    model = residual_net(tmp_path)
    make(tmp_path, model, {"x": (2, 3, 16, 16)})
    x = {"x": normal(2, 3, 16, 16)}
    expected = run(tmp_path / "out/model.onnx", x)
    monkeypatch.setattr(storage, "INLINE_BYTES", 100)
    outside = tmp_path / "outside"
    outside.mkdir()
    ir.save(ir.load(model), outside / "in.onnx", external_data="in.data", size_threshold_bytes=0)
    big = tmp_path / "big"
    big.mkdir()
    table = CalibrationTable.read(tmp_path / "table.json")
    quantize(outside / "in.onnx", table, Scheme(ranges="minmax"), big)
    assert sorted(item.name for item in big.iterdir()) == ["model.onnx", "model.onnx.data"]
    np.testing.assert_array_equal(run(big / "model.onnx", x), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_quant_openvino_computes_what_the_model_says_on_dynamic_shapes(bias, tmp_path):
    """Squeeze and excitation: several nodes read the result of an integer convolution."""
    import openvino

    nodes = [
        node("Conv", ["x", "w", *(["b"] if bias else [])], ["c"]),
        node("GlobalAveragePool", ["c"], ["g"]),
        node("Sigmoid", ["g"], ["h"]),
        node("Mul", ["c", "h"], ["y"]),
    ]
    constants = {"w": normal(32, 16, 1, 1), "b": normal(32)}
    model = build(tmp_path, nodes, constants, {"x": ("n", 16, "h", "w")}, ["y"])
    scheme = replace(Scheme(**RUNTIME_DEFAULTS["openvino"]), ranges="minmax")
    make(tmp_path, model, {"x": (1, 16, 8, 8)}, scheme)
    path, x = tmp_path / "out/model.onnx", {"x": normal(1, 16, 8, 8)}
    core = openvino.Core()
    read = core.read_model(str(path))
    kinds = Counter(item.get_type_name() for item in read.get_ops())
    assert kinds["FakeQuantize"] == 1
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert sqnr_db(run(path, x), compiled(x)[0]) > 60


@pytest.mark.parametrize("outputs", [["y"], ["y", "e"]])
def test_quant_a_product_reads_what_was_looked_up(outputs, tmp_path):
    """The rows are int8, dequantized, and quantized again with the scale of an activation."""
    nodes = [
        node("Cast", ["x"], ["index"], to=TensorProto.INT64),
        node("Gather", ["words", "index"], ["e"]),
        node("MatMul", ["e", "w"], ["y"]),
    ]
    constants = {"words": normal(20, 6), "w": normal(6, 5)}
    model = build(tmp_path, nodes, constants, {"x": ("n",)}, outputs)
    samples = [{"x": np.float32([n, n + 1])} for n in range(19)]
    table = calibrate(model, pack(tmp_path / "pack", samples), tmp_path / "table.json")
    report = quantize(model, table, Scheme(ranges="minmax"), tmp_path / "out")
    assert report.ops == {"Gather": 1, "MatMul": 1} and report.activations == 1
    onnx.checker.check_model(onnx.load(tmp_path / "out/model.onnx"), full_check=True)
    x = {"x": np.float32([3, 11, 7])}
    assert sqnr_db(run(model, x), run(tmp_path / "out/model.onnx", x)) > 30


def test_quant_a_bias_by_row_is_no_bias_of_channels(tmp_path):
    """A Gemm may add a column; it is as long as the channels where the result is square."""
    nodes = [node("Gemm", ["x", "w", "c"], ["y"])]
    constants = {"w": normal(4, 4), "c": normal(4, 1) * 10}
    model = build(tmp_path, nodes, constants, {"x": (4, 4)}, ["y"])
    make(tmp_path, model, {"x": (4, 4)}, Scheme(ranges="minmax", bias_correction=True), count=16)
    x = {"x": normal(4, 4)}
    assert sqnr_db(run(model, x), run(tmp_path / "out/model.onnx", x)) > 30
