"""Scales, zero points and integer weights against the formulas of the ONNX specification."""

from __future__ import annotations

import numpy as np
import onnx.helper
import onnx.reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from edgedeploy.quant import numerics

FLOATS = st.floats(-1e30, 1e30)


def spec(values: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int) -> np.ndarray:
    """QuantizeLinear and DequantizeLinear of the ONNX reference evaluator."""
    make = onnx.helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["q"], axis=axis),
        make("DequantizeLinear", ["q", "s", "z"], ["y"], axis=axis),
    ]
    info = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xsy"]
    kind = onnx.helper.np_dtype_to_tensor_dtype(zero.dtype)
    info.append(onnx.helper.make_tensor_value_info("z", kind, None))
    graph = onnx.helper.make_graph(nodes, "g", [info[0], info[1], info[3]], [info[2]])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    evaluator = onnx.reference.ReferenceEvaluator(model)
    return evaluator.run(None, {"x": values, "s": scale, "z": zero})[0]


@given(FLOATS, FLOATS, st.sampled_from(["uint8", "int8", "uint16", "int16"]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_quant_every_value_of_the_range_comes_back_within_half_a_step(
    first, second, dtype, symmetric
):
    low, high = sorted((first, second))
    found = numerics.activation_parameters(low, high, dtype, symmetric)
    scale, zero = np.float32(found.scale), np.dtype(dtype).type(found.zero_point)
    assert np.isfinite(scale) and scale > 0
    values = np.linspace(min(low, 0.0), max(high, 0.0), 33, dtype=np.float64).astype(np.float32)
    back = spec(values, scale, zero, 1)
    levels = np.iinfo(dtype).max - np.iinfo(dtype).min
    if max(-low, high, high - low) / levels >= numerics.LEAST_SCALE * 2:
        # The zero point is rounded, so that the ends of the range may lie one more half step out.
        assert np.max(np.abs(back.astype(np.float64) - values)) <= 1.002 * float(scale)
    assert spec(np.zeros(1, np.float32), scale, zero, 1)[0] == 0.0


@given(FLOATS, FLOATS, st.sampled_from(["uint8", "int8", "uint16", "int16"]))
@settings(max_examples=100, deadline=None)
def test_quant_symmetric_parameters_have_the_middle_as_zero_point(first, second, dtype):
    found = numerics.activation_parameters(min(first, second), max(first, second), dtype, True)
    assert found.zero_point == {"uint8": 128, "int8": 0, "uint16": 32768, "int16": 0}[dtype]
    peak = max(abs(first), abs(second))
    greatest = 127 if dtype.endswith("8") else 32767
    if peak / greatest >= numerics.LEAST_SCALE * 2:
        assert found.scale == pytest.approx(peak / greatest, rel=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"),
    [(0.0, 255.0, 1.0, 0), (-1.0, 1.54, 0.01, 100), (3.0, 5.1, 0.02, 0), (-5.1, -3.0, 0.02, 255)],
)
def test_quant_asymmetric_parameters_have_known_values(low, high, scale, zero):
    found = numerics.activation_parameters(low, high, "uint8", False)
    assert found.zero_point == zero
    assert found.scale == pytest.approx(scale, rel=1e-2)


def test_quant_a_range_of_nothing_gives_a_usable_scale():
    for low, high in ((0.0, 0.0), (0.0, 1e-40), (-1e-30, 1e-30)):
        assert numerics.activation_parameters(low, high, "uint8", False).scale == 1.0


@pytest.mark.parametrize("axis", [0, 1, 2, None])
@pytest.mark.parametrize("block_bytes", [64, 16 << 20])
def test_quant_weights_follow_the_specification_in_blocks_too(axis, block_bytes, monkeypatch):
    monkeypatch.setattr(numerics, "BLOCK_BYTES", block_bytes)
    generator = np.random.default_rng(1)
    weight = generator.normal(size=(5, 4, 3)).astype(np.float32)
    scales = numerics.weight_scales(weight, axis, 127)
    others = tuple(index for index in range(3) if index != axis) if axis is not None else None
    np.testing.assert_allclose(scales, np.abs(weight).max(axis=others) / 127, rtol=1e-6)
    stored = numerics.quantize_weight(weight, scales, axis).astype(np.float32)
    shape = [1, 1, 1]
    if axis is not None:
        shape[axis] = -1
    zero = np.zeros(scales.shape, np.int8)
    expected = spec(weight, scales, zero, 0 if axis is None else axis)
    np.testing.assert_array_equal(stored * scales.reshape(shape), expected)


@pytest.mark.parametrize("greatest", [127, 63, 7])
def test_quant_weights_of_fewer_bits_stay_within_their_range(greatest):
    weight = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    stored = numerics.quantize_weight(weight, numerics.weight_scales(weight, 0, greatest), 0)
    assert np.abs(stored).max() == greatest


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8),
    st.floats(1e-9, 10.0),
)
@settings(max_examples=100, deadline=None)
def test_quant_every_bias_fits_int32_and_comes_back(biases, activation_scale):
    """Also where the channel's weights are all zero, which gives the scale no other hold."""
    bias = np.array(biases, np.float32)
    weight = np.zeros((bias.size, 4), np.float32)
    floor = numerics.bias_floor(bias, activation_scale)
    scales = numerics.weight_scales(weight, 0, 127, floor).astype(np.float64) * activation_scale
    stored = numerics.quantize_bias(bias, scales.astype(np.float32)).astype(np.float64)
    # A bias below the least scale is as good as none.
    small = np.abs(bias) / 2**30 / activation_scale < numerics.LEAST_SCALE * 2
    back = stored * scales
    np.testing.assert_allclose(back[~small], bias[~small], rtol=1e-6)


