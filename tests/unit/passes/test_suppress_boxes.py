"""Suppression within the model: what it chooses is what the decoder chooses of the head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from edgedeploy.backends import load
from edgedeploy.decode import make_decoder
from edgedeploy.errors import BuildError, ModelError
from edgedeploy.model import adopt
from edgedeploy.passes.normalise import NormaliseOptions, normalise
from edgedeploy.passes.suppress_boxes import Suppression
from edgedeploy.profile.types import DecodeSpec

SIDE = 64
PLACE = {
    **{"width": SIDE, "height": SIDE, "input_width": SIDE, "input_height": SIDE},
    **{"scale_x": 1.0, "scale_y": 1.0, "left": 0, "top": 0},
}
ROWS = 30


def model(shape: list[Any], folder: Path) -> Path:
    """Write a model whose head is its input, halved, beside an output that stays."""
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["y"], name="head"),
        helper.make_node("ReduceSum", ["y"], ["z"], name="rest", keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "adopted").mkdir()
    onnx.save(made, folder / "source.onnx")
    adopt(folder / "source.onnx", folder / "adopted")
    return folder / "adopted/model.onnx"


def with_suppression(shape: list[Any], folder: Path, **wish: Any) -> Path:
    words = {"output": "y", "objectness": False, "score": 0.3, "iou": 0.45, "most": ROWS}
    source = model(shape, folder)
    (folder / "normal").mkdir()
    options = NormaliseOptions(suppress=Suppression(**{**words, **wish}))
    normalise(source, folder / "normal", options)
    return folder / "normal/model.onnx"


def head(seed: int, count: int = 200, classes: int = 3, objectness: bool = False) -> np.ndarray:
    """Return ``[1, count, 4 + classes]``, twice what the head shall be."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(5, 59, (count, 2)), rng.uniform(4, 40, (count, 2))
    scores = rng.uniform(0, 1, (count, classes + objectness)) ** 3
    return 2 * np.concatenate([centre, size, scores], axis=1)[None].astype(np.float32)


def answered(output: np.ndarray, **parameters: Any) -> list[dict[str, Any]]:
    spec = DecodeSpec(name="yolo", parameters=parameters)
    made = make_decoder(spec, outputs=("y",), metadata={}, classes=())
    value: list[dict[str, Any]] = made.answer({"y": output}, PLACE).value
    return value


@pytest.mark.parametrize("rows_first", [True, False])
@pytest.mark.parametrize("objectness", [True, False])
@pytest.mark.parametrize("count", [200, 40])
def test_the_model_chooses_what_the_decoder_chooses(
    rows_first: bool, objectness: bool, count: int, tmp_path: Path
) -> None:
    given = head(count, count, objectness=objectness)
    given = given if rows_first else given.transpose(0, 2, 1)
    path = with_suppression(list(given.shape), tmp_path, objectness=objectness)
    signature = {item.name: item for item in onnx.load(path).graph.output}
    assert list(signature) == ["y", "z"]
    dims = signature["y"].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [1, ROWS, 6]
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (rows,) = session.run(["y"], {"x": given})
    app = {"score": 0.3, "iou": 0.45, "objectness": objectness}
    wanted = answered(given / 2, **app)
    found = answered(rows, score=0.3, nms="model")
    assert len(found) == min(len(wanted), ROWS) and len(wanted) > 5
    for ours, theirs in zip(found, wanted, strict=False):
        assert ours["class"] == theirs["class"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-6)
        np.testing.assert_allclose(ours["box"], theirs["box"], atol=2e-3)
    padding = rows[0, len(found) :]
    assert (padding == [0, 0, 0, 0, -1, -1]).all() and (len(padding) > 0) == (len(wanted) < ROWS)


def test_an_empty_picture_is_all_padding(tmp_path: Path) -> None:
    path = with_suppression([1, 50, 7], tmp_path)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (rows,) = session.run(["y"], {"x": np.zeros((1, 50, 7), np.float32)})
    assert (rows == [0, 0, 0, 0, -1, -1]).all() and answered(rows, nms="model") == []


@pytest.mark.parametrize(
    ("shape", "code", "wish"),
    [
        ([1, "n", 7], "E890", {}),
        ([2, 50, 7], "E890", {}),
        ([1, 7, 7], "E890", {}),
        ([1, 50, 4], "E890", {}),
        ([1, 50, 5], "E890", {"objectness": True}),
        ([50, 7], "E890", {}),
        ([1, 50, 7], "E222", {"output": "boxes"}),
    ],
)
def test_a_head_that_cannot_be_read_is_refused(
    shape: list[Any], code: str, wish: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        with_suppression(shape, tmp_path, **wish)
    (found,) = caught.value.diagnostics
    assert found.code == code and found.hint


FIELDS: dict[str, dict[str, Any]] = {"coreml": {"board.os": "ios", "board.os_version": 17}}
RTX = {"board.gpu": {"compute_capabilities": ["8.6"]}}


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["ort", "openvino", "coreml"])
def test_every_backend_computes_it(runtime: str, tmp_path: Path) -> None:
    given = head(1, 120)
    path = with_suppression(list(given.shape), tmp_path)
    backend = load(runtime)
    (tmp_path / "artifact").mkdir()
    backend.compile(path, tmp_path / "artifact", {}, FIELDS.get(runtime, {}))
    with backend.runner(tmp_path / "artifact") as runner:
        rows = runner.run({"x": given})["y"]
    wanted = answered(given / 2, score=0.3, iou=0.45)
    found = answered(rows, score=0.3, nms="model")
    assert rows.shape == (1, ROWS, 6) and len(found) == min(ROWS, len(wanted))
    for ours, theirs in zip(found, wanted, strict=False):
        assert ours["class"] == theirs["class"]
        np.testing.assert_allclose(ours["box"], theirs["box"], atol=2e-2)


def test_tensorrt_for_rtx_has_no_kernel_of_it(tmp_path: Path) -> None:
    """Its parser takes the model and its builder fails with an assertion: refused before it."""
    path = with_suppression([1, 120, 7], tmp_path)
    (tmp_path / "artifact").mkdir()
    with pytest.raises(BuildError) as caught:
        load("tensorrt-rtx").compile(path, tmp_path / "artifact", {}, RTX)
    (found,) = caught.value.diagnostics
    assert found.code == "E334" and "nms: app" in str(found.hint)
