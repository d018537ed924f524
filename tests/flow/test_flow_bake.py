"""Baked preprocessing from the picture's file to the figures and the release, by every backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from running import cosines, edgedeploy, targets_of

from edgedeploy.release.keys import new_key, read_public_key
from edgedeploy.release.opening import open_bundle
from edgedeploy.release.signing import key_id

pytestmark = pytest.mark.slow

PROFILE = """\
edgedeploy: 1
name: pictures
version: "1.0.0"
model:
  source: model.onnx
  licence: MIT
  inputs:
    x:
      shape: [1, 3, 8, 12]
      image:
        size: [8, 12]
        colour: bgr
        scale: 1/255
        mean: [0.406, 0.456, 0.485]
        std: [0.225, 0.224, 0.229]
        bake: [scale, mean, colour, layout, uint8]
  data: {calibrate: calibrate, evaluate: evaluate}
metric: cosine
quantize: {mode: w8a8, rounding: nearest, smooth: false}
targets:
  linux-x86-64/ort: {}
  linux-x86-64/openvino: {}
  ios17/coreml: {options: {images: true}}
  ios18/coreml: {quantize: none}
  rtx-30/tensorrt-rtx: {}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with pictures and a network whose convolution pads with zeros."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(8, 3, 3, 3)),
        "b": rng.normal(size=8),
        "v": rng.normal(size=(8, 4)),
        "c": rng.normal(size=4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["t"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["t"], ["u"], name="relu"),
        helper.make_node("GlobalAveragePool", ["u"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "v", "c"], ["y"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(item.astype(np.float32), name) for name, item in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "model.onnx")
    for role in ("calibrate", "evaluate"):
        (tmp_path / role).mkdir()
        for number in range(8):
            pixels = rng.integers(0, 256, (9, 13, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / role / f"{role}{number}.png")
    (tmp_path / "pictures.yaml").write_text(PROFILE)
    return tmp_path


def test_all_backends_take_pixels_and_agree_with_the_bare_float_model(project: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX")
    store = {"cwd": project, "EDGEDEPLOY_STORE": str(project / "store")}
    built = edgedeploy("build", "pictures.yaml", "--no-bench", **store)
    assert built.code == 0, built.err
    found = targets_of(project / "build/pictures")
    assert len(found) == 5
    for key, target in found.items():
        # The reference is the model as it came: preprocessed as declared, outside of it.
        assert min(cosines(target).values()) > 0.9995, key

    new_key(project / "key")
    made = edgedeploy("release", "pictures.yaml", "--key", "key", "-o", "build", **store)
    assert made.code == 0, made.err
    public = read_public_key(project / "key.pub")
    (bundle,) = project.rglob("*.edpkg")
    with open_bundle(bundle, {key_id(public): public}) as opened:
        for target_ in opened.release.targets:
            (given,) = target_.models[0].inputs
            assert (given.dtype, given.shape) == ("uint8", (1, 8, 12, 3))
            assert given.image is not None
            told = {key: given.image[key] for key in ("colour", "layout", "scale", "mean", "std")}
            left = {"colour": "rgb", "layout": "nhwc", "scale": 1.0, "mean": [], "std": []}
            assert told == left
