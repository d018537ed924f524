"""What stays in float by itself: ranges, sums, normalisations, epsilons, logits."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper as nh
from onnx.reference import ReferenceEvaluator

from edgedeploy.passes.base import run
from edgedeploy.passes.float16 import to_float16
from edgedeploy.passes.half_guard import guard
from edgedeploy.passes.half_ranges import bounds_of
from edgedeploy.passes.infer_shapes import InferShapes

HALF_MAX = float(np.finfo(np.float16).max)


def parsed(body: str, given: str = "float[2,8] x", made: str = "float[2,8] y") -> onnx.ModelProto:
    """Return a model whose nodes have the names of their first outputs."""
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    model = onnx.parser.parse_model(f"{head} g ({given}) => ({made}) {{ {body} }}")
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def loaded(model: onnx.ModelProto) -> ir.Model:
    """Return the model with its constants as weights and its types inferred."""
    for node in [node for node in model.graph.node if node.op_type == "Constant"]:
        held = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        array = nh.to_array(held["value"]) if "value" in held else np.asarray(*held.values())
        kind = np.float32 if array.dtype.kind == "f" else np.int64
        model.graph.initializer.append(nh.from_array(array.astype(kind), node.output[0]))
        model.graph.node.remove(node)
    found = ir.from_proto(model)
    run((InferShapes(),), found)
    return found


def kept(body: str, ranges: dict[str, tuple[float, float]] | None = None, **io: str) -> set[str]:
    """Return the names of the nodes that stay in float."""
    return {str(node.name) for node in guard(loaded(parsed(body, **io)), ranges or {}).kept}


@given(
    exponents=st.lists(st.integers(-6, 6), min_size=1, max_size=12),
    start=st.integers(-4, 12),
)
def test_a_planted_overflow_keeps_exactly_the_nodes_that_touch_it(
    exponents: list[int], start: int
) -> None:
    """A chain of powers of two; every magnitude is known beforehand."""
    tops = [2.0**start]
    body, names = "", ["x"]
    for number, exponent in enumerate(exponents):
        names.append("y" if number == len(exponents) - 1 else f"h{number}")
        body += f"c{number} = Constant <value = float[1] {{{2.0**exponent!r}}}> ()\n"
        body += f"{names[-1]} = Mul ({names[-2]}, c{number})\n"
        tops.append(tops[-1] * 2.0**exponent)
    ranges = {name: (-top, top) for name, top in zip(names, tops, strict=True)}
    large = {name for name, top in zip(names, tops, strict=True) if 2 * top > HALF_MAX}
    touching = {after for before, after in itertools.pairwise(names) if large & {before, after}}
    assert kept(body, ranges) == touching
    # The same from the range of the input alone: products are bounded exactly.
    assert kept(body, {"x": ranges["x"]}) == touching


BINARY = ("Add", "Sub", "Mul", "Max", "Min", "Div")
UNARY = ("Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Exp", "Sqrt", "Softplus", "Gelu", "Identity")


@st.composite
def graphs(draw: st.DrawFn) -> str:
    """Return the body of a random graph over ``x`` and ``z``."""
    names, body = ["x", "z"], ""
    for number in range(draw(st.integers(1, 8))):
        name = f"v{number}"
        one, two = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        kind = draw(st.sampled_from((*BINARY, *UNARY, "Pow", "Clip", "ReduceSum", "ReduceMean")))
        if kind in BINARY:
            body += f"{name} = {kind} ({one}, {two})\n"
        elif kind == "Pow":
            body += f"p{number} = Constant <value = float {{{draw(st.integers(1, 4))}.0}}> ()\n"
            body += f"{name} = Pow ({one}, p{number})\n"
        elif kind == "Clip":
            low = draw(st.floats(-3, 3, width=16))
            body += f"l{number} = Constant <value = float {{{low!r}}}> ()\n"
            body += f"u{number} = Constant <value = float {{{low + 1.5!r}}}> ()\n"
            body += f"{name} = Clip ({one}, l{number}, u{number})\n"
        elif kind == "ReduceSum":
            body += f"a{number} = Constant <value = int64[1] {{1}}> ()\n"
            body += f"{name} = ReduceSum <keepdims = 1> ({one}, a{number})\n"
        elif kind == "ReduceMean":
            body += f"{name} = ReduceMean <axes = [1], keepdims = 1> ({one})\n"
        elif kind == "Gelu":
            body += f"s{number} = Sigmoid ({one})\n{name} = Mul ({one}, s{number})\n"
        else:
            body += f"{name} = {kind} ({one})\n"
        names.append(name)
    return body + f"y = Identity ({names[-1]})\n"


@settings(max_examples=150)
@given(body=graphs(), seed=st.integers(0, 2**16), scale=st.sampled_from((0.1, 1.0, 40.0)))
def test_no_value_is_outside_of_its_bounds(body: str, seed: int, scale: float) -> None:
    """Bounds hold for all inputs in the ranges, by ONNX's own reference implementation."""
    rng = np.random.default_rng(seed)
    feed = {name: (scale * rng.uniform(-1, 1, (2, 8))).astype(np.float32) for name in ("x", "z")}
    model = parsed(body, "float[2,8] x, float[2,8] z")
    watched = [name for node in model.graph.node for name in node.output]
    graph = loaded(parsed(body, "float[2,8] x, float[2,8] z"))
    # The ranges already allow twice as much, so half of it is what calibration saw.
    bounds = bounds_of(graph.graph, dict.fromkeys(feed, (-scale / 2, scale / 2)))
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in watched
    )
    with np.errstate(all="ignore"):
        values = dict(zip(["y", *watched], ReferenceEvaluator(model).run(None, feed), strict=True))
    for value, found in bounds.items():
        array = values.get(str(value.name))
        if array is None or array.dtype.kind != "f":
            continue
        slack = 1e-4 * max(1.0, found.top)
        if np.isfinite(array).all():
            assert found.low - slack <= array.min() and array.max() <= found.high + slack


