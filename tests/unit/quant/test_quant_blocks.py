"""Integer weights and back, as the ONNX specification and the runtimes' own kernels read them."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx.helper
import onnx.reference
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from edgedeploy.quant import blocks, numerics

BLOCKS = st.sampled_from([16, 32, 64])
SEEDS = st.integers(0, 2**32 - 1)


def weights(seed: int, *shape: int) -> np.ndarray:
    """Normal numbers whose scale differs from column to column by orders of magnitude."""
    generator = np.random.default_rng(seed)
    spread = generator.lognormal(0.0, 2.0, (1, shape[-1]))
    return (generator.normal(size=shape) * spread).astype(np.float32)


def levels(packed: np.ndarray) -> np.ndarray:
    """The signed integers of packed bytes, ``[outputs, inputs]``; the low half comes first."""
    halves = np.stack([packed & 15, packed >> 4], axis=-1).astype(np.int8) - 8
    return halves.reshape(packed.shape[0], -1)


def specified(op: Callable, inputs: dict[str, np.ndarray], opset: int = 21) -> np.ndarray:
    """What the ONNX reference evaluator makes of one node."""
    infos = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in inputs.items()
    ]
    result = onnx.helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)
    graph = onnx.helper.make_graph([op], "g", infos, [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return onnx.reference.ReferenceEvaluator(model).run(None, inputs)[0]


@given(SEEDS, st.integers(1, 130), st.integers(1, 9), BLOCKS, st.booleans(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_quant_packed_levels_are_those_that_the_specification_quantizes_to(
    seed, inputs, outputs, block, inputs_last, in_parts
):
    """Blocked QuantizeLinear to int4 (opset 21) gives the same integers from the same scales."""
    weight = weights(seed, inputs, outputs)
    given_weight = np.ascontiguousarray(weight.T) if inputs_last else weight
    with pytest.MonkeyPatch.context() as patch:
        if in_parts:
            patch.setattr(blocks, "BLOCK_BYTES", 256)
        scales = blocks.block_scales(given_weight, block, inputs_last=inputs_last)
        packed = blocks.pack_blocks(given_weight, block, inputs_last=inputs_last)
    count = -(-inputs // block)
    filled = np.zeros((count * block, outputs), np.float32)
    filled[:inputs] = weight
    peaks = np.abs(filled).reshape(count, block, outputs).max(axis=1)
    np.testing.assert_allclose(scales.T, np.where(peaks > 0, peaks / 7, 1), rtol=1e-6)
    node = onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], axis=0, block_size=block)
    zero = np.zeros((count, outputs), ml_dtypes.int4)
    wanted = specified(node, {"x": filled, "s": np.ascontiguousarray(scales.T), "z": zero})
    assert packed.shape == (outputs, count, block // 2)
    np.testing.assert_array_equal(levels(packed).T, wanted.astype(np.int8))


@given(SEEDS, st.integers(1, 4), st.integers(1, 9), BLOCKS)
@settings(max_examples=60, deadline=None)
def test_quant_packed_bytes_are_those_of_an_onnx_tensor_of_four_bits(seed, count, outputs, block):
    """The order of the halves is the standard's (onnx.proto, ``raw_data``): the first one low."""
    weight = weights(seed, outputs, count * block)
    packed = blocks.pack_blocks(weight, block, inputs_last=True)
    stored = onnx.helper.make_tensor(
        "q", TensorProto.UINT4, (outputs, count * block), packed.tobytes(), raw=True
    )
    read = numpy_helper.to_array(stored).astype(np.int8) - 8
    np.testing.assert_array_equal(read, levels(packed))


@given(SEEDS, st.integers(1, 3), st.integers(1, 9), BLOCKS)
@settings(max_examples=60, deadline=None)
def test_quant_four_bits_come_back_within_half_a_step(seed, count, outputs, block):
    """DequantizeLinear of the specification; the greatest weight of a block comes back exactly."""
    weight = weights(seed, count * block, outputs)
    scales = blocks.block_scales(weight, block, inputs_last=False)
    packed = blocks.pack_blocks(weight, block, inputs_last=False)
    node = onnx.helper.make_node("DequantizeLinear", ["q", "s"], ["y"], axis=0, block_size=block)
    units = np.ascontiguousarray(scales.T)
    stored = np.ascontiguousarray(levels(packed).T).astype(ml_dtypes.int4)
    back = specified(node, {"q": stored, "s": units}).reshape(count, block, outputs)
    error = np.abs(back - weight.reshape(back.shape))
    assert (error <= 0.5001 * units[:, None]).all()
    peaks = np.abs(weight).reshape(back.shape).max(axis=1)
    np.testing.assert_allclose(np.abs(back).max(axis=1), peaks, rtol=1e-6)


@given(SEEDS, st.integers(1, 70), st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_quant_the_kernel_reads_what_was_packed(seed, inputs, outputs):
    """onnxruntime multiplies a unit matrix with it, in float: out come the weights."""
    weight = weights(seed, inputs, outputs)
    scales = blocks.block_scales(weight, 32, inputs_last=False)
    packed = blocks.pack_blocks(weight, 32, inputs_last=False)
    node = onnx.helper.make_node(
        "MatMulNBits",
        ["x", "w", "s"],
        ["y"],
        domain="com.microsoft",
        K=inputs,
        N=outputs,
        bits=4,
        block_size=32,
    )
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inputs])],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(packed, "w"), numpy_helper.from_array(scales.reshape(-1), "s")],
    )
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": np.eye(inputs, dtype=np.float32)})[0]
    units = np.repeat(scales, 32, axis=1)[:, :inputs]
    np.testing.assert_allclose(found.T, levels(packed)[:, :inputs] * units, rtol=1e-5, atol=1e-30)


@given(SEEDS, st.sampled_from([7, 8]), st.sampled_from([None, 0, 1]), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_quant_eight_bits_follow_the_specification(seed, bits, axis, rows):
    """QuantizeLinear and DequantizeLinear, one scale in all or one per row or column."""
    weight = weights(seed, rows, 13)
    scales = numerics.weight_scales(weight, axis, 2 ** (bits - 1) - 1)
    stored = numerics.quantize_weight(weight, scales, axis)
    assert np.abs(stored.astype(int)).max() <= 2 ** (bits - 1) - 1
    zero = np.zeros(scales.shape, np.int8)
    where = {} if axis is None else {"axis": axis}
    quantize = onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], **where)
    np.testing.assert_array_equal(
        stored, specified(quantize, {"x": weight, "s": scales, "z": zero})
    )
    dequantize = onnx.helper.make_node("DequantizeLinear", ["q", "s"], ["y"], **where)
    back = specified(dequantize, {"q": stored, "s": scales})
    units = scales if axis is None else np.expand_dims(scales, 1 - axis)
    assert (np.abs(back - weight) <= 0.5001 * units).all()


def test_quant_blocks_of_zeros_have_a_scale_that_divides():
    weight = np.zeros((64, 3), np.float32)
    weight[40, 1] = -2.0
    scales = blocks.block_scales(weight, 32, inputs_last=False)
    packed = blocks.pack_blocks(weight, 32, inputs_last=False)
    np.testing.assert_array_equal(scales, [[1, 1], [1, np.float32(2 / 7)], [1, 1]])
    assert levels(packed)[1, 40] == -7
    assert np.count_nonzero(levels(packed)) == 1
