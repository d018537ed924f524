"""The tail that mixes boxes and scores: what the stock recipe makes of it, and what ours does.

The example's own detector on one of its pictures, in the form for each runtime, as the runtime (or
its parser and an interpreter) computes it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from edgedeploy.backends import load
from edgedeploy.data.pack import PackWriter
from edgedeploy.decode import make_decoder
from edgedeploy.decode.boxes import areas, intersections
from edgedeploy.model import adopt
from edgedeploy.passes.normalise import NormaliseOptions, normalise
from edgedeploy.passes.optimise import optimise
from edgedeploy.profile.types import DecodeSpec, QuantizeSpec
from edgedeploy.quant import mixtures
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.qdq import quantize
from edgedeploy.quant.scheme import RUNTIME_DEFAULTS, scheme_for
from edgedeploy.quant.table import CalibrationTable

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples/detector"
HEIGHT, WIDTH = 128, 640
BOXES = 4
RUNTIMES = ("ort", "openvino", "tensorrt-rtx", "coreml")
SIGNED = ("tensorrt-rtx", "coreml")
"""Runtimes that take symmetric int8 alone."""

FIELDS: dict[str, dict[str, Any]] = {
    "tensorrt-rtx": {"board.gpu": {"compute_capabilities": ["8.6"]}},
    "coreml": {"board.os": "ios", "board.os_version": 17},
}


def module(name: str) -> ModuleType:
    """Return a file of the example."""
    spec = importlib.util.spec_from_file_location(f"detector_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A detector as the quantizer gets it.

    Attributes:
        model: Its optimised normal form.
        table: What calibration saw on the pictures.
        pictures: Inputs.
    """

    model: Path
    table: CalibrationTable
    pictures: list[np.ndarray]


def prepared(source: onnx.ModelProto, pictures: list[np.ndarray], folder: Path) -> Prepared:
    for step in ("adopted", "normal", "optimised", "samples"):
        (folder / step).mkdir()
    onnx.save(source, folder / "source.onnx")
    adopt(folder / "source.onnx", folder / "adopted")
    normalise(folder / "adopted/model.onnx", folder / "normal", NormaliseOptions(opset=17))
    optimise(folder / "normal/model.onnx", folder / "optimised")
    model = folder / "optimised/model.onnx"
    (name,) = (item.name for item in source.graph.input)
    with PackWriter(folder / "samples") as writer:
        for number, picture in enumerate(pictures):
            writer.add(str(number), {name: picture})
    table = calibrate(model, folder / "samples", folder / "table.json")
    return Prepared(model=model, table=table, pictures=pictures)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The example's detector for pictures as wide as its own, but low, and two such pictures."""
    net, scenes = module("net"), module("scenes")
    with np.load(EXAMPLE / "weights.npz") as file:
        weights = {name: file[name].astype(np.float32) for name in file.files}
    rng, pictures = np.random.default_rng(5), []
    for photograph in scenes.photographs():
        cut = photograph[200 : 200 + HEIGHT]
        picture, _ = scenes.scene(cut, scenes.handwriting("evaluate"), 12, rng)
        pictures.append(picture.transpose(2, 0, 1)[None] / np.float32(255))
    folder = tmp_path_factory.mktemp("detector")
    return prepared(net.onnx_model(weights, HEIGHT, WIDTH), pictures, folder)


class Feeds(quantization.CalibrationDataReader):
    """Pictures as the stock quantizer reads them."""

    def __init__(self, name: str, pictures: list[np.ndarray]) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = iter([{name: p} for p in pictures])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def stock(given: Prepared, runtime: str, folder: Path) -> Path:
    """Return what ONNX Runtime's static quantizer writes, in the types that the runtime takes."""
    name = onnx.load(given.model).graph.input[0].name
    options: dict[str, Any] = {}
    if runtime in SIGNED:
        options = {
            "activation_type": quantization.QuantType.QInt8,
            "extra_options": {"ActivationSymmetric": True, "QuantizeBias": False},
        }
    path, normal = folder / "stock.onnx", folder / "normal"
    feeds = Feeds(name, given.pictures)
    quantization.quantize_static(str(given.model), str(path), feeds, **options)
    normal.mkdir()
    normalise(path, normal, NormaliseOptions())
    return normal / "model.onnx"


def ours(given: Prepared, runtime: str, folder: Path) -> Path:
    """Return what our quantizer writes for a runtime."""
    scheme = scheme_for(QuantizeSpec(mode="w8a8", rounding="nearest"), RUNTIME_DEFAULTS[runtime])
    quantize(given.model, given.table, scheme, folder)
    return folder / "model.onnx"