LAYER_NORM = """
    m = ReduceMean <axes = [-1], keepdims = 1> (x)
    d = Sub (x, m)
    two = Constant <value = float {2.0}> ()
    q = Pow (d, two)
    v = ReduceMean <axes = [-1], keepdims = 1> (q)
    eps = Constant <value = float {0.00001}> ()
    ve = Add (v, eps)
    s = Sqrt (ve)
    n = Div (d, s)
    gamma = Constant <value = float[8] {1,2,3,4,5,6,7,8}> ()
    y = Mul (n, gamma)
"""
MOMENTS = """
    axis = Constant <value = int64[1] {-1}> ()
    total = ReduceSum <keepdims = 1> (x, axis)
    share = Constant <value = float {0.125}> ()
    m = Mul (total, share)
    xx = Mul (x, x)
    squares = ReduceSum <keepdims = 1> (xx, axis)
    mean2 = Mul (squares, share)
    mm = Mul (m, m)
    v = Sub (mean2, mm)
    eps = Constant <value = float {0.00001}> ()
    ve = Add (v, eps)
    s = Sqrt (ve)
    r = Reciprocal (s)
    d = Sub (x, m)
    n = Mul (d, r)
    y = Relu (n)
"""
RMS_NORM = """
    xx = Mul (x, x)
    v = ReduceMean <axes = [-1], keepdims = 1> (xx)
    half = Constant <value = float {-0.5}> ()
    r = Pow (v, half)
    n = Mul (x, r)
    y = Neg (n)
"""
UNIT_LENGTH = """
    l = ReduceL2 <axes = [-1], keepdims = 1> (x)
    least = Constant <value = float {0.001}> ()
    c = Max (l, least)
    n = Div (x, c)
    y = Neg (n)
"""


@pytest.mark.parametrize(
    ("body", "statistics"),
    [
        (LAYER_NORM, {"m", "d", "q", "v", "ve", "s", "n"}),
        (
            MOMENTS,
            {
                *("total", "m", "xx", "squares", "mean2", "mm", "v", "ve", "s", "r", "d", "n"),
            },
        ),
        (RMS_NORM, {"xx", "v", "r", "n"}),
        (UNIT_LENGTH, {"l", "c", "n"}),
    ],
    ids=["layer norm", "by moments", "rms norm", "unit length"],
)
def test_a_normalisation_is_kept_up_to_where_it_is_applied(body: str, statistics: set[str]) -> None:
    ranges = {"x": (-1.0, 1.0), "d": (-2.0, 2.0), "n": (-3.0, 3.0)}
    assert kept(body, ranges) == statistics
    reasons = set(guard(loaded(parsed(body)), ranges).kept.values())
    assert reasons == {"statistics of a normalisation"}


