"""What TensorRT does not compute as it stands is refused by node, before its parser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from rtx_models import (
    FLOAT,
    HALF,
    blocks,
    constant,
    graph,
    pair,
    passed,
    product,
    quantized_bias,
    save,
    tensor,
)

from edgedeploy.backends.trt.typed import typed_findings

INT8, UINT8, INT4 = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4
FP8 = TensorProto.FLOAT8E4M3FN
Make = Callable[[], onnx.ModelProto]

LEGAL: dict[str, Make] = {
    "float": product,
    "half": lambda: product(HALF),
    "bfloat16": lambda: product(TensorProto.BFLOAT16),
    "int8": pair,
    "int8 in half": lambda: pair(scale_kind=HALF),
    "fp8": lambda: pair(FP8, weight_kind=FP8),
    "int4": blocks,
    "int8 blocks": lambda: blocks(INT8, scale_kind=FLOAT),
    "int64": lambda: passed(TensorProto.INT64),
}
REFUSED: dict[str, tuple[Make, str, str]] = {
    "zero point": (lambda: pair(zero=5), "q", "zero point other than zero"),
    "uint8": (lambda: pair(UINT8, 128), "q", "read as INT8"),
    "uint8 at zero": (lambda: pair(UINT8, 0), "q", "read as INT8"),
    "uint8 unsaid": (lambda: pair(zero=None), "q", "read as INT8"),
    "uint8 weight": (lambda: pair(weight_kind=UINT8), "wdq", "read as INT8"),
    "int16": (lambda: pair(TensorProto.INT16), "q", "INT16 with a scale"),
    "e5m2": (lambda: pair(TensorProto.FLOAT8E5M2), "q", "FLOAT8E5M2 with a scale"),
    "uint4": (lambda: blocks(TensorProto.UINT4), "wdq", "UINT4 with a scale"),
    "bias": (quantized_bias, "bdq", "as quantized biases are"),
    "odd block": (lambda: blocks(rows=40), "wdq", "40 numbers in blocks of 32"),
    "double": (lambda: passed(TensorProto.DOUBLE), "x", "in float32 without a word"),
    "int16 input": (lambda: passed(TensorProto.INT16), "x", "no tensors of"),
    "text": (lambda: passed(TensorProto.STRING), "x", "no tensors of"),
    "unsigned": (lambda: passed(TensorProto.UINT32), "x", "no tensors of"),
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal_types_have_no_findings(name: str, tmp_path: Path) -> None:
    assert typed_findings(save(LEGAL[name](), tmp_path)) == ()


@pytest.mark.parametrize("name", REFUSED)
def test_others_name_the_node_and_the_reason(name: str, tmp_path: Path) -> None:
    make, subject, told = REFUSED[name]
    first, *_ = typed_findings(save(make(), tmp_path))
    assert (first.code, first.subject) == ("E329", subject)
    assert told in first.message and first.hint


def test_all_findings_come_at_once(tmp_path: Path) -> None:
    model = quantized_bias()
    zero = next(item for item in model.graph.initializer if item.name == "zero")
    zero.CopyFrom(constant("zero", INT8, 3))
    found = typed_findings(save(model, tmp_path))
    assert [item.subject for item in found] == ["q", "dq", "bdq"]


def test_a_zero_point_in_a_data_file_is_read(tmp_path: Path) -> None:
    """Zero points per channel of a large layer lie outside of the model file."""
    model = pair()
    model.graph.node[2].input.append("zeros")
    model.graph.node[2].attribute.append(helper.make_attribute("axis", 1))
    step = next(item for item in model.graph.initializer if item.name == "step")
    step.CopyFrom(constant("step", FLOAT, 0.01, [64]))
    zeros = [0] * 63 + [1]
    model.graph.initializer.append(helper.make_tensor("zeros", INT8, [64], bytes(zeros), raw=True))
    onnx.save(
        model,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=32,
    )
    (found,) = typed_findings(tmp_path / "model.onnx")
    assert found.subject == "wdq" and "asymmetric" in found.message


def test_operands_of_two_types_are_named(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "c"], ["y"], name="add")
    ends = [tensor("x", HALF, [4])], [tensor("y", HALF, [4])]
    model = graph([node], *ends, [constant("c", FLOAT, 2.0)])
    (found,) = typed_findings(save(model, tmp_path))
    assert found.subject == "add" and "x FLOAT16, c FLOAT" in found.message


def test_types_that_an_operator_may_mix_are_no_finding(tmp_path: Path) -> None:
    node = helper.make_node("Pow", ["x", "c"], ["y"], name="pow")
    ends = [tensor("x", HALF, [4])], [tensor("y", HALF, [4])]
    model = graph([node], *ends, [constant("c", FLOAT, 2.0)])
    assert typed_findings(save(model, tmp_path)) == ()
