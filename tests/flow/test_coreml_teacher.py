"""Comparing piece by piece finds what is wrong with a single layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.coreml import teacher
from tests.coreml.models import fed, normal_form, quantized_form

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def integers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quantized model."""
    folder = tmp_path_factory.mktemp("rnet")
    return quantized_form("rnet", normal_form("rnet", folder), folder)


def _changed(tensor: onnx.TensorProto, array: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def one_weight(model: onnx.ModelProto) -> None:
    """Let one integer of the first layer's weight be off by one."""
    weight = next(item for item in model.graph.initializer if len(item.dims) == 4)
    array = numpy_helper.to_array(weight).copy()
    array.flat[7] += 1 if array.flat[7] < 127 else -1
    _changed(weight, array)


def _scales(model: onnx.ModelProto, rank: int) -> list[onnx.TensorProto]:
    """Return the scales of activations (rank 0) or of weights (rank 1)."""
    used = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    constants = model.graph.initializer
    return [item for item in constants if item.name in used and len(item.dims) == rank]


def channels(model: onnx.ModelProto) -> None:
    """Give the scales of a weight to the wrong channels."""
    scale = _scales(model, 1)[0]
    _changed(scale, np.roll(numpy_helper.to_array(scale), 1))


def one_scale(model: onnx.ModelProto) -> None:
    """Let an activation's scale be off by a thousandth."""
    scale = _scales(model, 0)[-1]
    _changed(scale, numpy_helper.to_array(scale) * np.float32(1.001))


@pytest.mark.parametrize("defect", [one_weight, channels, one_scale])
def test_a_small_defect_of_one_layer_is_found(
    defect: Callable[[onnx.ModelProto], None],
    integers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut = teacher.cut

    def damaged(*arguments: Any) -> onnx.ModelProto:
        made = cut(*arguments)
        defect(made)
        return made

    monkeypatch.setattr(teacher, "cut", damaged)
    lesson = teacher.taught(integers, tmp_path / "taught", fed("rnet", 1))
    assert lesson.wrong(), str(lesson)


def test_a_tensor_that_something_else_reads_is_no_place_to_cut(integers: Path) -> None:
    model = onnx.load(integers)
    node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    model.graph.node.append(onnx.helper.make_node("Shape", [node.output[0]], ["shape"]))
    with pytest.raises(ValueError, match="Shape"):
        teacher.edges(model)
