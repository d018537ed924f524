"""What the quantizer that comes with ONNX Runtime does to real models must not happen to ours.

Each test shows both: how ``onnxruntime.quantization`` fails, and that the same model passes here.
Where a version of it no longer fails on a model as it comes, the docstring says for which one it
still does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from forms import Calibrated, Form, calibrated, quantized, samples_of, source_of
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from rtx import Parser

from edgedeploy.quant.dynamic import quantize_dynamic
from edgedeploy.quant.scheme import Scheme

pytestmark = pytest.mark.slow

Inputs = Mapping[str, np.ndarray]
Made = Callable[[str], Calibrated]
LAYER_OPS = ["MatMul", "Gemm", "Conv"]


class Feeds(quantization.CalibrationDataReader):
    """Samples as the stock quantizer reads them."""

    def __init__(self, feeds: Iterable[Inputs]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Inputs | None:
        return next(self._feeds, None)


def feeds(name: str, count: int = 3, role: str = "calibrate") -> list[Inputs]:
    return [sample[0] for sample in islice(samples_of(name, role), count)]


def stock(model: Path, folder: Path, given: Iterable[Inputs], **words: Any) -> Path:
    """Return the model that the stock static quantizer writes, by default as it is meant."""
    made = folder / "stock.onnx"
    quantization.quantize_static(str(model), str(made), Feeds(given), **words)
    return made


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers(path: Path, given: Iterable[Inputs]) -> np.ndarray:
    """Return all first outputs as one vector."""
    runner = session(path)
    return np.concatenate([runner.run(None, dict(inputs))[0].ravel() for inputs in given])


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def check(form: Form, model: Path, given: list[Inputs], least: float) -> None:
    """Assert that a form loads, has integer layers and answers as the float model does."""
    assert form.report.quantized
    assert cosine(answers(form.path, given), answers(model, given)) > least


def test_one_scale_per_channel_before_opset_13(made: Made, tmp_path: Path) -> None:
    """DequantizeLinear had no axis then: the stock quantizer writes a model that does not load."""
    path = stock(source_of("pnet"), tmp_path, feeds("pnet"), per_channel=True)
    with pytest.raises(Exception, match=r"INVALID_GRAPH.*DequantizeLinear"):
        session(path)
    form = quantized(made("pnet"), "ort", tmp_path / "out")
    scales = [form.constants()[node.input[1]] for node in form.nodes("DequantizeLinear")]
    assert any(scale.size > 1 for scale in scales)
    check(form, source_of("pnet"), feeds("pnet", role="evaluate"), 0.99)


def test_weights_in_constant_nodes(made: Made, tmp_path: Path) -> None:
    """The stock dynamic quantizer reports success and has quantized nothing."""
    given, path = source_of("rec"), tmp_path / "stock.onnx"
    quantization.quantize_dynamic(str(given), str(path), op_types_to_quantize=["MatMul"])
    ops = Counter(node.op_type for node in onnx.load(str(path)).graph.node)
    assert ops["MatMul"] == 13 and not ops["MatMulInteger"] and not ops["DynamicQuantizeLinear"]
    assert path.stat().st_size >= given.stat().st_size
    (tmp_path / "out").mkdir()
    report = quantize_dynamic(made("rec").model, Scheme(activations="dynamic"), tmp_path / "out")
    assert report.ops["MatMul"] == 9  # the other four multiply two activations
    ours = tmp_path / "out/model.onnx"
    assert ours.stat().st_size < 0.75 * given.stat().st_size
    lines = feeds("rec", 2, "evaluate")
    assert cosine(answers(ours, lines), answers(given, lines)) > 0.99


def test_percentiles_of_widths_that_differ(tmp_path: Path) -> None:
    """Its histograms want tensors of one shape."""
    lines = [dict(inputs) for inputs in feeds("rec", 4)]
    for number, inputs in enumerate(lines):
        inputs["x"] = inputs["x"][..., : 160 + 80 * (number % 2)]
    method = quantization.CalibrationMethod.Percentile
    with pytest.raises(ValueError, match="inhomogeneous shape"):
        stock(source_of("rec"), tmp_path, lines, calibrate_method=method)
    ours = calibrated("rec", tmp_path / "ours", samples=lines)
    form = quantized(ours, "ort", tmp_path / "out", ranges="percentile-99.99")
    check(form, source_of("rec"), lines, 0.97)


def test_a_quantized_tensorflow_export_that_does_not_load(tmp_path: Path) -> None:
    """The runtime's type inference refuses what the stock quantizer made of a tf2onnx model.

    Since 1.32 it takes magika at opset 15 again; raised to opset 21 the quantized model still is
    refused.
    """
    raised = tmp_path / "raised.onnx"
    model = onnx.version_converter.convert_version(onnx.load(str(source_of("magika"))), 21)
    onnx.save(model, str(raised))
    path = stock(raised, tmp_path, feeds("magika"), op_types_to_quantize=LAYER_OPS)
    with pytest.raises(Exception, match="TypeInferenceError"):
        session(path)
    ours = calibrated("magika", tmp_path / "ours", opset=21, source=raised)
    form = quantized(ours, "ort", tmp_path / "out")
    assert form.proto.opset_import[0].version == 21
    check(form, source_of("magika"), feeds("magika", 6, "evaluate"), 0.98)


def test_one_scale_per_channel_of_a_product_with_a_bias(made: Made, tmp_path: Path) -> None:
    """It trips over the bias once a MatMul and its Add are a Gemm, as in magika.

    1.32 raises it where its own advice was followed, to optimise before quantizing.
    """
    prepared = tmp_path / "prepared.onnx"
    quant_pre_process(str(source_of("magika")), str(prepared), skip_symbolic_shape=True)
    words = {"per_channel": True, "op_types_to_quantize": LAYER_OPS}
    with pytest.raises(ValueError, match="truth value of an array"):
        stock(prepared, tmp_path, feeds("magika"), **words)
    form = quantized(made("magika"), "ort", tmp_path / "out")
    assert form.report.ops == {"Conv": 1, "Gemm": 1, "MatMul": 1}
    check(form, source_of("magika"), feeds("magika", 6, "evaluate"), 0.98)


def speech(path: Path) -> np.ndarray:
    """Return the probability of speech for every frame of two recordings, state carried along."""
    runner, found = session(path), []
    names = {item.name for item in runner.get_inputs()}
    recording, state = None, np.zeros((2, 1, 128), np.float32)
    for inputs, _, _, sequence in samples_of("silero", "evaluate"):
        if sequence != recording:
            recording, state = sequence, np.zeros((2, 1, 128), np.float32)
        given = {**inputs, "state": state, "sr": np.array(16000, np.int64)}
        probability, state = runner.run(None, {key: given[key] for key in names})
        found.append(float(probability.squeeze()))
    return np.array(found)


def test_weights_in_the_branches_of_an_if(tmp_path: Path) -> None:
    """The stock quantizers shrink the voice detector by two fifths, and it hears nothing more."""
    given = source_of("silero")
    rest = {"state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000, np.int64)}
    static = stock(given, tmp_path, [{**inputs, **rest} for inputs in feeds("silero", 40)])
    dynamic = tmp_path / "dynamic.onnx"
    quantization.quantize_dynamic(str(given), str(dynamic))
    wanted = speech(given)
    assert wanted.std() > 0.1
    for path in (static, dynamic):
        assert abs(np.corrcoef(speech(path), wanted)[0, 1]) < 0.5
        assert path.stat().st_size > 0.55 * given.stat().st_size
    form = quantized(calibrated("silero", tmp_path / "ours", count=40), "ort", tmp_path / "out")
    assert np.corrcoef(speech(form.path), wanted)[0, 1] > 0.95
    assert form.path.stat().st_size < 0.3 * given.stat().st_size


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_old_opsets(name: str, made: Made, tmp_path: Path) -> None:
    """IR 3 lists its weights as inputs: prepared as advised, the stock quantizer asks for them."""
    prepared = tmp_path / "prepared.onnx"
    quant_pre_process(str(source_of(name)), str(prepared))
    assert onnx.load(str(prepared)).ir_version == 3
    with pytest.raises(ValueError, match="Required inputs"):
        stock(prepared, tmp_path, feeds(name, 1))
    form = quantized(made(name), "ort", tmp_path / "out")
    assert form.proto.opset_import[0].version == 17 and len(form.proto.graph.input) == 1
    check(form, made(name).model, feeds(name, 1, "evaluate"), 0.95)


def same_names(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = "layer"


def unsorted(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@pytest.mark.parametrize(
    ("change", "valid", "refusal"),
    [(same_names, True, "two nodes with same node name"), (unsorted, False, "")],
)
def test_names_and_order(
    change: Callable[[onnx.ModelProto], None], valid: bool, refusal: str, tmp_path: Path
) -> None:
    """The checker takes what the runtime refuses, and the reverse; the stock quantizer neither."""
    model, path = onnx.load(str(source_of("onet"))), tmp_path / "given.onnx"
    change(model)
    onnx.save(model, str(path))
    if valid:
        onnx.checker.check_model(model)
        with pytest.raises(Exception, match=refusal):
            session(path)
    else:
        session(path)
        with pytest.raises(onnx.checker.ValidationError, match="topologically sorted"):
            onnx.checker.check_model(model)
    with pytest.raises(Exception, match=refusal or "quantization scale"):
        stock(path, tmp_path, feeds("onet"))
    ours = calibrated("onet", tmp_path / "ours", source=path)
    form = quantized(ours, "ort", tmp_path / "out")
    assert form.report.ops == {"Conv": 4, "Gemm": 4}
    check(form, source_of("onet"), feeds("onet", role="evaluate"), 0.99)


def test_tensorrt_refuses_the_default(made: Made, tmp_path: Path) -> None:
    """The int32 bias behind a DequantizeLinear does not parse, with symmetric scales neither."""
    symmetric = {
        "activation_type": quantization.QuantType.QInt8,
        "weight_type": quantization.QuantType.QInt8,
        "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True},
    }
    for words in ({}, symmetric):
        path = stock(made("onet").model, tmp_path, feeds("onet"), **words)
        errors = Parser(path).errors
        assert errors and "bias:0_DequantizeLinear" in errors[0]
    form = quantized(made("onet"), "tensorrt", tmp_path / "out")
    assert Parser(form.path).errors == []