@pytest.mark.parametrize(
    ("body", "bound"),
    [
        (LAYER_NORM, 8**0.5),
        (LAYER_NORM.replace("(v, eps)", "(eps, v)"), 8**0.5),
        (LAYER_NORM.replace("Sqrt (ve)", "Sqrt (v)"), 8**0.5),
        (LAYER_NORM.replace("q = Pow (d, two)", "q = Mul (d, d)"), 8**0.5),
        (LAYER_NORM.replace("q = Pow (d, two)", "q = Pow (x, two)"), None),
        (LAYER_NORM.replace("{0.00001}", "{-0.00001}"), None),
        (LAYER_NORM.replace("v = ReduceMean", "v = ReduceMax"), None),
    ],
)
def test_what_is_normalised_is_bounded_by_the_number_of_elements(
    body: str, bound: float | None
) -> None:
    """One of n elements is at most sqrt(n) deviations off; what is no deviation may go far."""
    found = bounds_of(loaded(parsed(body)).graph, {"x": (-40.0, 40.0)})
    known = {value.name: item.top for value, item in found.items()}
    if bound is None:
        assert known.get("n", 1e9) > 1e4
    else:
        assert known["n"] == bound and known["y"] == 8 * bound
        # So what follows need not stay in float, however small the epsilon is.
        assert "y" not in kept(body, {"x": (-40.0, 40.0)})


def test_the_runtime_fuses_a_layer_norm_of_large_values(tmp_path: Path) -> None:
    """ONNX Runtime takes half data for it, and refuses a scale that would then be in float."""
    import onnxruntime

    body = "x2 = Add (x, x)\n" + LAYER_NORM.replace("(x", "(x2").replace("y = Mul", "g = Mul")
    body += "beta = Constant <value = float[8] {1,1,1,1,1,1,1,1}> ()\ny = Add (g, beta)"
    ir.save(loaded(parsed(body)), tmp_path / "model.onnx")
    (tmp_path / "half").mkdir()
    ranges = {"x": (-40.0, 40.0), "x2": (-80.0, 80.0)}
    to_float16(tmp_path / "model.onnx", tmp_path / "half", ranges=ranges)
    session = onnxruntime.InferenceSession(str(tmp_path / "half/model.onnx"))
    x = np.random.default_rng(1).uniform(-40, 40, (2, 8)).astype(np.float32)
    (found,) = session.run(None, {"x": x})
    scaled = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) * np.arange(1, 9) + 1
    np.testing.assert_allclose(found, scaled, atol=0.02)


def test_a_mean_that_is_laid_along_another_axis_bounds_nothing() -> None:
    body = LAYER_NORM.replace(
        "v = ReduceMean <axes = [-1], keepdims = 1>", "v = ReduceMean <axes = [-1], keepdims = 0>"
    )
    square = {"given": "float[8,8] x", "made": "float[8,8] y"}
    found = bounds_of(loaded(parsed(body, **square)).graph, {"x": (-40.0, 40.0)})
    assert all(item.top > 1e4 for value, item in found.items() if value.name == "n")


def test_a_root_of_squares_alone_is_no_normalisation() -> None:
    """The magnitude of a spectrum."""
    body = "a = Mul (x, x)\nb = Mul (z, z)\nc = Add (a, b)\ny = Sqrt (c)"
    ranges = {"x": (-20.0, 20.0), "z": (-20.0, 20.0)}
    assert not kept(body, ranges, given="float[2,8] x, float[2,8] z")


@pytest.mark.parametrize(("asked", "stays"), [("", False), ("<stash_type = 10>", True)])
def test_a_fused_layer_norm_has_its_statistics_in_float(asked: str, stays: bool) -> None:
    scale = "g = Constant <value = float[8] {1,1,1,1,1,1,1,1}> ()"
    assert kept(f"{scale}\ny = LayerNormalization {asked} (x, g)") == ({"y"} if stays else set())


def test_a_fused_normalisation_that_says_nothing_stays_in_float() -> None:
    body = "y = MeanVarianceNormalization <axes = [1]> (x)"
    assert kept(body, {"x": (-1.0, 1.0), "y": (-3.0, 3.0)}) == {"y"}


