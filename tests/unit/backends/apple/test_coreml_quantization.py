"""Quantized operators in Core ML packages: what they compute, and what stays integer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.errors import BuildError
from edgedeploy.mil.interpreter import operations
from tests.coreml.harness import Converted

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(7)
FLOAT = TensorProto.FLOAT


def model(
    nodes: list[Any],
    inputs: dict[str, np.ndarray],
    outputs: dict[str, tuple[int, int]],
    constants: dict[str, Any],
) -> onnx.ModelProto:
    """Return a model; outputs have a type and a rank, constants are arrays or finished tensors."""
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, kind, (None,) * rank)
            for name, (kind, rank) in outputs.items()
        ],
        [
            value
            if isinstance(value, TensorProto)
            else numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
        ],
    )
    sets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=10)


def unoptimised(source: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return what ONNX Runtime says without optimisation."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        source.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)


def check(
    source: onnx.ModelProto,
    inputs: dict[str, np.ndarray],
    ios: int = 17,
    tolerance: float = 0.0,
) -> Converted:
    """Convert, run, and compare with ONNX Runtime."""
    made = Converted(source, ios=ios)
    found = list(made.run(inputs).values())
    for mine, true in zip(found, unoptimised(source, inputs), strict=True):
        assert mine.shape == true.shape and mine.dtype == true.dtype
        true = true.astype(np.float64)
        np.testing.assert_allclose(
            mine.astype(np.float64), true, rtol=0, atol=tolerance * np.abs(true).max()
        )
    return made


def kinds(made: Converted) -> list[str]:
    """Return the kinds of all operations of a package."""
    return [item.kind for item in operations(made.program.body)]


def pair(name: str, zero: str | None = None, axis: int | None = None) -> list[Any]:
    """Return the Q/DQ pair of a value: ``NAME`` -> ``NAME_dq``, with its ``NAME_scale``."""
    given = [f"{name}_scale", *([zero] if zero else [])]
    words = {} if axis is None else {"axis": axis}
    return [
        helper.make_node("QuantizeLinear", [name, *given], [f"{name}_q"], **words),
        helper.make_node("DequantizeLinear", [f"{name}_q", *given], [f"{name}_dq"], **words),
    ]


def convolution(dtype: type, weights: np.ndarray) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return a convolution between pairs, with int8 weights per channel and an int32 bias."""
    x = RNG.normal(size=(1, weights.shape[1], 9, 9)).astype(np.float32)
    scales = RNG.uniform(0.002, 0.02, weights.shape[0]).astype(np.float32)
    constants = {
        "x_scale": np.float32(0.03),
        "x_zero": dtype(3),
        "y_scale": np.float32(0.05),
        "w": weights,
        "w_scale": scales,
        "w_zero": np.zeros(len(scales), np.int8),
        "b": RNG.integers(-900, 900, len(scales)).astype(np.int32),
        "b_scale": np.float32(0.03) * scales,
    }
    nodes = [
        *pair("x", "x_zero"),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_dq"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "b_scale"], ["b_dq"], axis=0),
        helper.make_node("Conv", ["x_dq", "w_dq", "b_dq"], ["y"], pads=[1, 1, 1, 1]),
        *pair("y", "x_zero"),
    ]
    return model(nodes, {"x": x}, {"y_dq": (FLOAT, 4)}, constants), {"x": x}


def weight_bytes(folder: Path) -> int:
    """Return the bytes of the weights of the package in a folder."""
    return sum(path.stat().st_size for path in folder.glob("*.mlpackage/**/*.bin"))


@pytest.mark.parametrize(
    ("ios", "kind"),
    [(17, "constexpr_affine_dequantize"), (18, "constexpr_blockwise_shift_scale")],
)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_a_quantized_convolution_keeps_its_form(ios: int, kind: str, dtype: type) -> None:
    weights = RNG.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
    source, inputs = convolution(dtype, weights)
    made = check(source, inputs, ios, tolerance=1e-6)
    found = kinds(made)
    assert found.count("quantize") == found.count("dequantize") == 2
    assert found.count(kind) == 1
    (conv,) = (item for item in operations(made.program.body) if item.kind == "conv")
    assert "bias" in conv.inputs


@pytest.mark.parametrize("ios", [17, 18])
def test_int8_weights_are_int8_in_the_file(tmp_path: Path, ios: int) -> None:
    weights = RNG.integers(-127, 128, (64, 64, 3, 3)).astype(np.int8)
    source, _ = convolution(np.int8, weights)
    Converted(source, ios=ios, precision="float16", folder=tmp_path)
    assert weights.size <= weight_bytes(tmp_path) < 1.1 * weights.size


