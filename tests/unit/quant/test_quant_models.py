"""Real models: each failure of stock quantizers on them must not occur here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from quant_support import (
    MAGIKA,
    ONET,
    PNET,
    REC,
    RNET,
    SHUFFLENET,
    SILERO,
    SQUEEZENET,
    normal_form,
    optimised_ops,
    pack,
    session,
    sqnr_db,
)

from edgedeploy.errors import ModelError
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.layers import layer_ops
from edgedeploy.quant.qdq import quantize
from edgedeploy.quant.scheme import RUNTIME_DEFAULTS, Scheme

PROFILES = Path(__file__).parents[3] / "profiles"


def lines_module():
    spec = importlib.util.spec_from_file_location("lines", PROFILES / "quickstart_lines.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def distance(first: str, second: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(second) + 1))
    for count, left in enumerate(first, 1):
        previous, row[0] = row[0], count
        for position, right in enumerate(second, 1):
            old = row[position]
            row[position] = min(old + 1, row[position - 1] + 1, previous + (left != right))
            previous = old
    return row[-1]


def error_rate(path: Path, characters: list[str], samples: list) -> float:
    """Character error rate, greedy CTC decoding with blank 0."""
    runner, errors, total = session(path, optimise=True), 0, 0
    for inputs, truth in samples:
        best = runner.run(None, inputs)[0][0].argmax(axis=-1)
        kept = [i for n, i in enumerate(best) if i and (n == 0 or i != best[n - 1])]
        errors += distance("".join(characters[i] for i in kept), truth)
        total += len(truth)
    return errors / total


def test_quant_line_recogniser_keeps_its_error_rate(tmp_path):
    """Weights in Constant nodes, dynamic widths, opset 12; naive int8 reads nothing at all."""
    lines = lines_module()
    model = normal_form(REC, tmp_path)
    folder = pack(tmp_path / "pack", [inputs for inputs, _ in lines.calibration()])
    table = calibrate(model, folder, tmp_path / "table.json")
    (tmp_path / "out").mkdir()
    report = quantize(model, table, Scheme(), tmp_path / "out")
    assert report.kept == ()
    metadata = {item.key: item.value for item in onnx.load(model).metadata_props}
    characters = ["", *metadata["character"].splitlines(), " "]
    made, samples = tmp_path / "out/model.onnx", list(lines.evaluation())
    assert len(samples) >= 100
    float_rate = error_rate(model, characters, samples)
    assert 0 < float_rate < 0.01
    assert error_rate(made, characters, samples) <= float_rate + 0.005
    assert made.stat().st_size < 0.35 * model.stat().st_size
    found = optimised_ops(made, tmp_path)
    assert found["QLinearConv"] == 38
    assert found["MatMulIntegerToFloat"] == 9
    assert not found["Conv"]


def images(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Smooth random pictures in [-1, 1], NHWC."""
    coarse = generator.uniform(-1, 1, (shape[0], 6, 6, shape[3])).astype(np.float32)
    return np.repeat(np.repeat(coarse, shape[1] // 6, axis=1), shape[2] // 6, axis=2)


def texts(generator: np.random.Generator, count: int) -> list[dict[str, np.ndarray]]:
    """Random text as magika reads it: 1024 bytes from the start, 1024 from the end, 256 pads."""
    alphabet = np.frombuffer(b"etaoin shrdlu{}();=<>/\n\t0123", np.uint8)
    found = []
    for _ in range(count):
        row = np.full((1, 2048), 256, np.int32)
        size = int(generator.integers(64, 1024))
        row[0, :size] = row[0, 2048 - size :] = generator.choice(alphabet, size)
        found.append({"bytes": row})
    return found


CASES = {
    "magika": (MAGIKA, lambda g, n: texts(g, n), {"QLinearConv": 1, "QGemm": 1}, 20),
    "pnet": (
        PNET,
        lambda g, n: [{"input_1": images(g, 1, 36, 48, 3)} for _ in range(n)],
        {"QLinearConv": 5},
        15,
    ),
    "rnet": (
        RNET,
        lambda g, n: [{"input_2": images(g, 4, 24, 24, 3)} for _ in range(n)],
        {"QLinearConv": 3, "QGemm": 3},
        18,
    ),
    "onet": (
        ONET,
        lambda g, n: [{"input_3": images(g, 4, 48, 48, 3)} for _ in range(n)],
        {"QLinearConv": 4, "QGemm": 4},
        18,
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("runtime", RUNTIME_DEFAULTS)
def test_quant_keras_and_tensorflow_exports_load_and_agree(case, runtime, tmp_path):
    source, data, kernels, floor_db = CASES[case]
    model = normal_form(source, tmp_path)
    samples = data(np.random.default_rng(3), 24)
    table = calibrate(model, pack(tmp_path / "pack", samples), tmp_path / "table.json")
    (tmp_path / "out").mkdir()
    scheme = Scheme(**RUNTIME_DEFAULTS[runtime])
    report = quantize(model, table, scheme, tmp_path / "out")
    assert report.kept == ()
    made = tmp_path / "out/model.onnx"
    if runtime == "ort":
        found = optimised_ops(made, tmp_path)
        assert {op: found[op] for op in kernels} == kernels
    reference, quantized = session(model), session(made)
    pairs = [(reference.run(None, s)[0], quantized.run(None, s)[0]) for s in samples[:8]]
    wanted, found = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    assert sqnr_db(wanted, found) > floor_db


def test_quant_weights_inside_if_bodies_stay_float(tmp_path):
    model = normal_form(SILERO, tmp_path)
    generator = np.random.default_rng(0)
    frames = [
        {
            "input": (generator.normal(size=(1, 576)) * 0.02).astype(np.float32),
            "sr": np.array(16000, np.int64),
        }
        for _ in range(12)
    ]
    folder = pack(tmp_path / "pack", frames, sequence="recording")
    table = calibrate(model, folder, tmp_path / "t.json", state=[("state", "stateN")])
    (tmp_path / "out").mkdir()
    scheme = Scheme(keep_float_roles=("first",))
    report = quantize(model, table, scheme, tmp_path / "out")
    assert report.ops == {"Conv": 4}
    reasons = {item.reason for item in report.kept}
    assert "it is in a subgraph" in reasons
    state = [np.zeros((2, 1, 128), np.float32)] * 2
    for frame in frames:
        results = []
        for side, path in enumerate((model, tmp_path / "out/model.onnx")):
            probability, state[side] = session(path).run(None, {**frame, "state": state[side]})
            results.append(float(probability.squeeze()))
        assert results[1] == pytest.approx(results[0], abs=0.05)


@pytest.mark.parametrize(("source", "least"), [(SQUEEZENET, 26), (SHUFFLENET, 49)])
def test_quant_opset_9_models_with_computed_weights(source, least, tmp_path):
    """Weights from ConstantOfShape: refused with the reason, quantized once they are folded."""
    generator = np.random.default_rng(0)
    raw = normal_form(source, tmp_path)
    name = onnx.load(raw, load_external_data=False).graph.input[0].name
    sample = {name: generator.normal(size=(1, 3, 224, 224)).astype(np.float32)}
    folder = pack(tmp_path / "pack", [sample])
    assert not layer_ops(raw)
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match="no float32 initialiser") as caught:
        quantize(raw, calibrate(raw, folder, tmp_path / "t.json"), Scheme(), tmp_path / "out")
    assert caught.value.diagnostics[0].code == "E262"
    model = normal_form(source, tmp_path, fold=True)
    table = calibrate(model, folder, tmp_path / "t.json")
    report = quantize(model, table, Scheme(), tmp_path / "out")
    assert report.ops["Conv"] == least
    wanted, found = (session(p).run(None, sample)[0] for p in (model, tmp_path / "out/model.onnx"))
    assert sqnr_db(wanted, found) > 30
