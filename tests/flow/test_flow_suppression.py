"""``nms: model`` from the profile's line to the artifact's output and its score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from PIL import Image
from running import edgedeploy, targets_of

pytestmark = pytest.mark.slow

PROFILE = """\
edgedeploy: 1
name: finder
model:
  source: model.onnx
  task: {name: detect/yolo, nms: model, score: 0.4}
  inputs: {x: {shape: [1, 3, 16, 16], image: {size: [16, 16]}}}
  data: {evaluate: {source: images, labels: truth.json}}
quantize: none
targets: [linux-x86-64/ort]
"""
TRUTH = """\
{"images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 32}],
 "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 16, 16],
                  "area": 256, "iscrowd": 0}],
 "categories": [{"id": 0, "name": "zero"}, {"id": 1, "name": "one"}]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a detector that always finds one box twice, and another below the score."""
    head = np.zeros((1, 6, 9), np.float32)
    head[0, :, 2] = [6, 6, 8, 8, 0, 0.9]
    head[0, :, 3] = [6, 6, 8, 7.9, 0, 0.8]
    head[0, :, 4] = [10, 10, 4, 4, 0.3, 0]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=1, axes=[1, 2, 3]),
            helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
            helper.make_node("Reshape", ["zero", "shape"], ["flat"]),
            helper.make_node("Add", ["flat", "head"], ["y"]),
        ],
        "finder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 9])],
        [
            numpy_helper.from_array(head, "head"),
            numpy_helper.from_array(np.float32(0), "nothing"),
            numpy_helper.from_array(np.array([1, 1, 1]), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(tmp_path / "model.onnx"))
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((32, 32, 3), 80, np.uint8)).save(tmp_path / "images/a.png")
    (tmp_path / "truth.json").write_text(TRUTH)
    (tmp_path / "finder.yaml").write_text(PROFILE)
    return tmp_path


def test_the_artifact_gives_the_boxes_that_are_scored(project: Path) -> None:
    store = {"cwd": project, "EDGEDEPLOY_STORE": str(project / "store")}
    run = edgedeploy("build", "finder.yaml", "--no-bench", **store)
    assert run.code == 0, run.err
    (target,) = targets_of(project / "build/finder").values()
    assert target["verdict"] == "accepted"
    assert target["evaluation"]["metric"]["value"] == pytest.approx(1)

    import onnxruntime

    (artifact,) = (project / "build/finder").rglob("model.ort")
    session = onnxruntime.InferenceSession(str(artifact), providers=["CPUExecutionProvider"])
    (rows,) = session.run(["y"], {"x": np.zeros((1, 3, 16, 16), np.float32)})
    assert rows.shape == (1, 100, 6)
    np.testing.assert_allclose(rows[0, 0], [2, 2, 10, 10, 0.9, 1], atol=1e-6)
    assert (rows[0, 1:] == [0, 0, 0, 0, -1, -1]).all()


def test_a_head_of_open_size_is_refused(project: Path) -> None:
    """What follows the input's open width has no fixed number of boxes."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "open",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, "n"])],
        [numpy_helper.from_array(np.array([1, 6, -1]), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(project / "model.onnx"))
    words = PROFILE.replace("shape: [1, 3, 16, 16], ", "shape: [1, 3, 16, 8..16], ")
    (project / "finder.yaml").write_text(words.replace("size: [16, 16]", "size: [16, keep]"))
    store = {"cwd": project, "EDGEDEPLOY_STORE": str(project / "store")}
    run = edgedeploy("build", "finder.yaml", "--no-bench", **store)
    assert run.code == 2 and "E890" in run.err and "nms: app" in run.err, run.err