@given(
    st.sampled_from([4, 8]),
    st.sampled_from([16, 32, 48]),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_quant_blocks_of_weights_follow_the_specification(bits, block, blocks, outputs, seed):
    """One scale per block of the input axis: the same numbers as of so many more channels."""
    generator = np.random.default_rng(seed)
    spread = 10.0 ** generator.uniform(-3, 3, (blocks, 1, outputs))
    weight = (generator.normal(size=(blocks, block, outputs)) * spread).astype(np.float32)
    rows = weight.transpose(0, 2, 1).reshape(-1, block)
    scales = numerics.weight_scales(rows, 0, 2 ** (bits - 1) - 1)
    integers = numerics.quantize_weight(rows, scales, 0)
    assert np.abs(integers).max() <= 2 ** (bits - 1) - 1
    stored = integers.reshape(blocks, outputs, block).transpose(0, 2, 1).reshape(-1, outputs)
    kind = TensorProto.INT4 if bits == 4 else TensorProto.INT8
    make = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [make("DequantizeLinear", ["q", "s"], ["y"], axis=0, block_size=block)],
        "g",
        [onnx.helper.make_tensor_value_info("s", TensorProto.FLOAT, None)],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.helper.make_tensor("q", kind, stored.shape, stored.ravel().tolist())],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    evaluator = onnx.reference.ReferenceEvaluator(model)
    back = evaluator.run(None, {"s": scales.reshape(blocks, outputs)})[0]
    error = np.abs(back.reshape(weight.shape) - weight)
    assert (error <= 0.501 * scales.reshape(blocks, 1, outputs)).all()


def float8_values() -> np.ndarray:
    """Every finite e4m3 value, from the definition: sign, 4 bits of exponent (bias 7), 3 bits."""
    found = []
    for exponent in range(16):
        for mantissa in range(8):
            if exponent == 15 and mantissa == 7:
                continue  # NaN
            power = -6 if exponent == 0 else exponent - 7
            found.append(2.0**power * (mantissa / 8 + (exponent > 0)))
    return np.array(sorted({*found, *(-value for value in found)}))


@given(st.lists(st.floats(-3.0, 3.0, width=32), min_size=2, max_size=40), st.booleans())
@settings(max_examples=200, deadline=None)
def test_quant_float8_weights_are_the_nearest_values_that_there_are(values, by_channel):
    weight = np.array([values, values[::-1]], np.float32)
    axis = 0 if by_channel else None
    scales = numerics.weight_scales(weight, axis, numerics.GREATEST_FLOAT8)
    found = numerics.float8_weight(weight, scales, axis).astype(np.float64)
    wanted = (weight / (scales[:, None] if by_channel else scales)).astype(np.float64)
    grid = float8_values()
    assert grid.max() == 448
    assert np.isin(found, grid).all()
    nearest = np.abs(wanted[..., None] - grid).min(-1)
    assert np.abs(found - wanted) == pytest.approx(nearest, abs=1e-12)


def test_quant_float8_activations_use_the_whole_range_and_keep_zero():
    found = numerics.activation_parameters(-2.0, 8.0, "float8e4m3fn", True)
    assert found.scale == np.float32(8 / 448)
    assert found.zero_point == 0
    assert numerics.activation_parameters(0.0, 0.0, "float8e4m3fn", True).scale == 1.0
    assert numerics.numpy_dtype("float8e4m3fn").itemsize == 1