def answer(path: Path, runtime: str, folder: Path, picture: np.ndarray) -> np.ndarray:
    """Return the first output as the runtime's artifact gives it."""
    backend = load(runtime)
    backend.compile(path, folder, {}, FIELDS.get(runtime, {}))
    with backend.runner(folder) as runner:
        (name,) = (spec.name for spec in runner.signature.inputs)
        return next(iter(runner.run({name: picture}).values()))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_stock_int8_gives_no_score_and_ours_does(
    runtime: str, detector: Prepared, tmp_path: Path
) -> None:
    """Boxes of 0 to 640 beside scores of 0 to 1."""
    picture = detector.pictures[0]
    for name in ("float", "stock", "ours", "of-float", "of-stock", "of-ours"):
        (tmp_path / name).mkdir()
    forms = {
        "float": detector.model,
        "stock": stock(detector, runtime, tmp_path / "stock"),
        "ours": ours(detector, runtime, tmp_path / "ours"),
    }
    found = {
        name: answer(path, runtime, tmp_path / f"of-{name}", picture)
        for name, path in forms.items()
    }
    assert found["float"][0, :BOXES].max() > 600 and found["float"][0, BOXES:].max() > 0.6
    assert found["stock"][0, BOXES:].max() == 0
    assert boxes(found["stock"], 0.25) == []
    sure = boxes(found["float"], 0.5)
    assert len(sure) > 5
    for box in sure:
        assert any(same(box, other) for other in boxes(found["ours"], 0.25)), box


def boxes(output: np.ndarray, score: float) -> list[dict[str, Any]]:
    """Return what the detector's decoder answers from a score on."""
    spec = DecodeSpec(name="yolo", parameters={"score": score})
    decoder = make_decoder(spec, outputs=("y",), metadata={}, classes=())
    whole = {"width": WIDTH, "height": HEIGHT, "input_width": WIDTH, "input_height": HEIGHT}
    place = {**whole, "scale_x": 1.0, "scale_y": 1.0, "left": 0, "top": 0}
    value: list[dict[str, Any]] = decoder.answer({"y": output}, place).value
    return value


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Return whether two answers are of one digit: their boxes share three quarters."""
    one, other = np.array([first["box"]]), np.array([second["box"]])
    both = intersections(one, other)[0, 0]
    near = both / (areas(one)[0] + areas(other)[0] - both) > 0.75
    return bool(first["class"] == second["class"] and near)


def mixture() -> onnx.ModelProto:
    """Return heads whose results are joined and then read by a product, as some exporters end.

    The product turns centre and size into corners and leaves the scores as they are.
    """
    rng = np.random.default_rng(0)
    turn = np.eye(6, dtype=np.float32)
    turn[:4, :4] = [[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]]
    constants = {
        "w": rng.normal(size=(8, 3, 3, 3)).astype(np.float32) / 3,
        "boxes_w": rng.uniform(20, 120, (4, 8, 1, 1)).astype(np.float32),
        "scores_w": rng.uniform(0, 0.2, (2, 8, 1, 1)).astype(np.float32),
        "shape": np.array([1, 6, 256]),
        "turn": turn,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="stem_relu"),
        helper.make_node("Conv", ["b", "boxes_w"], ["boxes"], name="boxes"),
        helper.make_node("Conv", ["b", "scores_w"], ["scores"], name="scores"),
        helper.make_node("Concat", ["boxes", "scores"], ["joined"], name="join", axis=1),
        helper.make_node("Reshape", ["joined", "shape"], ["flat"], name="flat"),
        helper.make_node("Transpose", ["flat"], ["rows"], name="rows", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", "turn"], ["y"], name="turn"),
    ]
    graph = helper.make_graph(
        nodes,
        "mixture",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 256, 6])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_product_that_reads_boxes_and_scores_stays_in_float(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one scale for what is joined, scores have a handful of values: the rule is needed."""
    rng = np.random.default_rng(1)
    pictures = [rng.uniform(0, 1, (1, 3, 16, 16)).astype(np.float32) for _ in range(4)]
    given = prepared(mixture(), pictures, tmp_path)
    found = {}
    for name, share in (("float", None), ("ours", mixtures.LEAST_SHARE), ("without", 0.0)):
        (tmp_path / name).mkdir()
        (tmp_path / f"of-{name}").mkdir()
        path = given.model
        if share is not None:
            monkeypatch.setattr(mixtures, "LEAST_SHARE", share)
            path = ours(given, runtime, tmp_path / name)
        found[name] = answer(path, runtime, tmp_path / f"of-{name}", pictures[0])[..., BOXES:]
    wrong = {name: abs(found[name] - found["float"]).max() for name in ("ours", "without")}
    assert found["float"].max() < 3 and wrong["ours"] < 0.1 < 0.4 < wrong["without"]
