"""Calibration against brute force, its refusals, and its memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from quant_support import RNET, SILERO, build, normal_form, pack, session

from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.errors import DataError, EdgedeployError, ModelError
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.observer import Observer
from edgedeploy.quant.table import CalibrationTable, ChannelStatistics, TensorRange

GENERATOR = np.random.default_rng(11)
CONV = helper.make_node("Conv", ["x", "w"], ["c"])


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


@pytest.fixture
def conv(tmp_path):
    """Conv -> Relu -> Conv with dynamic batch, height and width."""
    nodes = [
        CONV,
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["y"]),
    ]
    constants = {"w": normal(6, 4, 1, 1), "v": normal(2, 6, 1, 1)}
    return build(tmp_path, nodes, constants, {"x": ("n", 4, "h", "w")}, ["y"])


def refused(code: str, function, *arguments, **keywords) -> EdgedeployError:
    with pytest.raises(EdgedeployError) as caught:
        function(*arguments, **keywords)
    assert caught.value.diagnostics[0].code == code
    assert caught.value.diagnostics[0].hint
    return caught.value


def test_quant_ranges_equal_brute_force_on_a_real_model(tmp_path):
    model = normal_form(RNET, tmp_path)
    samples = [{"input_2": normal(2, 24, 24, 3)} for _ in range(5)]
    table = calibrate(model, pack(tmp_path / "pack", samples), tmp_path / "table.json")
    watched = onnx.load(model)
    produced = {name for node in watched.graph.node for name in node.output}
    names = [name for name in table.tensors if name in produced]
    assert len(names) > 10
    present = {item.name for item in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in present)
    onnx.save(watched, tmp_path / "watched.onnx")
    runner = session(tmp_path / "watched.onnx")
    results = [dict(zip(names, runner.run(names, dict(s)), strict=True)) for s in samples]
    for name in names:
        lows = [float(result[name].min()) for result in results]
        highs = [float(result[name].max()) for result in results]
        seen = table.tensors[name]
        expected = (min(lows), max(highs), np.mean(lows), np.mean(highs))
        found = (seen.low, seen.high, seen.mean_low, seen.mean_high)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert seen.count == 5


def test_quant_samples_of_any_shape_and_empty_ones_are_taken(conv, tmp_path):
    small, large, empty = normal(1, 4, 3, 5), normal(3, 4, 8, 2), np.zeros((0, 4, 2, 2), np.float32)
    folder = pack(tmp_path / "pack", [{"x": small}, {"x": empty}, {"x": large}])
    done = []
    table = calibrate(
        conv, folder, tmp_path / "t.json", progress=lambda count, total: done.append((count, total))
    )
    assert done == [(1, 3), (2, 3), (3, 3)]
    seen = table.tensors["x"]
    assert seen.count == 2
    assert (seen.low, seen.high) == (
        min(small.min(), large.min()),
        max(small.max(), large.max()),
    )
    assert seen.mean_high == pytest.approx((float(small.max()) + float(large.max())) / 2)
    assert "c" not in table.tensors  # the Relu alone reads it and is folded
    assert table.tensors["r"].low == 0.0


def test_quant_a_tensor_without_elements_is_counted_as_unseen(conv, tmp_path):
    folder = pack(tmp_path / "pack", [{"x": np.zeros((0, 4, 2, 2), np.float32)}])
    table = calibrate(conv, folder, tmp_path / "t.json")
    assert table.tensors["x"].count == 0


def test_quant_averages_are_taken_over_whole_sequences(conv, tmp_path):
    values = {"a": [1.0, 9.0], "b": [3.0]}
    folder = tmp_path / "pack"
    folder.mkdir()
    with PackWriter(folder) as writer:
        for sequence, peaks in values.items():
            for count, peak in enumerate(peaks):
                frame = np.full((1, 4, 2, 2), peak, np.float32)
                writer.add(f"{sequence}{count}", {"x": frame}, sequence=sequence)
    seen = calibrate(conv, folder, tmp_path / "t.json").tensors["x"]
    assert (seen.low, seen.high, seen.count) == (1.0, 9.0, 3)
    assert (seen.mean_low, seen.mean_high) == ((1.0 + 3.0) / 2, (9.0 + 3.0) / 2)


def test_quant_state_is_carried_along_a_sequence(tmp_path):
    """The recurrent state drives the ranges: with it reset at every frame they would differ."""
    nodes = [
        helper.make_node("Add", ["x", "state"], ["next"]),
        helper.make_node("Gemm", ["next", "w"], ["y"]),
    ]
    model = build(
        tmp_path, nodes, {"w": normal(2, 3)}, {"x": ("n", 2), "state": ("n", 2)}, ["y", "next"]
    )
    folder = pack(tmp_path / "p", [{"x": np.ones((4, 2), np.float32)}] * 5, sequence="one")
    table = calibrate(model, folder, tmp_path / "t.json", state=[("state", "next")])
    assert table.tensors["next"].high == 5.0


def test_quant_a_real_stateful_model_with_subgraphs_is_calibrated(tmp_path):
    frames = [{"input": normal(1, 576) * 0.1, "sr": np.array(16000, np.int64)} for _ in range(6)]
    folder = pack(tmp_path / "p", frames, sequence="recording")
    model = normal_form(SILERO, tmp_path)
    table = calibrate(model, folder, tmp_path / "t.json", state=[("state", "stateN")])
    assert all(seen.count == 6 for seen in table.tensors.values())


@pytest.mark.parametrize("position", [0, 11])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_quant_a_non_finite_activation_names_tensor_and_sample(value, position, conv, tmp_path):
    bad = normal(1, 4, 4, 4)
    bad.reshape(-1)[position] = value
    folder = pack(tmp_path / "pack", [{"x": normal(1, 4, 4, 4)}, {"x": bad}])
    error = refused("E261", calibrate, conv, folder, tmp_path / "t.json")
    assert isinstance(error, ModelError)
    assert "sample-1" in str(error)
    assert error.diagnostics[0].subject == "x"
    assert not (tmp_path / "t.json").exists()


def test_quant_bad_calibration_data_is_refused(conv, tmp_path):
    refused("E260", calibrate, conv, pack(tmp_path / "a", []), tmp_path / "t.json")
    folder = pack(tmp_path / "b", [{"other": normal(1)}])
    assert "'x'" in str(refused("E267", calibrate, conv, folder, tmp_path / "t.json"))
    folder = pack(tmp_path / "c", [{"x": normal(1, 3, 4, 4)}])
    assert "sample-0" in str(refused("E267", calibrate, conv, folder, tmp_path / "t.json"))
    folder = pack(tmp_path / "d", [{"x": np.zeros((1, 4, 2, 2), np.int32)}])
    refused("E267", calibrate, conv, folder, tmp_path / "t.json")


def test_quant_models_outside_the_normal_form_are_refused(tmp_path):
    old = build(tmp_path, [CONV], {"w": normal(2, 4, 1, 1)}, {"x": (1, 4, 2, 2)}, ["c"], opset=12)
    folder = pack(tmp_path / "p", [{"x": normal(1, 4, 2, 2)}])
    refused("E264", calibrate, old, folder, tmp_path / "t.json")
    nodes = [helper.make_node("QuantizeLinear", ["x", "s"], ["q"])]
    done = build(tmp_path, nodes, {"s": np.float32(1)}, {"x": (2,)}, ["q"], name="done.onnx")
    refused("E268", calibrate, done, folder, tmp_path / "t.json")


def test_quant_the_same_data_gives_the_same_bytes(conv, tmp_path):
    folder = pack(tmp_path / "p", [{"x": normal(1, 4, 9, 9)} for _ in range(4)])
    for name in ("a.json", "b.json"):
        calibrate(conv, folder, tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert CalibrationTable.read(tmp_path / "a.json").samples == 4


def test_quant_weights_in_external_files_are_found(conv, tmp_path):
    folder = pack(tmp_path / "p", [{"x": normal(1, 4, 9, 9)} for _ in range(2)])
    expected = calibrate(conv, folder, tmp_path / "a.json")
    other = tmp_path / "other"
    other.mkdir()
    ir.save(ir.load(conv), other / "m.onnx", external_data="m.data", size_threshold_bytes=0)
    assert calibrate(other / "m.onnx", folder, tmp_path / "b.json") == expected


FLOATS = st.floats(-3e38, 3e38)


@given(st.lists(st.tuples(FLOATS, FLOATS).map(sorted), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_quant_averages_lie_inside_the_extremes(pairs):
    observer = Observer(None, histogram=False)
    pairs = [np.array(pair, np.float32) for pair in pairs]
    for pair in pairs:
        assert observer.update(pair)
        observer.end_group()
    seen = observer.range()
    assert seen.low <= seen.mean_low <= seen.mean_high <= seen.high
    assert (seen.low, seen.high) == (min(p[0] for p in pairs), max(p[1] for p in pairs))


def test_quant_a_written_table_reads_back_equal(tmp_path):
    seen = TensorRange(low=-0.1, high=1e30, mean_low=-1e-30, mean_high=0.3, count=7)
    seen = replace(seen, ranges={"mse": (-0.1, 0.25), "mse-symmetric": (-0.2, 0.2)})
    table = CalibrationTable(
        samples=7,
        tensors={"ünïcode/name:0": seen},
        channels={"ünïcode/name:0": ChannelStatistics(mean=(0.5, -1e-9), peak=(1.0, 2.0))},
        data="ab" * 32,
    )
    table.write(tmp_path / "t.json")
    assert CalibrationTable.read(tmp_path / "t.json") == table


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"calibration": 2, "samples": 1, "tensors": {}}',
        '{"calibration": 1, "samples": 1, "tensors": {"a": {"low": 2, "mean_low": 1, '
        '"mean_high": 1, "high": 1, "count": 1}}}',
        '{"calibration": 1, "samples": 1, "tensors": {"a": {"low": NaN, "mean_low": 1, '
        '"mean_high": 1, "high": 1, "count": 1}}}',
    ],
)
def test_quant_a_bad_table_is_refused(text, tmp_path):
    path = tmp_path / "t.json"
    path.write_text(text)
    assert isinstance(refused("E263", CalibrationTable.read, path), DataError)
    refused("E263", CalibrationTable.read, tmp_path / "absent.json")


PEAK = """
import resource, sys
from pathlib import Path
from edgedeploy.quant.calibrate import calibrate
calibrate(*(Path(item) for item in sys.argv[1:4]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_quant_peak_memory_does_not_grow_with_the_samples(conv, tmp_path):
    """Every sample has 10 MiB of activations; kept, 48 more samples would need 480 MiB."""
    peaks_kib = []
    for count in (16, 64):
        folder = pack(tmp_path / str(count), ({"x": normal(1, 4, 16, 16)} for _ in range(count)))
        wide = tmp_path / f"wide-{count}"
        wide.mkdir()
        with PackWriter(wide) as writer:
            for sample in PackReader(folder):
                tile = np.tile(sample.tensors()["x"], (1, 1, 32, 32))[:, :, :448, :448]
                writer.add(sample.id, {"x": tile})
        arguments = [str(conv), str(wide), str(tmp_path / "t.json")]
        result = subprocess.run(
            [sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True
        )
        peaks_kib.append(int(result.stdout))
    # The mapped pack itself counts as resident: 3.1 MiB a sample.
    mapped_kib = 48 * 4 * 448 * 448 * 4 // 1024
    assert peaks_kib[1] - peaks_kib[0] < mapped_kib + 20 * 1024


def test_quant_few_values_are_not_averaged(tmp_path):
    """The average of the extremes of eight values clips what half of the samples reach."""
    generator = np.random.default_rng(3)
    weights = {"w": generator.normal(size=(8, 400)).astype(np.float32)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = build(tmp_path, [node], weights, {"x": ("n", 8)}, ["y"])
    samples = [{"x": generator.normal(size=(1, 8)).astype(np.float32)} for _ in range(30)]
    table = calibrate(model, pack(tmp_path / "pack", samples), tmp_path / "t.json")
    few, many = table.tensors["x"], table.tensors["y"]
    assert (few.elements, many.elements) == (8, 400)
    assert table.range_of("x", "average", False) == (few.low, few.high)
    assert table.range_of("y", "average", False) == (many.mean_low, many.mean_high)
    assert few.low < few.mean_low and few.mean_high < few.high
