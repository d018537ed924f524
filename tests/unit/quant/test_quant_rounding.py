"""Second-order rounding and bias correction against exhaustive search, formulas and the runtime."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from quant_support import REC, build, normal_form, pack, run, sqnr_db

from edgedeploy.errors import DataError
from edgedeploy.quant.bias_correction import added_bias, mean_shift, spread_means
from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.gather import gather
from edgedeploy.quant.layers import find_layers, load_checked
from edgedeploy.quant.moments import Moments
from edgedeploy.quant.qdq import quantize
from edgedeploy.quant.rounding import damp, round_weight
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.table import CalibrationTable
from edgedeploy.quant.unfold import fold_weight, operands, unfold_weight

GENERATOR = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


def random_moments(groups: int, inputs: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(groups, 3 * inputs, inputs)) @ generator.normal(
        size=(groups, inputs, inputs)
    )
    return mixed.transpose(0, 2, 1) @ mixed / (3 * inputs)


def loss(weight, integers, scales, moments) -> np.ndarray:
    error = integers * scales[:, :, None] - weight
    return np.einsum("goi,gij,goj->go", error, damp(moments), error)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(0, 999))
def test_quant_second_order_rounding_is_never_worse_than_the_nearest(groups, outputs, inputs, seed):
    weight = np.random.default_rng(seed).normal(size=(groups, outputs, inputs))
    scales = np.abs(weight).max(axis=2) / 7
    moments = random_moments(groups, inputs, seed)
    found = round_weight(weight, scales, moments, 7)
    assert np.abs(found).max() <= 7
    plain = np.clip(np.rint(weight / scales[:, :, None]), -7, 7)
    worse = loss(weight, found, scales, moments) - loss(weight, plain, scales, moments)
    assert np.all(worse <= 1e-9 * loss(weight, plain, scales, moments) + 1e-12)


def test_quant_second_order_rounding_of_uncorrelated_inputs_is_to_the_nearest():
    weight = normal(2, 5, 7).astype(np.float64)
    scales = np.abs(weight).max(axis=2) / 127
    moments = np.stack([np.diag(np.arange(1.0, 8.0))] * 2)
    found = round_weight(weight, scales, moments, 127)
    assert np.array_equal(found, np.rint(weight / scales[:, :, None]))


def test_quant_second_order_rounding_comes_near_the_best_of_all_roundings():
    """All 2^6 roundings up or down of some weights: it takes most of what the best gains."""
    gains = []
    for seed in range(20):
        weight = np.random.default_rng(seed).normal(size=(1, 1, 6))
        scales = np.abs(weight).max(axis=2) / 7
        moments = random_moments(1, 6, seed)
        below = np.floor(weight / scales[:, :, None])
        best = min(
            float(loss(weight, below + np.reshape(up, (1, 1, 6)), scales, moments)[0, 0])
            for up in itertools.product((0, 1), repeat=6)
        )
        plain = float(loss(weight, np.rint(weight / scales[:, :, None]), scales, moments)[0, 0])
        found = float(loss(weight, round_weight(weight, scales, moments, 7), scales, moments)[0, 0])
        assert found >= best * 0.5  # steps of more than one may even be better
        gains.append(((plain - found), (plain - best)))
    taken, possible = np.sum(gains, axis=0)
    assert taken > 0.6 * possible


CASES = {
    "plain": ((6, 4, 3, 3), {}),
    "strided": ((6, 4, 3, 2), {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
    "dilated": ((6, 4, 3, 3), {"dilations": [2, 1], "pads": [2, 1, 2, 1]}),
    "grouped": ((6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((4, 1, 5, 5), {"group": 4, "strides": [2, 2], "pads": [2, 2, 2, 2]}),
    "same-upper": ((6, 4, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same-lower": ((6, 4, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    "valid": ((6, 4, 2, 2), {"auto_pad": "VALID"}),
    "one-dim": ((6, 4, 3), {"strides": [2], "pads": [1, 1]}),
    "pointwise": ((6, 4, 1, 1), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_quant_operands_times_weights_are_what_the_runtime_computes(case, tmp_path):
    shape, attributes = CASES[case]
    weight, x = normal(*shape), normal(2, 4, *(9, 8)[: len(shape) - 2])
    model = build(
        tmp_path,
        [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)],
        {"w": weight},
        {"x": x.shape},
        ["y"],
    )
    wanted = run(model, {"x": x})
    (layer,) = find_layers(load_checked(model).graph)
    folded = fold_weight(layer, weight)
    assert np.array_equal(unfold_weight(layer, folded), weight)
    found = np.einsum("rgi,goi->rgo", operands(layer, x, 10**6), folded)
    rows = np.moveaxis(wanted, 1, -1).reshape(-1, shape[0])
    assert np.allclose(found.reshape(rows.shape), rows, atol=1e-4)
    few = operands(layer, x, 5)
    assert len(few) <= 5
    assert {row.tobytes() for row in few} <= {row.tobytes() for row in operands(layer, x, 10**6)}


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "GemmTransposed"])
def test_quant_operands_of_matrix_products(op, tmp_path):
    weight, x = normal(5, 3), normal(7, 5)
    stored = np.ascontiguousarray(weight.T) if op == "GemmTransposed" else weight
    attributes = {"transB": 1} if op == "GemmTransposed" else {}
    node = helper.make_node(op[:4] if op != "MatMul" else op, ["x", "w"], ["y"], **attributes)
    model = build(tmp_path, [node], {"w": stored}, {"x": (7, 5)}, ["y"])
    (layer,) = find_layers(load_checked(model).graph)
    folded = fold_weight(layer, stored)
    assert np.allclose(operands(layer, x, 99)[:, 0] @ folded[0].T, x @ weight, atol=1e-5)
    assert np.array_equal(unfold_weight(layer, folded), stored)


def correlated_net(folder, **attributes):
    """A grouped convolution and a product with a bias behind it, on far from white data."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], group=2, **attributes),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["r", "m"], ["z"]),
        helper.make_node("Add", ["z", "k"], ["y"]),
    ]
    weights = {"w": normal(8, 3, 3, 3), "b": normal(8), "m": normal(6, 5), "k": normal(5)}
    mixing = normal(6, 6)
    samples = [
        {"x": np.einsum("nchw,cd->ndhw", np.abs(normal(1, 6, 6, 6)) + 1, mixing)} for _ in range(24)
    ]
    return build(folder, nodes, weights, {"x": (1, 6, 6, 6)}, ["y"]), samples


