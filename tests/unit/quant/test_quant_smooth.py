"""Smoothing: what a graph computes stays, ranges hold what comes, and only what pays is done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper
from quant_support import build, pack, session, sqnr_db

from edgedeploy.quant.calibrate import calibrate
from edgedeploy.quant.gather import gather
from edgedeploy.quant.layers import find_layers, load_checked
from edgedeploy.quant.qdq import quantize
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.smooth import smooth

GENERATOR = np.random.default_rng(23)
WIDTH = 16
OUTLIERS = (3, 11)
SCHEME = Scheme(ranges="minmax", smooth=True)


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


def gains(outliers: float) -> np.ndarray:
    found = np.ones(WIDTH, np.float32)
    found[list(OUTLIERS)] = outliers
    return found


def block(folder, *, residual: bool, outliers: float = 60.0, extra_output: bool = False):
    """A normalisation with two large channels, read by two products and, perhaps, by an Add."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g", "b"], ["n"], axis=-1, name="norm"),
        helper.make_node("MatMul", ["n", "w1"], ["p1"], name="first"),
        helper.make_node("MatMul", ["n", "w2"], ["p2"], name="second"),
        helper.make_node("Tanh", ["p1"], ["t"]),
        helper.make_node("Mul", ["t", "p2"], ["m"]),
    ]
    if residual:
        nodes.append(helper.make_node("Add", ["n", "m"], ["y"]))
    else:
        nodes.append(helper.make_node("Identity", ["m"], ["y"]))
    weights = {
        "g": gains(outliers),
        "b": normal(WIDTH) * 0.1,
        "w1": normal(WIDTH, WIDTH) / 8,
        "w2": normal(WIDTH, WIDTH) / 8,
    }
    names = ["y", "n"] if extra_output else ["y"]
    return build(folder, nodes, weights, {"x": ("n", 5, WIDTH)}, names)


@pytest.fixture
def samples():
    return [{"x": normal(2, 5, WIDTH)} for _ in range(16)]


def first_output(model, items) -> np.ndarray:
    opened = session(model)
    return np.concatenate([opened.run(["y"], item)[0] for item in items])


def smoothed(model, table, scheme=SCHEME):
    loaded = load_checked(model)
    table, done = smooth(loaded.graph, find_layers(loaded.graph), set(), table, scheme)
    return loaded, table, done


@pytest.mark.parametrize("residual", [True, False])
def test_quant_smoothing_changes_no_output_and_folds_where_it_can(residual, tmp_path, samples):
    model = block(tmp_path, residual=residual)
    table = calibrate(model, pack(tmp_path / "p", samples), tmp_path / "t.json")
    loaded, _, (done,) = smoothed(model, table)
    assert (done.activation, done.nodes) == ("n", ("first", "second"))
    assert done.folded is not residual
    products = [node for node in loaded.graph if node.op_type == "Mul" and node.name == "n_Mul"]
    assert len(products) == residual
    ir.save(loaded, tmp_path / "smooth.onnx")
    wanted = first_output(model, samples)
    assert np.allclose(
        first_output(tmp_path / "smooth.onnx", samples), wanted, rtol=1e-5, atol=1e-5
    )


def test_quant_an_inserted_product_changes_no_bit(tmp_path, samples):
    """Factors are powers of two; only the order in which the runtime adds could differ."""
    model = block(tmp_path, residual=True)
    table = calibrate(model, pack(tmp_path / "p", samples), tmp_path / "t.json")
    loaded, _, _ = smoothed(model, table)
    factors = loaded.graph.initializers["n_smooth_factors"].const_value.numpy()
    exponents = np.log2(factors)
    assert np.array_equal(exponents, np.rint(exponents))
    assert len(set(exponents)) > 1
    assert factors[list(OUTLIERS)].max() < np.median(factors)
    ir.save(loaded, tmp_path / "smooth.onnx")
    assert np.array_equal(
        first_output(tmp_path / "smooth.onnx", samples), first_output(model, samples)
    )


