"""The typed graph, interpreted: every type runs, is rounded as it says, and is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rtx_models import FLOAT, HALF, SIDE, blocks, graph, numbers, pair, save, tensor

from edgedeploy.backends.trt.arithmetic import arithmetic
from edgedeploy.backends.trt.program import InterpretedRunner, write_program

FP8 = TensorProto.FLOAT8E4M3FN
SCALE, STEP = 0.05, 0.01


def program(model: onnx.ModelProto, folder: Path) -> Path:
    """Write a model as a program; return the artifact's folder."""
    write_program(save(model, folder / "given"), folder)
    return folder


def run(model: onnx.ModelProto, folder: Path, given: np.ndarray) -> np.ndarray:
    with InterpretedRunner(program(model, folder)) as runner:
        assert runner.evidence == "interpreted"
        return runner.run({"x": given})["y"]


def weight() -> np.ndarray:
    return (np.arange(SIDE * SIDE) % 5).reshape(SIDE, SIDE) * np.float32(STEP)


def test_int8_is_rounded_as_the_graph_says(tmp_path: Path) -> None:
    given = numbers(8, SIDE)
    rounded = np.clip(np.rint(given / np.float32(SCALE)), -128, 127) * np.float32(SCALE)
    assert np.allclose(run(pair(), tmp_path, given), rounded @ weight(), rtol=1e-5, atol=1e-5)


def test_fp8_is_rounded_as_the_graph_says(tmp_path: Path) -> None:
    given = numbers(8, SIDE)
    rounded = (given / np.float32(SCALE)).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    found = run(pair(FP8, weight_kind=FP8), tmp_path, given)
    assert np.allclose(found, rounded * SCALE @ weight(), rtol=1e-5, atol=1e-5)
    assert not np.allclose(found, given @ weight(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model", [blocks(), pair(scale_kind=HALF)])
def test_results_in_float16_are_numbers_of_float16(model: onnx.ModelProto, tmp_path: Path) -> None:
    found = run(model, tmp_path, numbers(8, SIDE, dtype=np.float16))
    assert found.dtype == np.float16 and np.isfinite(found).all() and found.any()


def layers(weight_kind: int = TensorProto.INT8) -> onnx.ModelProto:
    """A quantized convolution, one with float operands, and a product of quantized activations."""
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        make("DequantizeLinear", ["q", "s", "z"], ["d"], name="dq"),
        make("DequantizeLinear", ["w", "s"], ["v"], name="wdq"),
        make("Conv", ["d", "v"], ["a"], name="integer"),
        make("Conv", ["x", "v"], ["b"], name="weights_alone"),
        make("Reshape", ["d", "flat"], ["left"], name="reshape"),
        make("Transpose", ["left"], ["right"], name="transpose", perm=[1, 0]),
        make("MatMul", ["left", "right"], ["c"], name="product"),
    ]
    scale = numpy_helper.from_array(np.float32(SCALE), "s")
    zero = helper.make_tensor("z", weight_kind, [], [0])
    held = helper.make_tensor("w", weight_kind, [6, 4, 3, 3], [1] * 216)
    flat = numpy_helper.from_array(np.array([4, -1]), "flat")
    outputs = [
        tensor("a", FLOAT, [1, 6, 8, 8]),
        tensor("b", FLOAT, [1, 6, 8, 8]),
        tensor("c", FLOAT, [4, 4]),
    ]
    given = [tensor("x", FLOAT, [1, 4, 10, 10])]
    return graph(nodes, given, outputs, [scale, zero, held, flat])


def counted(
    model: onnx.ModelProto, folder: Path, conversions: int = 3
) -> dict[str, tuple[bool, int | None]]:
    found = arithmetic(program(model, folder), {"x": numbers(1, 4, 10, 10)})
    assert found.stated
    assert found.conversions == conversions
    return {layer.name: (layer.integer, layer.macs) for layer in found.layers}


def test_layers_are_on_integers_where_both_operands_are(tmp_path: Path) -> None:
    convolution, product = 6 * 8 * 8 * 4 * 9, 4 * 4 * 100
    assert counted(layers(), tmp_path) == {
        "integer": (True, convolution),
        "weights_alone": (False, convolution),
        "product": (True, product),
    }


def test_eight_bit_floats_are_no_integers(tmp_path: Path) -> None:
    found: dict[str, Any] = counted(layers(FP8), tmp_path, conversions=0)
    assert [integer for integer, _ in found.values()] == [False] * 3
