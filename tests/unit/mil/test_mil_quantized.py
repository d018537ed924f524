"""Quantization in the MIL interpreter: values by hand and by ONNX Runtime."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.mil.ops.quantized import (
    constexpr_affine_dequantize,
    constexpr_blockwise_shift_scale,
    constexpr_cast,
    constexpr_lut_to_dense,
    constexpr_lut_to_sparse,
    constexpr_sparse_blockwise_shift_scale,
    constexpr_sparse_to_dense,
    dequantize,
    quantize,
)
from edgedeploy.mil.program import Operation
from tests.unit.mil.programs import machine, tensor
from tests.unit.mil.reference import by_runtime, floats


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantize_is_the_runtimes(dtype):
    x = floats(2, 3, 40) * 5
    scale = np.array([0.1, 0.5, 0.01], np.float32)
    zero = np.array([3, 100, 0]).astype(dtype)
    (wanted,) = by_runtime("QuantizeLinear", [x, scale, zero], axis=1)
    found = quantize(x, scale, np.dtype(dtype).name, zero, np.int32(1))
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == dtype
    (wanted,) = by_runtime("DequantizeLinear", [found, scale, zero], axis=1)
    np.testing.assert_array_equal(dequantize(found, scale, zero, np.int32(1)), wanted)


def test_quantize_rounds_halves_to_even_and_saturates():
    x = np.array([0.5, 1.5, 2.5, -0.5, 1000, -1000], np.float32)
    found = quantize(x, np.float32(1), "int8", np.int8(1))
    np.testing.assert_array_equal(found, [1, 3, 3, 1, 127, -128])
    np.testing.assert_array_equal(quantize(x, np.float32(1), "uint8"), [0, 2, 2, 0, 255, 0])


@given(st.integers(-128, 127), st.integers(-128, 127))
def test_dequantize_does_not_overflow_a_byte(value, zero):
    found = dequantize(np.array([value], np.int8), np.float32(0.5), np.int8(zero))
    assert found == [(value - zero) * 0.5]


def test_a_vector_needs_an_axis():
    with pytest.raises(ValueError, match="axis"):
        dequantize(np.zeros((2, 2), np.int8), np.ones(2, np.float32))


def test_affine_constants():
    data = np.array([[0, 255], [7, 9]], np.uint8)
    scale, zero = np.array([1, 2], np.float32), np.uint8(128)
    found = constexpr_affine_dequantize(data, zero, scale, np.int32(-2))
    np.testing.assert_array_equal(found, [[-128, 127], [-242, -238]])


def test_blockwise_constants():
    data = np.arange(16, dtype=np.int8).reshape(2, 8) - 8
    scale = np.array([[1, 2, 3, 4]], np.float32)
    offset = np.array([[0, 1, 0, -8]], np.int8)
    found = constexpr_blockwise_shift_scale(data, scale, offset)
    wanted = (data - np.repeat(offset, 2, 1)) * np.repeat(scale, 2, 1)
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match="3 blocks do not divide 8"):
        constexpr_blockwise_shift_scale(data, scale[:, :3])


def test_a_half_constant_becomes_a_single_and_nothing_else():
    value = np.float32([1.5])
    np.testing.assert_array_equal(constexpr_cast(value, "fp32"), value)
    with pytest.raises(ValueError, match="fp64"):
        constexpr_cast(value, "fp64")


def test_packed_indices_have_the_lowest_bits_first():
    # The example of MIL's documentation: i0..i4 = 0 3 2 1 3, two bits each.
    packed = np.array([0b01_10_11_00, 0b11], np.uint8)
    lut = np.array([10, 11, 12, 13], np.float32)
    found = constexpr_lut_to_dense(packed, lut, np.array([5], np.uint32))
    np.testing.assert_array_equal(found, [10, 13, 12, 11, 13])


def test_indices_of_six_bits_cross_bytes():
    indices = np.array([1, 63, 2, 33], np.uint8)
    bits = (indices[:, None] >> np.arange(6)) & 1
    lut = np.arange(64, dtype=np.float32)
    packed = np.packbits(bits.astype(np.uint8), bitorder="little")
    found = constexpr_lut_to_dense(packed, lut, np.array([2, 2]))
    np.testing.assert_array_equal(found, [[1, 63], [2, 33]])


def test_each_block_has_its_table():
    # Case 1 of MIL's documentation.
    indices = np.array([2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3], np.uint8).reshape(6, 2)
    lut = np.array([1, 5, 9, 13, 2, 10, 18, 26], np.float32).reshape(2, 1, 4, 1)
    found = constexpr_lut_to_dense(indices, lut)
    wanted = [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_vectors_are_laid_along_their_axis(axis):
    # Case 2 of MIL's documentation: a0 a1 a2 are 0 1 2, b0 b1 b2 are 10 11 12.
    indices = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]], np.uint8)
    lut = np.array([[0, 1, 2], [10, 11, 12]], np.int8).reshape(1, 1, 1, 2, 3)
    found = constexpr_lut_to_dense(indices, lut, vector_axis=np.int32(axis))
    rows = [[0, 1, 2, 0, 1, 2], [10, 11, 12, 0, 1, 2]]
    wanted = np.array([rows, [[10, 11, 12, 10, 11, 12], [0, 1, 2, 0, 1, 2]]])
    if axis == 1:
        wanted = np.array(
            [
                [[0, 0], [1, 1], [2, 2], [10, 0], [11, 1], [12, 2]],
                [[10, 10], [11, 11], [12, 12], [0, 0], [1, 1], [2, 2]],
            ]
        )
    np.testing.assert_array_equal(found, wanted)


def test_sparse_constants_of_both_forms():
    wanted = [[0, 0, 5], [7, 0, 0]]
    values = np.array([5, 7], np.float32)
    found = constexpr_sparse_to_dense(values, np.array([0b1100], np.uint8), np.array([2, 3]))
    np.testing.assert_array_equal(found, wanted)
    found = constexpr_sparse_to_dense(values, np.array([[0, 0, 1], [1, 0, 0]], np.uint8))
    np.testing.assert_array_equal(found, wanted)


MASK = np.array(
    [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]], np.uint8
)


def test_sparse_indices_into_a_table():
    # The examples of MIL's documentation.
    indices = np.array([0, 1, 1, 0, 1, 1, 0, 0, 1], np.uint8)
    lut = np.array([2, 3], np.float32)
    mask, values = constexpr_lut_to_sparse(MASK, indices, lut.reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(mask, MASK)
    np.testing.assert_array_equal(values, lut[indices])
    pairs = np.repeat(lut, 2).reshape(1, 1, 2, 2)
    mask, values = constexpr_lut_to_sparse(MASK, indices, pairs, np.int32(0))
    np.testing.assert_array_equal(mask, np.repeat(MASK, 2, 0))
    dense = np.zeros(MASK.shape)
    dense[MASK != 0] = lut[indices]
    np.testing.assert_array_equal(constexpr_sparse_to_dense(values, mask), np.repeat(dense, 2, 0))


def test_sparse_values_with_a_scale():
    # The example of MIL's documentation.
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]], np.uint8)
    data = np.array([10, 11, 3, 4, 5, 6, 7, 8, 9], np.int8)
    scale, offset = np.float32([[0.1, 0.2, 0.3, 0.4]]), np.int8([[1, 2, 3, 4]])
    same, values = constexpr_sparse_blockwise_shift_scale(mask, data, scale, offset)
    np.testing.assert_array_equal(same, mask)
    np.testing.assert_allclose(values, [0.9, 1.8, 0.2, 0.4, 0.6, 0.9, 1.2, 0.7, 1.4], rtol=1e-5)


def test_before_ios_18_the_parameters_are_attributes():
    """So does coremltools write these operations, and no others."""
    attributes = {
        "name": "w",
        "quantized_data": np.array([[1, 2], [3, 4]], np.int8),
        "scale": np.array([0.5, 2], np.float16),
        "zero_point": np.int8(1),
        "axis": np.int32(0),
    }
    steps = [
        Operation(
            kind="constexpr_affine_dequantize",
            name="w",
            inputs={},
            outputs=(tensor("w", 2, 2, dtype="float16"),),
            attributes=attributes,
        )
    ]
    np.testing.assert_array_equal(machine([], steps, ["w"]).run({})["w"], [[0, 0.5], [4, 6]])
