"""What an app feeds a Core ML package and gets: images, classes, states, sizes, names and types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.backends import load
from edgedeploy.backends.apple.backend import deployment_target
from edgedeploy.backends.apple.interface import Interface
from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.backends.base import Words
from edgedeploy.data.preprocess import normalise
from edgedeploy.errors import BuildError
from edgedeploy.profile.dims import parse_dim
from edgedeploy.profile.types import ImagePreprocess

pytestmark = pytest.mark.slow

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
CLASSES = ("cat", "dog", "horse", "bird")


def save(path: Path, nodes: list[Any], inputs: Any, outputs: Any, **weights: np.ndarray) -> Path:
    """Write a model; inputs and outputs are ``(name, type, dims)``."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(made), path)
    return path


def vision(path: Path, dims: list[Any], channels: int = 3, layout: str = "nchw") -> Path:
    """Write a classifier of images with four classes."""
    rng = np.random.default_rng(0)
    axes = [2, 3] if layout == "nchw" else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], name="mean", axes=axes, keepdims=0),
        helper.make_node("Gemm", ["m", "w"], ["l"], name="fc"),
        helper.make_node("Softmax", ["l"], ["prob"], name="softmax"),
    ]
    weight = rng.normal(size=(channels, 4)).astype(np.float32) * 3
    return save(path, nodes, [("x", FLOAT, dims)], [("prob", FLOAT, [dims[0], 4])], w=weight)


def compiled(
    model: Path,
    *,
    ios: int = 17,
    words: Words | None = None,
    ranges: Mapping[str, tuple[int, int]] | None = None,
    **options: Any,
) -> Path:
    folder = model.with_suffix(".artifact")
    folder.mkdir()
    fields = {"board.os": "ios", "board.os_version": ios}
    load("coreml").compile(model, folder, options, fields, ranges=ranges, words=words)
    return folder


def description(folder: Path) -> Any:
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    path = folder / "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    spec.ParseFromString(path.read_bytes())
    return spec.description


