"""The quantized forms of ten real models in the parsers that they are meant for.

TensorRT: the parser and the builder of TensorRT for RTX, which need no GPU. OpenVINO: its ONNX
frontend with the transformations of our import.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forms import LAYERS, Calibrated, Form, quantized
from rtx import Parser

from edgedeploy.backends.ov.convert import read_onnx

pytestmark = pytest.mark.slow

NAMES = (
    *("rec", "det", "cls", "silero", "magika", "pnet", "rnet", "onet"),
    *("squeezenet", "shufflenet"),
)
ENGINES = ("pnet", "onet", "magika")
OV_LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
# What may stand between a rounded value and the layer that reads it: it moves values about.
MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze")


def weights_behind_pairs(form: Form) -> dict[str, np.ndarray]:
    """Return what is stored behind a DequantizeLinear alone, by its own name."""
    constants = form.constants()
    return {
        node.input[0]: constants[node.input[0]]
        for node in form.nodes("DequantizeLinear")
        if node.input[0] in constants
    }


@pytest.mark.parametrize("name", NAMES)
def test_tensorrt_parses_every_pair(
    name: str, made: Callable[[str], Calibrated], tmp_path: Path
) -> None:
    """Its parser takes symmetric int8 and no int32, and keeps one layer per node of ours."""
    plain = Parser(made(name).model)
    assert plain.errors == []
    form = quantized(made(name), "tensorrt", tmp_path / "out")
    constants = form.constants()
    for node in form.nodes("QuantizeLinear", "DequantizeLinear"):
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8 and not zero.any(), node.name
    assert all(value.dtype == np.int8 for value in weights_behind_pairs(form).values())
    parsed = Parser(form.path)
    assert parsed.errors == []
    pairs = form.report.activations
    weights = sum(form.report.ops.get(op, 0) for op in LAYERS)
    layers = parsed.layers()
    assert layers["QUANTIZE"] == pairs > 0
    assert layers["DEQUANTIZE"] == pairs + weights
    for kind in ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"):
        assert layers[kind] == plain.layers()[kind]


@pytest.mark.parametrize("name", ENGINES)
def test_tensorrt_builds_an_engine(
    name: str, made: Callable[[str], Calibrated], tmp_path: Path
) -> None:
    form = quantized(made(name), "tensorrt", tmp_path / "out")
    engine = Parser(form.path).engine()
    assert engine[:4] == b"vtrt" and len(engine) > 100_000


def test_tensorrt_refuses_the_form_for_ort(
    made: Callable[[str], Calibrated], tmp_path: Path
) -> None:
    """What the form above is for: zero points that are not zero, and an int32 bias."""
    form = quantized(made("pnet"), "ort", tmp_path / "out")
    errors = Parser(form.path).errors
    assert errors and "zero point" in errors[0]
    form = quantized(made("pnet"), "tensorrt", tmp_path / "bias", quantize_bias=True)
    errors = Parser(form.path).errors
    assert errors and "Int32" in errors[0]


def number_of(op: Any, place: int) -> float:
    """Return a constant input of one element."""
    return float(op.input_value(place).get_node().data.item())


def ranges_of_pairs(form: Form) -> list[tuple[float, float]]:
    """Return the range that each pair of the model represents, by the standard's formula."""
    constants = form.constants()
    found = []
    for node in form.nodes("QuantizeLinear"):
        scale, zero = constants[node.input[1]].item(), constants[node.input[2]].item()
        found.append((-zero * scale, (255 - zero) * scale))
    return found


def reads_int8(op: Any) -> bool:
    """Return whether the weights of a layer are stored as int8, behind what makes them float."""
    node = op.input_value(1).get_node()
    while node.get_type_name() in ("Multiply", "Convert", *MOVES):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Constant" and node.data.dtype == np.int8


def moved_from(op: Any) -> Any:
    """Return what a layer's activation was computed by, past operations that only move values."""
    node = op.input_value(0).get_node()
    while node.get_type_name() in MOVES:
        node = node.input_value(0).get_node()
    return node


@pytest.mark.parametrize("name", NAMES)
def test_openvino_keeps_every_pair(
    name: str, made: Callable[[str], Calibrated], tmp_path: Path
) -> None:
    """Each pair becomes a FakeQuantize of its range, before the same layers; weights stay int8."""
    form = quantized(made(name), "openvino", tmp_path / "out")
    ops = read_onnx(form.path).get_ordered_ops()
    rounded = [op for op in ops if op.get_type_name() == "FakeQuantize"]
    assert len(rounded) == form.report.activations > 0
    # The range of the result: that of the input may take up a scale that stands before it.
    found = sorted(tuple(number_of(op, place) for place in (3, 4)) for op in rounded)
    np.testing.assert_allclose(found, sorted(ranges_of_pairs(form)), rtol=1e-5, atol=1e-30)
    layers = [op for op in ops if op.get_type_name() in OV_LAYERS and reads_int8(op)]
    assert len(layers) == sum(form.report.ops[op] for op in LAYERS if op in form.report.ops)
    for op in layers:
        assert moved_from(op).get_type_name() == "FakeQuantize", op.get_friendly_name()
    kept = {
        op.get_friendly_name(): np.sort(op.data, axis=None)
        for op in ops
        if op.get_type_name() == "Constant" and op.data.dtype == np.int8
    }
    for key, value in weights_behind_pairs(form).items():
        if value.dtype == np.int8:
            assert np.array_equal(kept[key], np.sort(value, axis=None)), key
