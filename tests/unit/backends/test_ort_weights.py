"""Integer weights with float activations in .ort files: what the oldest runtime can read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.backends import load

FIELDS = {
    "board.arch": "x86-64",
    "board.os": "linux",
    "runtime.opset": 17,
    "runtime.ir_version": 9,
}
GENERATOR = np.random.default_rng(4)


def write(path: Path, nodes: list, constants: dict[str, np.ndarray]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def eight_bits(path: Path) -> Path:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=1),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    constants = {
        "w": GENERATOR.integers(-127, 128, (64, 32)).astype(np.int8),
        "s": GENERATOR.uniform(0.01, 0.1, 32).astype(np.float32),
        "z": np.zeros(32, np.int8),
    }
    return write(path, nodes, constants)


def four_bits(path: Path, *, bias: bool = False) -> Path:
    attributes = {"K": 64, "N": 32, "bits": 4, "block_size": 32}
    made = "p" if bias else "y"
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], [made], **attributes)
    node.domain = "com.microsoft"
    nodes = [node, helper.make_node("Add", ["p", "b"], ["y"])] if bias else [node]
    constants = {
        "w": GENERATOR.integers(0, 256, (32, 2, 16)).astype(np.uint8),
        "s": GENERATOR.uniform(0.01, 0.1, 64).astype(np.float32),
    }
    if bias:
        constants["b"] = GENERATOR.uniform(-1, 1, 32).astype(np.float32)
    return write(path, nodes, constants)


@pytest.mark.parametrize(
    ("versions", "joined"), [(">=1.17", False), (">=1.21", False), (">=1.22", True), (">=2", True)]
)
def test_eight_bit_products_are_made_where_every_runtime_has_them(versions, joined, tmp_path):
    (tmp_path / "out").mkdir()
    model = eight_bits(tmp_path / "model.onnx")
    fields = {**FIELDS, "runtime.versions": versions}
    made = load("ort").compile(model, tmp_path / "out", {}, fields).metadata["kernels"]
    apart = {"ai.onnx:DequantizeLinear": 1, "ai.onnx:MatMul": 1}
    assert made == ({"com.microsoft:MatMulNBits": 1} if joined else apart)


def test_four_bit_products_hold_no_attribute_of_newer_runtimes(tmp_path):
    (tmp_path / "out").mkdir()
    model = four_bits(tmp_path / "model.onnx")
    load("ort").compile(model, tmp_path / "out", {}, {**FIELDS, "runtime.versions": ">=1.17"})
    written = (tmp_path / "out/model.ort").read_bytes()
    assert b"MatMulNBits" in written
    assert b"block_size" in written
    assert b"weight_prepacked" not in written


@pytest.mark.parametrize(("versions", "joined"), [(">=1.17", 0), (">=1.18", 0), (">=1.19", 1)])
def test_a_bias_joins_the_product_where_every_runtime_takes_it(versions, joined, tmp_path):
    (tmp_path / "out").mkdir()
    model = four_bits(tmp_path / "model.onnx", bias=True)
    fields = {**FIELDS, "runtime.versions": versions}
    made = load("ort").compile(model, tmp_path / "out", {}, fields).metadata["kernels"]
    assert made.get("ai.onnx:Add", 0) == 1 - joined
    assert made["com.microsoft:MatMulNBits"] == 1