def test_a_constant_that_vanishes_keeps_its_node_and_those_that_take_the_result() -> None:
    body = """
        tiny = Constant <value = float {1e-12}> ()
        a = Add (x, tiny)
        shape = Constant <value = int64[2] {2, 8}> ()
        r = Reshape (a, shape)
        l = Log (r)
        y = Neg (l)
    """
    ranges = dict.fromkeys(("x", "a", "l", "y"), (0.0, 1.0))
    assert kept(body, ranges) == {"a", "r", "l"}
    # 1e-7 is a subnormal number in half precision, and no zero.
    assert not kept(body.replace("1e-12", "1e-7"), ranges)


@pytest.mark.parametrize(("top", "stays"), [(127.0, set()), (130.0, {"a", "r", "y"})])
def test_large_logits_stay_in_float_with_what_makes_them(top: float, stays: set[str]) -> None:
    body = """
        z = Relu (x)
        a = Add (z, z)
        shape = Constant <value = int64[2] {2, 8}> ()
        r = Reshape (a, shape)
        y = Softmax (r)
    """
    ranges = {"x": (-top / 2, top / 2), "a": (0.0, top), "r": (0.0, top)}
    assert kept(body, ranges) == stays


def test_what_nobody_measured_and_nothing_bounds() -> None:
    """Without calibration data powers, exponentials and sums of anything stay in float."""
    body = """
        e = Exp (x)
        q = Mul (e, e)
        l = Log (q)
        s = ReduceMean <axes = [1], keepdims = 1> (l)
        t = Tanh (s)
        p = Mul (t, t)
        y = Sub (l, p)
    """
    assert kept(body) == {"e", "q", "s"}
    found = guard(loaded(parsed(body)), {})
    assert found.unknown == ("e", "q", "l", "s", "y") and found.values == 7
    measured = dict.fromkeys(("e", "q", "l", "s", "y"), (-1.0, 1.0))
    assert not kept(body, {"x": (-1.0, 1.0), **measured})


def test_a_mean_whose_sum_overflows_stays_in_float() -> None:
    """512 times 2 x 100 is beyond 65504, though the mean is not."""
    body = "y = ReduceMean <axes = [1], keepdims = 1> (x)"
    wide = {"given": "float[2,512] x", "made": "float[2,1] y"}
    assert kept(body, {"x": (-100.0, 100.0)}, **wide) == {"y"}
    assert not kept(body, {"x": (-60.0, 60.0)}, **wide)


def test_what_a_relu_cuts_off_may_overflow() -> None:
    """Only the Relu was watched; a layer's values below zero do not matter."""
    weight = ", ".join(["2e4"] * 64)
    body = f"w = Constant <value = float[8,8] {{{weight}}}> ()\nc = MatMul (x, w)\ny = Relu (c)"
    assert not kept(body, {"x": (-1.0, 1.0), "y": (0.0, 5.0)})
    assert kept(body, {"x": (-1.0, 1.0), "y": (0.0, 6e4)}) == {"c", "y"}


def test_beyond_the_range_stays_beyond_it_where_nothing_tells_otherwise() -> None:
    """A layer nobody watched makes what is unknown of what is too large; a sigmoid bounds it."""
    body = """
        l = Log (x)
        s = Sigmoid (l)
        y = Neg (s)
    """
    assert kept(body, {"x": (0.0, 1e9)}) == {"l", "s"}


def test_a_report_names_the_nodes_and_the_wish_of_the_user_comes_first(tmp_path: Path) -> None:
    model = loaded(parsed(LAYER_NORM))
    ir.save(model, tmp_path / "model.onnx")
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    ranges = {"x": (-1.0, 1.0), "n": (-3.0, 3.0), "y": (-20.0, 20.0)}
    report = to_float16(tmp_path / "model.onnx", tmp_path / "one", ranges=ranges)
    assert list(report.kept) == ["m", "d", "q", "v", "ve", "s", "n"]
    assert report.notes == ("7 nodes stay in float32: statistics of a normalisation",)
    wished = to_float16(
        tmp_path / "model.onnx", tmp_path / "two", ranges=ranges, keep_float=["y", "s"]
    )
    assert wished.kept == {**report.kept, "s": "keep_float", "y": "keep_float"}
    blind = to_float16(tmp_path / "model.onnx", tmp_path / "three")
    assert blind.kept == report.kept and not blind.calibrated
    assert blind.notes[1].startswith("there is no calibration data, so nothing tells whether ")