def expected(model: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(str(model))
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def same(folder: Path, model: Path, inputs: Mapping[str, np.ndarray], rtol: float = 1e-5) -> None:
    with CoreMlRunner(folder) as runner:
        made = runner.run(inputs)
    wanted = expected(model, inputs)
    assert list(made) == list(wanted)
    for name, value in wanted.items():
        assert made[name].dtype == value.dtype
        assert made[name].shape == value.shape
        np.testing.assert_allclose(made[name], value, rtol=rtol, atol=1e-6)


def refused(code: str, model: Path, **how: Any) -> str:
    with pytest.raises(BuildError) as caught:
        compiled(model, **how)
    assert {item.code for item in caught.value.diagnostics} == {code}
    return caught.value.diagnostics[0].message


@pytest.mark.parametrize(
    ("system", "version", "ios"),
    [
        *(("ios", version, version) for version in (16, 17, 18)),
        *(("macos", version, version + 3) for version in (13, 14, 15)),
        ("ios", 26, 18),
        ("macos", 26, 18),
    ],
)
def test_the_deployment_target_follows_the_boards_system(system, version, ios):
    fields = {"board.os": system, "board.os_version": version}
    assert deployment_target(fields) == ios


IMAGES = {
    "plain": ImagePreprocess(height=4, width=6),
    "scaled": ImagePreprocess(height=4, width=6, scale=1 / 255),
    "normalised": ImagePreprocess(
        height=4,
        width=6,
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        colour="bgr",
    ),
    "centred": ImagePreprocess(height=4, width=6, mean=(127.5,), std=(127.5,), layout="nhwc"),
    "gray": ImagePreprocess(height=4, width=6, scale=1 / 255, mean=(0.5,), colour="gray"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_input_computes_what_the_preprocessing_says(name, tmp_path):
    image = IMAGES[name]
    channels = 1 if image.colour == "gray" else 3
    dims = [1, channels, 4, 6] if image.layout == "nchw" else [1, 4, 6, channels]
    model = vision(tmp_path / "m.onnx", dims, channels, image.layout)
    folder = compiled(model, words=Words(images={"x": image}), images=True)
    (given,) = description(folder).input
    kind = given.type.imageType
    assert (kind.height, kind.width) == (4, 6)
    spaces = {"rgb": 20, "bgr": 30, "gray": 10}  # ImageFeatureType.ColorSpace of FeatureTypes.proto
    assert kind.colorSpace == spaces[image.colour]
    pixels = np.random.default_rng(3).integers(0, 256, (4, 6, channels)).astype(np.uint8)
    same(folder, model, {"x": normalise(pixels, image).astype(np.float32)})


def test_samples_that_no_image_gives_are_refused(tmp_path):
    words = Words(images={"x": IMAGES["scaled"]})
    folder = compiled(vision(tmp_path / "m.onnx", [1, 3, 4, 6]), words=words, images=True)
    with CoreMlRunner(folder) as runner, pytest.raises(BuildError) as caught:
        runner.run({"x": np.full((1, 3, 4, 6), 1.5, np.float32)})
    assert caught.value.diagnostics[0].code == "E345"


def test_what_cannot_be_an_image_is_refused(tmp_path):
    words = Words(images={"x": IMAGES["scaled"]})
    model = vision(tmp_path / "m.onnx", [2, 3, 4, 6])
    assert "[2, 3, 4, 6]" in refused("E344", model, words=words, images=True)


def test_without_the_option_an_image_stays_an_array(tmp_path):
    model = vision(tmp_path / "m.onnx", [1, 3, 4, 6])
    folder = compiled(model, words=Words(images={"x": IMAGES["scaled"]}))
    assert description(folder).input[0].type.WhichOneof("Type") == "multiArrayType"


def test_a_classifier_answers_by_name(tmp_path):
    model = vision(tmp_path / "m.onnx", [1, 3, 4, 6])
    folder = compiled(model, words=Words(classes=CLASSES), classifier=True)
    found = description(folder)
    assert found.predictedFeatureName == "classLabel"
    assert [item.type.WhichOneof("Type") for item in found.output] == [
        "stringType",
        "dictionaryType",
    ]
    same(folder, model, {"x": np.random.default_rng(1).random((1, 3, 4, 6), np.float32)})


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (CLASSES[:3], "there are 3 classes"),
        (("a", "b", "a", "c"), "1 classes have a name"),
        ((), "no classes"),
    ],
)
def test_classes_that_do_not_fit_are_refused(classes, told, tmp_path):
    model = vision(tmp_path / "m.onnx", [1, 3, 4, 6])
    assert told in refused("E347", model, words=Words(classes=classes), classifier=True)


def recurrent(path: Path, dims: list[Any], kind: int = FLOAT) -> Path:
    nodes = [
        helper.make_node("Add", ["x", "s_in"], ["s_out"], name="add"),
        helper.make_node("Neg", ["s_out"], ["y"], name="neg"),
    ]
    inputs = [("x", kind, dims), ("s_in", kind, dims)]
    return save(path, nodes, inputs, [("y", kind, dims), ("s_out", kind, dims)])


def test_a_state_is_kept_by_core_ml_and_carried_like_before(tmp_path):
    model = recurrent(tmp_path / "m.onnx", [1, 3])
    words = Words(state=(("s_in", "s_out"),))
    folder = compiled(model, ios=18, words=words, stateful=True)
    found = description(folder)
    assert [item.name for item in found.input] == ["x"]
    assert [item.name for item in found.output] == ["y"]
    assert [item.name for item in found.state] == ["s_in"]
    state = np.zeros((1, 3), np.float32)
    with CoreMlRunner(folder) as runner:
        for step in range(3):
            inputs = {"x": np.full((1, 3), step + 0.5, np.float32), "s_in": state}
            made, wanted = runner.run(inputs), expected(model, inputs)
            np.testing.assert_array_equal(made["y"], wanted["y"])  # halves: exact in float16
            np.testing.assert_array_equal(made["s_out"], wanted["s_out"])
            state = made["s_out"]
    assert state.tolist() == [[4.5, 4.5, 4.5]]


@pytest.mark.parametrize(
    ("ios", "dims", "kind", "told"),
    [
        (17, [1, 3], FLOAT, "from iOS 18"),
        (18, ["N", 3], FLOAT, "is open"),
        (18, [1, 3], INT64, "int64"),
    ],
)
def test_states_that_core_ml_does_not_have_are_refused(ios, dims, kind, told, tmp_path):
    model = recurrent(tmp_path / "m.onnx", dims, kind)
    words = Words(state=(("s_in", "s_out"),))
    assert told in refused("E346", model, ios=ios, words=words, stateful=True)


def test_a_range_is_told_and_held(tmp_path):
    model = vision(tmp_path / "m.onnx", [1, 3, 4, "W"])
    folder = compiled(model, ranges={"W": (2, 9)})
    sizes = description(folder).input[0].type.multiArrayType.shapeRange.sizeRanges
    assert [(item.lowerBound, item.upperBound) for item in sizes][3] == (2, 9)
    for width in (2, 5, 9):
        same(
            folder, model, {"x": np.random.default_rng(width).random((1, 3, 4, width), np.float32)}
        )
    with CoreMlRunner(folder) as runner, pytest.raises(BuildError) as caught:
        runner.run({"x": np.zeros((1, 3, 4, 10), np.float32)})
    assert caught.value.diagnostics[0].code == "E333"


def test_buckets_and_steps_are_listed_shapes(tmp_path):
    model = vision(tmp_path / "m.onnx", [1, 3, "H", "W"])
    words = Words(dims={"H": parse_dim([4, 8]), "W": parse_dim("2..6/2")})
    folder = compiled(model, words=words, ranges={"W": (2, 6)}, shapes="enumerated")
    listed = description(folder).input[0].type.multiArrayType.enumeratedShapes.shapes
    shapes = {tuple(item.shape) for item in listed}
    assert shapes == {(1, 3, height, width) for height in (4, 8) for width in (2, 4, 6)}
    for shape in shapes:
        same(folder, model, {"x": np.random.default_rng(1).random(shape, np.float32)})
    with CoreMlRunner(folder) as runner, pytest.raises(BuildError) as caught:
        runner.run({"x": np.zeros((1, 3, 4, 3), np.float32)})
    assert caught.value.diagnostics[0].code == "E333"


def test_sizes_that_core_ml_cannot_be_told_are_refused(tmp_path):
    model = vision(tmp_path / "m.onnx", [1, 3, "H", "W"])
    assert "axis 2 of 'x'" in refused("E348", model, ranges={"W": (2, 6)})
    many = Words(dims={"H": parse_dim("1..13/1"), "W": parse_dim("1..10/1")})
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes())
    assert "130 shapes" in refused("E348", other, words=many, shapes="enumerated")
    two = recurrent(tmp_path / "two.onnx", ["N", 3])
    words = Words(dims={"N": parse_dim([1, 2])})
    assert "only one input" in refused("E348", two, words=words, shapes="enumerated")


