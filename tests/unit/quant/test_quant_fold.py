"""Folding changes no result: checked with the runtime's own kernels on both graphs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper
from quant_support import build, run

from edgedeploy.quant.fold import load_folded

GENERATOR = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


def batch_norm(source: str, result: str, channels: int) -> tuple[list, dict]:
    names = [f"{result}_{part}" for part in ("gamma", "beta", "mean", "variance")]
    constants = {name: normal(channels) for name in names}
    constants[names[3]] = np.abs(constants[names[3]]) + 0.1
    return [helper.make_node("BatchNormalization", [source, *names], [result])], constants


def node(op: str, inputs: list[str], outputs: list[str], **attributes: object):
    return helper.make_node(op, inputs, outputs, **attributes)


TAILS = {
    "scalar_mul_add": (
        [node("Mul", ["k", "c"], ["m"]), node("Add", ["m", "d"], ["y"])],
        {"k": np.array([1.7], np.float32), "d": np.array(0.3, np.float32)},
    ),
    "per_channel_sub_div": (
        [node("Sub", ["k", "c"], ["m"]), node("Div", ["m", "d"], ["y"])],
        {"k": normal(6, 1, 1), "d": np.abs(normal(1, 6, 1, 1)) + 0.5},
    ),
    "batch_norm": batch_norm("c", "y", 6),
}
HEADS = {
    "conv": ([node("Conv", ["x", "w", "b"], ["c"])], {"w": normal(6, 4, 3, 3), "b": normal(6)}),
    "depthwise": ([node("Conv", ["x", "w"], ["c"], group=2)], {"w": normal(6, 2, 1, 1)}),
    "transposed": ([node("ConvTranspose", ["x", "w"], ["c"])], {"w": normal(4, 6, 2, 2)}),
    "transposed_groups": (
        [node("ConvTranspose", ["x", "w", "b"], ["c"], group=2)],
        {"w": normal(4, 3, 2, 2), "b": normal(6)},
    ),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("tail", TAILS)
def test_quant_fold_keeps_results(head, tail, tmp_path):
    (first, weights), (second, constants) = HEADS[head], TAILS[tail]
    model = build(tmp_path, [*first, *second], weights | constants, {"x": (1, 4, 8, 8)}, ["y"])
    folded, count = load_folded(model)
    assert count == len(second)
    assert [item.op_type for item in folded.graph] == [first[0].op_type]
    ir.save(folded, tmp_path / "folded.onnx")
    inputs = {"x": normal(1, 4, 8, 8)}
    expected = run(model, inputs)
    np.testing.assert_allclose(
        run(tmp_path / "folded.onnx", inputs), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("transposed", [0, 1])
def test_quant_fold_gemm_factors_and_scales(transposed, tmp_path):
    weight = normal(5, 4) if transposed else normal(4, 5)
    gemm = node("Gemm", ["x", "w", "b"], ["c"], alpha=0.5, beta=2.0, transB=transposed)
    mul = node("Mul", ["c", "k"], ["y"])
    constants = {"w": weight, "b": normal(5), "k": normal(5)}
    model = build(tmp_path, [gemm, mul], constants, {"x": ("n", 4)}, ["y"])
    folded, _ = load_folded(model)
    (only,) = folded.graph
    assert not {"alpha", "beta"} & set(only.attributes)
    ir.save(folded, tmp_path / "folded.onnx")
    inputs = {"x": normal(3, 4)}
    np.testing.assert_allclose(
        run(tmp_path / "folded.onnx", inputs), run(model, inputs), rtol=1e-5, atol=1e-6
    )


def test_quant_fold_makes_a_gemm_of_a_matmul_with_bias(tmp_path):
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["b", "m"], ["y"])]
    constants = {"w": normal(4, 5), "b": normal(5)}
    flat = build(tmp_path, nodes, constants, {"x": ("n", 4)}, ["y"])
    folded, _ = load_folded(flat)
    assert [item.op_type for item in folded.graph] == ["Gemm"]
    ir.save(folded, tmp_path / "folded.onnx")
    inputs = {"x": normal(3, 4)}
    np.testing.assert_allclose(
        run(tmp_path / "folded.onnx", inputs), run(flat, inputs), rtol=1e-5, atol=1e-6
    )
    deep = build(tmp_path, nodes, constants, {"x": ("n", 2, 4)}, ["y"], name="deep.onnx")
    assert [item.op_type for item in load_folded(deep)[0].graph] == ["MatMul", "Add"]


def test_quant_fold_leaves_alone_what_others_use(tmp_path):
    """A tied weight, a result that is an output, and a factor along another axis."""
    nodes = [
        node("Conv", ["x", "w"], ["c1"]),
        node("Mul", ["c1", "k"], ["y1"]),
        node("Conv", ["x", "w"], ["c2"]),
        node("Mul", ["c2", "k"], ["y2"]),
        node("Conv", ["x", "v"], ["y3"]),
        node("Mul", ["y3", "k"], ["y4"]),
        node("Conv", ["x", "u"], ["c5"]),
        node("Mul", ["c5", "row"], ["y5"]),
    ]
    constants = {name: normal(4, 4, 1, 1) for name in "wvu"}
    constants |= {"k": np.array([2.0], np.float32), "row": normal(8)}
    model = build(tmp_path, nodes, constants, {"x": (1, 4, 8, 8)}, ["y1", "y2", "y3", "y4", "y5"])
    folded, count = load_folded(model)
    assert count == 0
    assert len(folded.graph) == len(nodes)