@pytest.mark.parametrize("residual", [True, False])
def test_quant_ranges_and_moments_after_smoothing_are_those_of_a_new_calibration(
    residual, tmp_path, samples
):
    model, folder = block(tmp_path, residual=residual), pack(tmp_path / "p", samples)
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    table = replace(
        calibrate(model, folder, tmp_path / "t.json"),
        moments=gather(model, folder, tmp_path / "before"),
    )
    loaded, derived, _ = smoothed(model, table)
    ir.save(loaded, tmp_path / "smooth.onnx")
    anew = calibrate(tmp_path / "smooth.onnx", folder, tmp_path / "again.json")
    moments = gather(tmp_path / "smooth.onnx", folder, tmp_path / "after")
    mine, true = derived.tensors["n_smooth"], anew.tensors["n_smooth"]
    assert mine.low <= true.low + 1e-6
    assert mine.high >= true.high - 1e-6
    assert mine.high - mine.low <= 2.0 * (true.high - true.low)
    for name in ("mean", "peak"):
        wanted = getattr(anew.channels["n_smooth"], name)
        assert np.allclose(
            getattr(derived.channels["n_smooth"], name), wanted, rtol=1e-3, atol=1e-4
        )
    for node in ("first", "second"):
        assert np.allclose(derived.moments.of(node), moments.of(node), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("with_moments", [True, False])
def test_quant_large_channels_cost_less_after_smoothing(with_moments, tmp_path, samples):
    model, folder = block(tmp_path, residual=True), pack(tmp_path / "p", samples)
    table = calibrate(model, folder, tmp_path / "t.json")
    if with_moments:
        table = replace(table, moments=gather(model, folder, tmp_path))
    found = {}
    for wanted in (False, True):
        (tmp_path / str(wanted)).mkdir()
        scheme = replace(SCHEME, smooth=wanted)
        report = quantize(model, table, scheme, tmp_path / str(wanted))
        assert len(report.smoothed) == wanted
        # The residual, in float and full of the large channels, would hide the products.
        residual = first_output(model, samples)
        found[wanted] = sqnr_db(
            residual, first_output(tmp_path / str(wanted) / "model.onnx", samples)
        )
    assert found[True] > found[False] + 3.0


def test_quant_even_channels_are_left_alone(tmp_path, samples):
    model = block(tmp_path, residual=True, outliers=1.0)
    table = calibrate(model, pack(tmp_path / "p", samples), tmp_path / "t.json")
    _, after, done = smoothed(model, table)
    assert done == []
    assert after == table


def test_quant_a_normalisation_that_is_an_output_is_not_folded_into(tmp_path, samples):
    model = block(tmp_path, residual=False, extra_output=True)
    table = calibrate(model, pack(tmp_path / "p", samples), tmp_path / "t.json")
    loaded, _, (done,) = smoothed(model, table)
    assert not done.folded
    assert "n" in [value.name for value in loaded.graph.outputs]


def test_quant_what_integer_nodes_make_is_not_smoothed(tmp_path, samples):
    model = block(tmp_path, residual=True)
    table = calibrate(model, pack(tmp_path / "p", samples), tmp_path / "t.json")
    loaded = load_checked(model)
    layers = find_layers(loaded.graph)
    _, done = smooth(loaded.graph, layers, {layers[0].activation}, table, SCHEME)
    assert done == []


def test_quant_channels_that_were_silent_may_speak(tmp_path):
    """Few samples tell little of a channel: it is not cut to what it reached in these."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    model = build(tmp_path, nodes, {"w": normal(WIDTH, 8)}, {"x": ("n", WIDTH)}, ["y"])
    silent = np.ones(WIDTH, np.float32)
    silent[:3] = 0.02
    rows = [normal(4, WIDTH) for _ in range(8)]
    told = [{"x": row * gains(20.0) * silent} for row in rows]
    table = calibrate(model, pack(tmp_path / "p", told), tmp_path / "t.json")
    folder = tmp_path / "q"
    folder.mkdir()
    report = quantize(model, table, SCHEME, folder)
    assert [item.activation for item in report.smoothed] == ["x"]
    spoken = [{"x": row * (silent < 1.0)} for row in rows]
    found = first_output(folder / "model.onnx", spoken)
    assert sqnr_db(first_output(model, spoken), found) > 20.0