def test_quant_moments_equal_brute_force_over_all_samples(tmp_path):
    model, samples = correlated_net(tmp_path)
    found = gather(model, pack(tmp_path / "p", samples), tmp_path)
    conv, product = find_layers(load_checked(model).graph)
    rows = np.concatenate([operands(conv, item["x"], 10**6) for item in samples])
    wanted = np.einsum("rgi,rgj->gij", rows, rows, dtype=np.float64) / len(rows)
    assert np.allclose(found.of("conv_0"), wanted, rtol=1e-4, atol=1e-4)
    assert found.of("matmul_4").shape == (1, 6, 6)
    assert found.of("no such node") is None
    again = Moments.read(tmp_path)
    assert np.array_equal(again.of(str(product.node.name)), found.of("matmul_4"))


def test_quant_layers_that_read_the_same_share_their_moments(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", f"w{n}"], [f"y{n}"]) for n in range(3)]
    weights = {f"w{n}": normal(4, 4) for n in range(3)}
    model = build(tmp_path, nodes, weights, {"x": ("n", 4)}, [f"y{n}" for n in range(3)])
    gather(model, pack(tmp_path / "p", [{"x": normal(9, 4)}]), tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == ["0000-mean.npy", "0000.npy"]
    files = json.loads((tmp_path / "moments.json").read_text())["files"]
    assert sorted(files) == ["matmul_0", "matmul_1", "matmul_2"]


def test_quant_moments_that_leave_float32_are_dropped(tmp_path):
    """Squares of 1e25 are no float32; rounding by them would be rounding by nothing."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = build(tmp_path, nodes, {"w": normal(4, 8)}, {"x": ("n", 4)}, ["y"])
    samples = [{"x": normal(9, 4) * np.float32(1e25)} for _ in range(3)]
    folder = pack(tmp_path / "p", samples)
    calibrate(model, folder, tmp_path / "t.json")
    assert gather(model, folder, tmp_path).files == {}
    table = CalibrationTable.read(tmp_path / "t.json", tmp_path)
    scheme = Scheme(ranges="minmax", rounding="second-order", bias_correction=True)
    (tmp_path / "q").mkdir()
    report = quantize(model, table, scheme, tmp_path / "q")
    assert "there are no moments of its activation" in [item.reason for item in report.plain]
    found = outputs(tmp_path / "q" / "model.onnx", samples) / 1e25
    assert sqnr_db(outputs(model, samples) / 1e25, found) > 30.0


def test_quant_moments_carry_state_along_a_sequence(tmp_path):
    nodes = [
        helper.make_node("Add", ["x", "state"], ["next"]),
        helper.make_node("Gemm", ["next", "w"], ["y"]),
    ]
    shapes = {"x": ("n", 2), "state": ("n", 2)}
    model = build(tmp_path, nodes, {"w": normal(2, 3)}, shapes, ["y", "next"])
    folder = pack(tmp_path / "p", [{"x": np.ones((4, 2), np.float32)}] * 3, sequence="one")
    found = gather(model, folder, tmp_path, state=[("state", "next")])
    assert np.allclose(found.of("gemm_1"), (1 + 4 + 9) / 3)


def test_quant_the_same_samples_give_the_same_moments(tmp_path):
    model, samples = correlated_net(tmp_path)
    folder = pack(tmp_path / "p", samples)
    contents = []
    for name in "ab":
        (tmp_path / name).mkdir()
        gather(model, folder, tmp_path / name)
        contents.append({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]


@pytest.mark.parametrize("text", ["", "[]", '{"moments": 99, "files": {}}', '{"moments": 1}'])
def test_quant_bad_moments_are_refused(text, tmp_path):
    (tmp_path / "moments.json").write_text(text)
    with pytest.raises(DataError) as caught:
        Moments.read(tmp_path)
    assert caught.value.diagnostics[0].code == "E263"


def outputs(path, samples) -> np.ndarray:
    return np.concatenate([run(path, item) for item in samples])


def test_quant_each_refinement_brings_the_outputs_nearer(tmp_path):
    """With 16-bit activations all loss is that of the weights."""
    model, samples = correlated_net(tmp_path)
    folder = pack(tmp_path / "p", samples)
    table = replace(
        calibrate(model, folder, tmp_path / "t.json"), moments=gather(model, folder, tmp_path)
    )
    exact = outputs(model, samples)
    base = {"activations": "static16", "quantize_bias": False, "elementwise": ()}
    found = {}
    for name, words in {
        "nearest": {},
        "corrected": {"bias_correction": True},
        "second": {"rounding": "second-order"},
    }.items():
        (tmp_path / name).mkdir()
        scheme = Scheme.from_json({**base, "quantized_outputs": (), "ranges": "minmax", **words})
        report = quantize(model, table, scheme, tmp_path / name)
        assert not report.plain
        found[name] = sqnr_db(exact, outputs(tmp_path / name / "model.onnx", samples))
    assert found["corrected"] > found["nearest"] + 1.0
    assert found["second"] > found["nearest"] + 1.0


@pytest.mark.parametrize("integer_bias", [True, False])
def test_quant_a_corrected_bias_takes_out_the_mean_error(integer_bias, tmp_path):
    """Without padding the means of channels are exact, so what is left is rounding of the bias."""
    weight, bias = normal(5, 4, 1, 1), normal(5)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"])]
    model = build(tmp_path, nodes, {"w": weight, "b": bias}, {"x": ("n", 4, 3, 3)}, ["y"])
    samples = [{"x": normal(2, 4, 3, 3) + 3} for _ in range(8)]
    table = calibrate(model, pack(tmp_path / "p", samples), tmp_path / "t.json")
    means = {}
    for wanted in (False, True):
        folder = tmp_path / str(wanted)
        folder.mkdir()
        scheme = Scheme(
            ranges="minmax",
            bias_correction=wanted,
            quantize_bias=integer_bias,
            activations="static16",
            quantized_outputs=(),
        )
        quantize(model, table, scheme, folder)
        difference = outputs(folder / "model.onnx", samples) - outputs(model, samples)
        means[wanted] = np.abs(difference.mean(axis=(0, 2, 3))).max()
    assert means[True] < 0.02 * means[False]


@pytest.mark.parametrize("given", [True, False])
def test_quant_a_corrected_bias_knows_the_factors_of_a_gemm(given, tmp_path):
    """They stay where the weight is large and others read it."""
    inputs = ["x", "w", "b"] if given else ["x", "w"]
    nodes = [helper.make_node("Gemm", inputs, ["y"], alpha=3.0, beta=0.5)]
    constants = {"w": normal(4, 5), "b": normal(5)} if given else {"w": normal(4, 5)}
    model = build(tmp_path, nodes, constants, {"x": ("n", 4)}, ["y"])
    samples = [{"x": normal(6, 4) + 3} for _ in range(8)]
    table = calibrate(model, pack(tmp_path / "p", samples), tmp_path / "t.json")
    means = {}
    for wanted in (False, True):
        folder = tmp_path / str(wanted)
        folder.mkdir()
        scheme = Scheme(ranges="minmax", bias_correction=wanted, activations="static16")
        quantize(model, table, scheme, folder)
        difference = outputs(folder / "model.onnx", samples) - outputs(model, samples)
        means[wanted] = np.abs(difference.mean(axis=0)).max()
    assert means[True] < 0.05 * means[False]


def test_quant_the_mean_shift_is_the_mean_of_the_error(tmp_path):
    error = normal(6, 2, 3, 3)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], group=2)]
    model = build(tmp_path, nodes, {"w": error}, {"x": (1, 4, 5, 5)}, ["y"])
    x = np.broadcast_to(normal(1, 4, 1, 1), (1, 4, 5, 5)).copy()
    (layer,) = find_layers(load_checked(model).graph)
    wanted = run(model, {"x": x}).mean(axis=(0, 2, 3))
    mean = spread_means(layer, x.mean(axis=(0, 2, 3)))
    assert np.allclose(mean_shift(layer, error, mean), wanted, atol=1e-4)


def test_quant_the_mean_shift_knows_what_padding_hides(tmp_path):
    """Two thirds of a kernel's rows see padding where an image is one pixel high."""
    error = normal(6, 4, 3, 3)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    model = build(tmp_path, nodes, {"w": error}, {"x": (1, 4, 1, 7)}, ["y"])
    samples = [{"x": normal(1, 4, 1, 7) + 3} for _ in range(5)]
    found = gather(model, pack(tmp_path / "p", samples), tmp_path)
    (layer,) = find_layers(load_checked(model).graph)
    wanted = np.mean([run(model, item) for item in samples], axis=(0, 1, 3, 4))
    assert np.allclose(mean_shift(layer, error, found.mean_of("conv_0")), wanted, atol=1e-3)
    channels = np.mean([item["x"] for item in samples], axis=(0, 1, 3, 4))
    blind = mean_shift(layer, error, spread_means(layer, channels))
    assert np.abs(blind - wanted).max() > 1.0


def test_quant_layers_without_a_bias_get_one_and_others_are_named(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["t", "m"], ["y"]),
    ]
    weights = {"w": normal(4, 3, 1, 1), "m": normal(4, 2)}
    model = build(tmp_path, nodes, weights, {"x": (1, 3, 4, 4)}, ["y"])
    folder = pack(tmp_path / "p", [{"x": normal(1, 3, 4, 4) + 1} for _ in range(4)])
    table = calibrate(model, folder, tmp_path / "t.json")
    report = quantize(model, table, Scheme(bias_correction=True), tmp_path)
    assert [item.node for item in report.plain] == ["matmul_2"]
    graph = ir.load(tmp_path / "model.onnx").graph
    conv = next(node for node in graph if node.op_type == "Conv")
    assert len(conv.inputs) == 3


def test_quant_a_vector_added_to_a_product_is_its_bias(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Add", ["k", "a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("Add", ["c", "scalar"], ["y"]),
    ]
    weights = {"w": normal(4, 4), "k": normal(4), "scalar": np.float32(1.0)}
    model = build(tmp_path, nodes, weights, {"x": ("n", 4)}, ["y"])
    first, second = find_layers(load_checked(model).graph)
    node, place = added_bias(first)
    assert (node.name, place) == ("add_1", 0)
    assert added_bias(second) is None


def test_quant_second_order_rounding_without_moments_is_refused(tmp_path):
    model, samples = correlated_net(tmp_path)
    table = calibrate(model, pack(tmp_path / "p", samples[:2]), tmp_path / "t.json")
    with pytest.raises(DataError) as caught:
        quantize(model, table, Scheme(rounding="second-order"), tmp_path)
    assert caught.value.diagnostics[0].code == "E263"


@pytest.mark.slow
def test_quant_a_real_recogniser_is_nearer_with_second_order_rounding(tmp_path):
    model = normal_form(REC, tmp_path)
    generator = np.random.default_rng(3)
    samples = [
        {
            "x": np.repeat(generator.uniform(-1, 1, (1, 3, 12, 40)), 4, axis=2)
            .repeat(4, axis=3)
            .astype(np.float32)
        }
        for _ in range(6)
    ]
    folder = pack(tmp_path / "p", samples[:4])
    table = calibrate(model, folder, tmp_path / "t.json")
    table = replace(table, moments=gather(model, folder, tmp_path))
    exact, found = outputs(model, samples[4:]), {}
    base = {"activations": "static16", "quantize_bias": False, "elementwise": []}
    for rounding in ("nearest", "second-order"):
        (tmp_path / rounding).mkdir()
        scheme = Scheme.from_json({**base, "quantized_outputs": [], "rounding": rounding})
        quantize(model, table, scheme, tmp_path / rounding)
        found[rounding] = sqnr_db(exact, outputs(tmp_path / rounding / "model.onnx", samples[4:]))
    assert found["second-order"] > found["nearest"] + 1.0