def test_names_and_types_of_the_model_are_kept(tmp_path):
    nodes = [
        helper.make_node("Greater", ["a/b:0", "limit"], ["over!"], name="greater"),
        helper.make_node("Add", ["a/b:0", "limit"], ["sum"], name="add"),
        helper.make_node("Not", ["flag"], ["not"], name="not"),
    ]
    model = save(
        tmp_path / "m.onnx",
        nodes,
        [("a/b:0", INT64, [3]), ("flag", BOOL, [2])],
        [("over!", BOOL, [3]), ("sum", INT64, [3]), ("not", BOOL, [2])],
        limit=np.array(2, np.int64),
    )
    folder = model.with_suffix(".artifact")
    folder.mkdir()
    fields = {"board.os": "ios", "board.os_version": 17}
    report = load("coreml").compile(model, folder, {}, fields)
    assert {port.onnx_name: port.name for port in Interface.read(folder).renamed()} == {
        "a/b:0": "a_b_0",
        "over!": "over_",
    }
    assert any("a/b:0 is a_b_0" in note for note in report.notes)
    assert any("flag (bool as int32)" in note for note in report.notes)
    same(folder, model, {"a/b:0": np.array([1, 2, 3]), "flag": np.array([True, False])})


def test_nodes_that_are_kept_compute_in_float32(tmp_path):
    model = vision(tmp_path / "m.onnx", [1, 3, 4, 6])
    folder = compiled(model, precision="float16", keep_float=["f*"])
    with CoreMlRunner(folder) as runner:
        made = {
            operation.kind: operation.outputs[0].type.dtype
            for operation in runner.program.body.operations
            if operation.kind in ("reduce_mean", "linear", "matmul", "softmax")
        }
    assert made["softmax"] == made["reduce_mean"] == "float16"
    assert made.get("linear", made.get("matmul")) == "float32"
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes())
    assert "'Conv'" in refused("E349", other, precision="float16", keep_float_ops=["Conv"])


def test_layers_cannot_be_timed(tmp_path):
    with pytest.raises(BuildError) as caught:
        load("coreml").layer_times(tmp_path, {})
    assert caught.value.diagnostics[0].code == "E343"


def test_refused_nodes_are_all_named_before_anything_is_written(tmp_path):
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["a"], name="first"),
        helper.make_node("RandomUniformLike", ["a"], ["y"], name="second"),
    ]
    model = save(tmp_path / "m.onnx", nodes, [("x", FLOAT, [2])], [("y", FLOAT, [2])])
    fields = {"board.os": "ios", "board.os_version": 17}
    placement = load("coreml").preflight(model, fields)
    assert [item.subject for item in placement.diagnostics] == ["first", "second"]
    told = placement.to_json()["providers"]
    assert told[0]["supported"] == 0 and not told[1]["judged"]
    assert "first" in str(told[0]["unsupported"])
    refused("E340", model)
    assert list((tmp_path / "m.artifact").iterdir()) == []
