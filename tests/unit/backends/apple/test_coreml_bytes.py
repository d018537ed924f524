"""Core ML packages: the same bytes for the same model, honest metadata, counted layers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.backends import load
from edgedeploy.backends.base import Words
from edgedeploy.errors import BuildError
from edgedeploy.mil.read import read_package

pytestmark = pytest.mark.slow

FIELDS = {"board.os": "ios", "board.os_version": 17}
WORDS = Words(author="A. Uthor", licence="MIT", version="1.2", source="5" * 64)

# Another day, and a folder that holds the process's number.
SCRIPT = """
import datetime, os, sys
from pathlib import Path

class Day(datetime.date):
    @classmethod
    def today(cls):
        return cls(2031, 1, 1 + int(sys.argv[3]))

datetime.date = Day
from edgedeploy.backends import load
from edgedeploy.backends.base import Words

folder = Path(sys.argv[2])
folder.mkdir()
words = Words(author="A. Uthor", licence="MIT", version="1.2", source="5" * 64)
fields = {"board.os": "ios", "board.os_version": 17}
load("coreml").compile(Path(sys.argv[1]), folder, {"precision": "float16"}, fields, words=words)
"""


def network(path: Path) -> Path:
    """Write a model with convolutions, branches and weights that lie in weight.bin."""
    rng = np.random.default_rng(1)
    weights = {
        "w1": rng.normal(size=(16, 3, 3, 3)),
        "b1": rng.normal(size=16),
        "w2": rng.normal(size=(16, 16, 3, 3)),
        "v": rng.normal(size=(16, 10)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="c1", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], name="r1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="c2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "c"], ["d"], name="add"),
        helper.make_node("ReduceMean", ["d"], ["e"], name="mean", axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["e", "v"], ["y"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 17, 17])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(np.float32(value), name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(made), path)
    return path


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("package")
    folder = base / "artifact"
    folder.mkdir()
    model = network(base / "model.onnx")
    load("coreml").compile(model, folder, {"precision": "float16"}, FIELDS, words=WORDS)
    return folder


def test_the_same_bytes_from_other_processes_days_folders_and_hashes(artifact, tmp_path):
    wanted = digests(artifact)
    assert set(wanted) == {
        "interface.json",
        "model.mlpackage/Manifest.json",
        "model.mlpackage/Data/com.apple.CoreML/model.mlmodel",
        "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
    }
    for seed in (1, 2):
        folder = tmp_path / f"process-{seed}"
        line = [sys.executable, "-c", SCRIPT, str(artifact.parent / "model.onnx"), str(folder)]
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        subprocess.run([*line, str(seed)], env=environment, check=True, timeout=120)
        assert digests(folder) == wanted


def test_a_second_build_in_one_process_has_the_same_bytes(artifact, tmp_path):
    load("coreml").preflight(artifact.parent / "model.onnx", FIELDS)
    load("coreml").compile(
        artifact.parent / "model.onnx", tmp_path, {"precision": "float16"}, FIELDS, words=WORDS
    )
    assert digests(tmp_path) == digests(artifact)


def test_the_metadata_is_what_the_profile_says_and_the_version_of_the_tool(artifact):
    from importlib.metadata import version

    assert read_package(artifact / "model.mlpackage").metadata == {
        "author": "A. Uthor",
        "license": "MIT",
        "version": "1.2",
        "edgedeploy.source.sha256": "5" * 64,
        "com.github.apple.coremltools.version": version("coremltools"),
    }


def test_coremltools_takes_the_package_as_its_own(artifact, tmp_path):
    from coremltools.libmodelpackage import ModelPackage

    package = artifact / "model.mlpackage"
    assert ModelPackage.isValid(str(package))
    root = ModelPackage(str(package)).getRootModel()
    assert Path(root.path()).name == "model.mlmodel"
    items = json.loads((package / "Manifest.json").read_text())["itemInfoEntries"]
    assert all((package / "Data" / item["path"]).exists() for item in items.values())


def test_a_package_without_weights_names_none(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], name="relu")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    model = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), model)
    folder = tmp_path / "artifact"
    folder.mkdir()
    load("coreml").compile(model, folder, {}, FIELDS)
    assert len(digests(folder)) == 3
    text = (folder / "model.mlpackage/Manifest.json").read_text()
    assert "weights" not in text


def test_layers_on_integers_are_counted_with_their_multiply_adds(tmp_path):
    """A quantized model states two of its three layers on integers; the counts are by hand."""
    from onnxruntime import quantization

    samples = iter([{"x": np.random.default_rng(0).random((1, 3, 17, 17), np.float32)}])

    class Samples(quantization.CalibrationDataReader):
        def get_next(self):
            return next(samples, None)

    source = network(tmp_path / "float.onnx")
    model = tmp_path / "qdq.onnx"
    quantization.quantize_static(
        str(source),
        str(model),
        Samples(),
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        nodes_to_quantize=["c1", "c2"],
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(model)), model)
    folder = tmp_path / "artifact"
    folder.mkdir()
    backend = load("coreml")
    backend.compile(model, folder, {"precision": "float16"}, FIELDS)
    found = backend.arithmetic(folder, {"x": np.zeros((1, 3, 17, 17), np.float32)}).to_json()
    first, second, last = 16 * 3 * 9 * 8 * 8, 16 * 16 * 9 * 8 * 8, 16 * 10
    assert (found["layers"], found["integer_layers"]) == (3, 2)
    assert (found["macs"], found["integer_macs"]) == (first + second + last, first + second)
    assert found["stated"] and found["conversions"] > 0 and not found["uncounted_layers"]
    assert [item["macs"] for item in found["float_layers"]] == [last]


@pytest.mark.parametrize(
    "damage",
    [
        "interface.json",
        "model.mlpackage/Manifest.json",
        "model.mlpackage/Data/com.apple.CoreML/model.mlmodel",
        "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
    ],
)
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "missing"])
def test_a_damaged_package_does_not_load(artifact, tmp_path, damage, cut):
    copy = tmp_path / "artifact"
    shutil.copytree(artifact, copy)
    path = copy / damage
    if cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    with pytest.raises(BuildError) as caught:
        load("coreml").runner(copy)
    assert caught.value.diagnostics[0].code == "E317"
