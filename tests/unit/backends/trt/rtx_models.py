"""Small typed graphs: what TensorRT takes, refuses, or silently computes otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
SIDE = 64
Value = onnx.ValueInfoProto


def tensor(name: str, kind: int, shape: Sequence[Any]) -> Value:
    """Return an input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name: str, kind: int, values: Any, shape: Sequence[int] = ()) -> onnx.TensorProto:
    """Return an initialiser of any type."""
    flat = np.resize(values, shape).reshape(-1).tolist()
    return helper.make_tensor(name, kind, shape, flat)


def graph(
    nodes: list[onnx.NodeProto],
    inputs: list[Value],
    outputs: list[Value],
    weights: Sequence[onnx.TensorProto] = (),
    opset: int = 21,
) -> onnx.ModelProto:
    """Return a model."""
    made = helper.make_graph(nodes, "small", inputs, outputs, list(weights))
    imports = [
        helper.make_opsetid(*item) for item in (("", opset), ("com.microsoft", 1), ("own", 1))
    ]
    return helper.make_model(made, opset_imports=imports, ir_version=11 if opset > 21 else 10)


def save(model: onnx.ModelProto, folder: Path) -> Path:
    """Save a model as a stage would; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Return drawn numbers, always the same."""
    return np.random.default_rng(3).standard_normal(shape).astype(dtype)


def product(kind: int = FLOAT) -> onnx.ModelProto:
    """A matrix product of two inputs."""
    node = helper.make_node("MatMul", ["x", "z"], ["y"], name="mm")
    inputs = [tensor("x", kind, [8, SIDE]), tensor("z", kind, [SIDE, 8])]
    return graph([node], inputs, [tensor("y", kind, [8, 8])])


def convolution(axes: int) -> onnx.ModelProto:
    """A float32 convolution over some axes."""
    weight = numpy_helper.from_array(numbers(4, 4, *[3] * axes), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    sizes = ([1, 4, *[8] * axes], [1, 4, *[6] * axes])
    return graph([node], [tensor("x", FLOAT, sizes[0])], [tensor("y", FLOAT, sizes[1])], [weight])


def passed(kind: int) -> onnx.ModelProto:
    """An input that is handed on."""
    node = helper.make_node("Identity", ["x"], ["y"], name="same")
    return graph([node], [tensor("x", kind, [4])], [tensor("y", kind, [4])])


def pair(
    kind: int = TensorProto.INT8,
    zero: int | None = 0,
    weight_kind: int = TensorProto.INT8,
    scale_kind: int = FLOAT,
) -> onnx.ModelProto:
    """A quantized matrix product: QDQ before both operands."""
    zeros = [] if zero is None else ["zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", *zeros], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", *zeros], ["d"], name="dq"),
        helper.make_node("DequantizeLinear", ["w", "step"], ["v"], name="wdq"),
        helper.make_node("MatMul", ["d", "v"], ["y"], name="mm"),
    ]
    weights = [
        constant("scale", scale_kind, 0.05),
        constant("w", weight_kind, np.arange(SIDE * SIDE) % 5, [SIDE, SIDE]),
        constant("step", scale_kind, 0.01),
    ]
    if zero is not None:
        weights.append(constant("zero", kind, zero))
    ends = [tensor("x", scale_kind, [8, SIDE])], [tensor("y", scale_kind, [8, SIDE])]
    return graph(nodes, *ends, weights)


def blocks(
    kind: int = TensorProto.INT4, rows: int = SIDE, block: int = 32, scale_kind: int = HALF
) -> onnx.ModelProto:
    """A matrix product with weights that have a scale per block."""
    count = -(-rows // block)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["v"], "wdq", axis=0, block_size=block),
        helper.make_node("MatMul", ["x", "v"], ["y"], name="mm"),
    ]
    weights = [
        constant("w", kind, np.arange(rows * SIDE) % 7, [rows, SIDE]),
        constant("s", scale_kind, 0.01, [count, SIDE]),
    ]
    ends = [tensor("x", scale_kind, [8, rows])], [tensor("y", scale_kind, [8, SIDE])]
    return graph(nodes, *ends, weights)


def quantized_bias() -> onnx.ModelProto:
    """A Gemm whose bias is int32 with a scale, as ONNX Runtime's quantizer writes it."""
    model = pair()
    node = model.graph.node[-1]
    node.CopyFrom(helper.make_node("Gemm", ["d", "v", "bias"], ["y"], name="gemm"))
    unbias = helper.make_node("DequantizeLinear", ["b", "bias_scale"], ["bias"], name="bdq")
    model.graph.node.insert(3, unbias)
    model.graph.initializer.append(constant("b", TensorProto.INT32, 1, [SIDE]))
    model.graph.initializer.append(constant("bias_scale", FLOAT, 0.0005))
    return model


def many_refusals() -> onnx.ModelProto:
    """Operators without importer, one in a body, a plugin that is not there, and a bad form."""
    then = helper.make_graph(
        [helper.make_node("Det", ["m"], ["t"], name="inner_det")], "then", [], [tensor("t", 1, [])]
    )
    other = helper.make_graph(
        [helper.make_node("ReduceSum", ["m"], ["t"], name="inner_sum", keepdims=0)],
        "other",
        [],
        [tensor("t", FLOAT, [])],
    )
    make = helper.make_node
    nodes = [
        make("Relu", ["x"], ["a"], name="first"),
        make("BitShift", ["u", "u"], ["shifted"], name="shift", direction="LEFT"),
        make("DequantizeLinear", ["w", "s"], ["d"], name="bad_form"),
        make("Add", ["a", "d"], ["c"], name="add"),
        make("Unique", ["c"], ["unique"], name="uniq"),
        make("Foo", ["c"], ["f"], name="foo", domain="own"),
        make("If", ["cond"], ["g"], name="branch", then_branch=then, else_branch=other),
        make("Relu", ["c"], ["y"], name="last"),
    ]
    weights = [
        constant("w", TensorProto.INT32, 1, [4]),
        constant("s", FLOAT, 0.1),
        constant("u", TensorProto.UINT8, 1, [2]),
    ]
    inputs = [tensor("x", FLOAT, [4]), tensor("m", FLOAT, [2, 2])]
    inputs.append(tensor("cond", TensorProto.BOOL, []))
    return graph(nodes, inputs, [tensor("y", FLOAT, [4]), tensor("g", FLOAT, [])], weights)


def packed(rows: int, kind: int = FLOAT) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """Return a MatMulNBits as the quantizer writes it, its integers and its scales by block.

    Returns:
        The model; integers -8..7 [rows, SIDE]; one scale per block of 32 rows [blocks, SIDE].
    """
    generator = np.random.default_rng(4)
    count = -(-rows // 32)
    numbers = generator.integers(-8, 8, (count * 32, SIDE)).astype(np.int8)
    scales = generator.uniform(0.005, 0.02, (count, SIDE))
    scales = scales.astype(np.float32 if kind == FLOAT else np.float16)
    halves = (numbers.T + 8).astype(np.uint8).reshape(SIDE, count, 16, 2)
    weights = [
        numpy_helper.from_array(halves[..., 0] | halves[..., 1] << 4, "w"),
        numpy_helper.from_array(np.ascontiguousarray(scales.T).reshape(-1), "s"),
    ]
    words = {"K": rows, "N": SIDE, "bits": 4, "block_size": 32, "domain": "com.microsoft"}
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], name="nb", **words)
    ends = [tensor("x", kind, [3, rows])], [tensor("y", kind, [3, SIDE])]
    return graph([node], *ends, weights), numbers[:rows], scales