def product(rows: int, columns: int, block: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return a product with int4 weights and a scale per block of inputs."""
    x = RNG.normal(size=(5, rows)).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "w_scale"], ["w_dq"], axis=0, block_size=block),
        helper.make_node("MatMul", ["x", "w_dq"], ["y"]),
    ]
    values = RNG.integers(-8, 8, rows * columns)
    constants = {
        "w": helper.make_tensor("w", TensorProto.INT4, (rows, columns), values),
        "w_scale": RNG.uniform(0.01, 0.1, (-(-rows // block), columns)).astype(np.float32),
    }
    return model(nodes, {"x": x}, {"y": (FLOAT, 2)}, constants), {"x": x}


@pytest.mark.parametrize("rows", [64, 72])
def test_four_bit_blocks_need_ios_18_and_stay_four_bits(tmp_path: Path, rows: int) -> None:
    """72 rows are two blocks of 32 and one of 8, which becomes nine blocks of 8."""
    source, inputs = product(rows, 640, 32)
    check(source, inputs, ios=18, tolerance=1e-6)
    Converted(source, ios=18, folder=tmp_path)
    assert rows * 640 / 2 < weight_bytes(tmp_path) < rows * 640 * (0.75 if rows == 64 else 1.1)
    with pytest.raises(BuildError) as caught:
        Converted(source, ios=17)
    (found,) = caught.value.diagnostics
    assert found.code == "E340" and "block" in found.message and "iOS 18" in str(found.hint)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_products_of_the_engine_with_blocks(bits: int, zeros: bool) -> None:
    """com.microsoft.MatMulNBits, as `quantize: w4` writes it; K is no multiple of the block."""
    k, n, block = 40, 24, 32
    blocks = -(-k // block)
    constants: dict[str, Any] = {
        "w": RNG.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8),
        "s": RNG.uniform(0.01, 0.1, n * blocks).astype(np.float32),
    }
    names = ["x", "w", "s"]
    if zeros:
        constants["z"] = RNG.integers(0, 256, n * -(-blocks * bits // 8)).astype(np.uint8)
        names.append("z")
    node = helper.make_node(
        "MatMulNBits", names, ["y"], domain="com.microsoft", K=k, N=n, bits=bits, block_size=block
    )
    x = RNG.normal(size=(2, 3, k)).astype(np.float32)
    check(model([node], {"x": x}, {"y": (FLOAT, 3)}, constants), {"x": x}, 18, tolerance=1e-5)


def test_a_reshape_between_other_scales_is_no_integer_reshape() -> None:
    """coremltools' int_op_canonicalization would reshape the integers and lose one scale."""
    x = RNG.normal(size=(2, 12)).astype(np.float32)
    nodes = [*pair("x"), helper.make_node("Reshape", ["x_dq", "shape"], ["y"]), *pair("y")]
    constants = {
        "x_scale": np.float32(0.02),
        "y_scale": np.float32(0.05),
        "shape": np.array([4, 6], np.int64),
    }
    made = check(model(nodes, {"x": x}, {"y_dq": (FLOAT, 2)}, constants), {"x": x}, tolerance=1e-6)
    assert kinds(made).count("quantize") == 2


def test_the_scales_of_an_addition_stay_as_they_are() -> None:
    """coremltools would divide them by each other."""
    x = RNG.normal(size=(4, 8)).astype(np.float32)
    y = (RNG.normal(size=(4, 8)) * 5e4).astype(np.float32)
    nodes = [*pair("x"), *pair("y"), helper.make_node("Add", ["x_dq", "y_dq"], ["z"]), *pair("z")]
    scales = {"x_scale": 0.002, "y_scale": 400.0, "z_scale": 500.0}
    constants = {name: np.float32(value) for name, value in scales.items()}
    source = model(nodes, {"x": x, "y": y}, {"z_dq": (FLOAT, 2)}, constants)
    made = check(source, {"x": x, "y": y}, tolerance=1e-6)
    body = list(operations(made.program.body))
    known = {item.name: item.attributes["val"] for item in body if item.kind == "const"}
    refs = [item.inputs["scale"][0] for item in body if item.kind == "dequantize"]
    values = sorted(float(known[ref.name] if hasattr(ref, "name") else ref) for ref in refs)
    np.testing.assert_allclose(values, sorted(scales.values()), rtol=1e-6)


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
def test_conversions_round_and_clip_as_onnx_does(dtype: type, axis: int | None) -> None:
    """Halves go to the even integer, what is beyond the limits to the limits."""
    x = np.concatenate([np.arange(-6, 6) * 0.5 + 0.25, [1e6, -1e6, 0, 1e-9]])
    x = np.tile(x, (3, 1)).T.astype(np.float32)
    scale = np.array([0.5, 0.25, 8.0], np.float32) if axis else np.float32(0.5)
    zero = np.array([0, 5, 100], dtype) if axis else dtype(9)
    source = model(
        pair("x", "zero", axis),
        {"x": x},
        {"x_q": (helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), 2), "x_dq": (FLOAT, 2)},
        {"x_scale": scale, "zero": zero},
    )
    check(source, {"x": x})


@pytest.mark.parametrize("ios", [16, 17])
def test_ranges_that_are_found_at_run_time(ios: int) -> None:
    names = ["y", "scale", "zero"]
    node = helper.make_node("DynamicQuantizeLinear", ["x"], names)
    kinds_of = ((TensorProto.UINT8, 2), (FLOAT, 0), (TensorProto.UINT8, 0))
    for low, high in ((-3.0, 5.0), (1.0, 2.0), (-2.0, -1.0), (0.0, 0.0)):
        x = np.linspace(low, high, 24, dtype=np.float32).reshape(4, 6)
        outputs = dict(zip(names, kinds_of, strict=True))
        check(model([node], {"x": x}, outputs, {}), {"x": x}, ios, tolerance=1e-7)


def integers(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Return random integers of all sizes."""
    bounds = np.iinfo(dtype)
    return RNG.integers(bounds.min, bounds.max + 1, shape).astype(dtype)


@pytest.mark.parametrize("depth", [17, 2100])
def test_integer_products_are_exact(depth: int) -> None:
    """2100 products of 255 x 128 are beyond 2^24: the sum is split."""
    x = np.full((2, depth), 255, np.uint8)
    x[1] = integers((depth,), np.uint8)
    w = np.full((depth, 3), -128, np.int8)
    w[:, 1:] = integers((depth, 2), np.int8)
    node = helper.make_node("MatMulInteger", ["x", "w", "xz", "wz"], ["y"])
    constants = {"w": w, "xz": np.uint8(0), "wz": np.int8(0)}
    source = model([node], {"x": x}, {"y": (TensorProto.INT32, 2)}, constants)
    wanted = x.astype(np.int64) @ w.astype(np.int64)
    for precision in ("float32", "float16"):
        found = Converted(source, precision=precision).run({"x": x})["y"]
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("channels", [3, 200])
def test_integer_convolutions_are_exact(channels: int) -> None:
    x = integers((1, channels, 6, 6), np.uint8)
    w = integers((4, channels, 3, 3), np.uint8)
    w[0] = 255
    x[0, :, :4, :4] = 255
    node = helper.make_node("ConvInteger", ["x", "w", "xz"], ["y"], pads=[1, 1, 1, 1])
    constants = {"w": w, "xz": np.uint8(0)}
    check(model([node], {"x": x}, {"y": (TensorProto.INT32, 4)}, constants), {"x": x})


def test_a_quantized_convolution_in_operator_form() -> None:
    x = integers((1, 3, 7, 7), np.uint8)
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(120),
        "w": integers((5, 3, 3, 3), np.int8),
        "ws": RNG.uniform(0.01, 0.03, 5).astype(np.float32),
        "wz": np.zeros(5, np.int8),
        "ys": np.float32(0.9),
        "yz": np.uint8(128),
        "b": RNG.integers(-4000, 4000, 5).astype(np.int32),
    }
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", names, ["y"], strides=[2, 2])
    check(model([node], {"x": x}, {"y": (TensorProto.UINT8, 4)}, constants), {"x": x})


def test_a_quantized_product_in_operator_form() -> None:
    a = integers((2, 4, 8), np.uint8)
    constants = {
        "as": np.float32(0.02),
        "az": np.uint8(113),
        "b": integers((8, 3), np.uint8),
        "bs": np.float32(0.03),
        "bz": np.uint8(114),
        "ys": np.float32(0.4),
        "yz": np.uint8(118),
    }
    names = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    node = helper.make_node("QLinearMatMul", names, ["y"])
    check(model([node], {"a": a}, {"y": (TensorProto.UINT8, 3)}, constants), {"a": a})


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_weights_stay_int8(tmp_path: Path, op: str, gates: int) -> None:
    """Both directions, one scale per row: the gates change places, and their scales with them."""
    inputs, hidden, rows = 48, 64, gates * 64
    x = RNG.normal(size=(5, 1, inputs)).astype(np.float32)
    constants = {
        "w": integers((2, rows, inputs), np.int8),
        "r": integers((2, rows, hidden), np.int8),
        "w_scale": RNG.uniform(1e-4, 2e-3, rows).astype(np.float32),
        "r_scale": RNG.uniform(1e-4, 2e-3, rows).astype(np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "w_scale"], ["w_dq"], axis=1),
        helper.make_node("DequantizeLinear", ["r", "r_scale"], ["r_dq"], axis=1),
        helper.make_node(
            op, ["x", "w_dq", "r_dq"], ["y"], hidden_size=hidden, direction="bidirectional"
        ),
    ]
    source = model(nodes, {"x": x}, {"y": (FLOAT, 4)}, constants)
    check(source, {"x": x}, tolerance=1e-5)
    half = Converted(source, precision="float16", folder=tmp_path).run({"x": x})["y"]
    assert np.abs(half - unoptimised(source, {"x": x})[0]).max() < 5e-3
    size = 2 * rows * (inputs + hidden)
    assert size < weight_bytes(tmp_path) < 1.2 * size + 10_000
