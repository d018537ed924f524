"""Arithmetic, shapes and slices in Core ML packages, against ONNX Runtime and NumPy."""

from __future__ import annotations

import random

import numpy as np
import pytest

from edgedeploy.errors import BuildError
from edgedeploy.mil.interpreter import operations
from edgedeploy.mil.program import Ref
from tests.coreml.agree import differences, joined
from tests.coreml.harness import Converted, one_node

pytestmark = pytest.mark.slow

END = 2**63 - 1


def test_slices_at_random_places() -> None:
    chance = random.Random(5)
    places = [-END, -8, -7, -3, -1, 0, 1, 2, 5, 6, 7, 8, END]
    texts = {}
    while len(texts) < 24:
        start, end, step = (
            chance.choice(places),
            chance.choice(places),
            chance.choice([1, 2, -1, -3]),
        )
        if not len(range(7)[start:end:step]):
            continue
        axis = chance.choice(["", ", axis"])
        texts[f"{start} {end} {step}{axis}"] = f"""g (float[7, W] x) => (y) {{
            a = Constant <value_ints=[{start}]> ()
            b = Constant <value_ints=[{end}]> ()
            c = Constant <value_ints=[{step}]> ()
            axis = Constant <value_ints=[{1 if axis else 0}]> ()
            y = Slice (x, a, b, axis, c) }}"""
    x = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    assert differences(texts, [{"x": x}]) == []


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
def test_integers_divide_and_overflow_as_in_c(dtype: str) -> None:
    span = np.iinfo(dtype)
    x = np.array(
        [span.min, -7 % 256 if span.min == 0 else -7, -1 % 128, 0, 7, 100, span.max], dtype
    )
    y = np.array([3, 2, 2, 5, -2 % 128 if span.min == 0 else -2, 3, 2], dtype)
    kind = {"int8": "int8", "uint8": "uint8", "int32": "int32"}[dtype]
    bodies = {"sum": "Add", "difference": "Sub", "product": "Mul", "quotient": "Div", "rest": "Mod"}
    if dtype == "int32":
        x = np.clip(x, -(10**9), 10**9).astype(dtype)
    texts = {
        name: f"g ({kind}[7] x, {kind}[7] y) => (z) {{ z = {op} (x, y) }}"
        for name, op in bodies.items()
    }
    made = Converted(joined(texts)).run({"x": x, "y": y})
    wide_x, wide_y = x.astype(np.int64), y.astype(np.int64)
    wanted = {
        "sum_z": wide_x + wide_y,
        "difference_z": wide_x - wide_y,
        "product_z": wide_x * wide_y,
        "quotient_z": np.trunc(wide_x / wide_y),
        "rest_z": wide_x - np.floor(wide_x / wide_y) * wide_y,
    }
    for name, value in wanted.items():
        np.testing.assert_array_equal(made[name], value.astype(np.int64).astype(dtype), name)


def test_functions_add_no_epsilon_and_stay_exact_near_their_edges() -> None:
    x = np.array([1.0, 1 + 1e-6, 1.5, 3, 300, 1e30], np.float32)
    small = np.array([1e-36, 1e-30, 1e-6, 0.5, 2, 1e20], np.float32)
    texts = {
        "log": "g (float[6] x, float[6] small) => (y) { y = Log (small) }",
        "reciprocal": "g (float[6] x, float[6] small) => (y) { y = Reciprocal (small) }",
        "asinh": "g (float[6] x, float[6] small) => (y) { y = Asinh (small) }",
        "acosh": "g (float[6] x, float[6] small) => (y) { y = Acosh (x) }",
    }
    made = Converted(joined(texts)).run({"x": x, "small": small})
    wide_x, wide_small = x.astype(np.float64), small.astype(np.float64)
    for name, wanted in {
        "log_y": np.log(wide_small),
        "reciprocal_y": 1 / wide_small,
        "asinh_y": np.arcsinh(wide_small),
        "acosh_y": np.arccosh(wide_x),
    }.items():
        np.testing.assert_allclose(made[name], wanted, rtol=3e-5, err_msg=name)


def test_inverse_functions_do_not_overflow_in_float16() -> None:
    x = np.array([1, 2, 255, 257, 4000, 60000], np.float32)
    texts = {
        "asinh": "g (float[6] x) => (y) { y = Asinh (x) }",
        "acosh": "g (float[6] x) => (y) { y = Acosh (x) }",
    }
    made = Converted(joined(texts), precision="float16").run({"x": x})
    np.testing.assert_allclose(made["asinh_y"], np.arcsinh(x), rtol=3e-3)
    np.testing.assert_allclose(made["acosh_y"], np.arccosh(x), rtol=3e-3)


def test_select_gets_equal_shapes() -> None:
    model = one_node(
        "Where",
        {
            "c": np.array([[True], [False]]),
            "a": np.ones((1, 3), np.float32),
            "b": np.zeros((), np.float32),
        },
        {"y": np.float32},
    )
    made = Converted(model)
    types = {item.name: item.type for op in operations(made.program.body) for item in op.outputs}
    (select,) = (item for item in operations(made.program.body) if item.kind == "select")
    shapes = {
        types[ref.name].dims
        for name in ("cond", "a", "b")
        for ref in select.inputs[name]
        if isinstance(ref, Ref)
    }
    assert shapes == {(2, 3)}


def test_no_reshape_has_a_zero() -> None:
    text = """g (float[40, 360] x) => (y) {
        a = Constant <value_ints=[1, 40, 360]> ()
        b = Constant <value_ints=[0, 0, 3, 8, 15]> ()
        first = Reshape (x, a)
        y = Reshape (first, b) }"""
    x = np.random.default_rng(1).normal(size=(40, 360)).astype(np.float32)
    assert differences({"trap": text}, [{"x": x}]) == []


def test_rank_six_is_refused_by_name() -> None:
    x = {"x": np.zeros((2, 2, 2, 2), np.float32), "axes": np.array([0, 1])}
    with pytest.raises(BuildError, match="'y' has rank 6") as caught:
        Converted(one_node("Unsqueeze", x, {"y": np.float32}), constants={"axes": x["axes"]})
    assert [item.code for item in caught.value.diagnostics] == ["E341"]


def test_rank_six_between_reshapes_is_lowered() -> None:
    text = """g (float[1, 12, 8, 6] x) => (y) {
        high = Constant <value_ints=[1, 3, 2, 2, 8, 6]> ()
        a = Reshape (x, high)
        b = Transpose <perm=[0, 1, 4, 2, 5, 3]> (a)
        low = Constant <value_ints=[1, 3, 16, -1]> ()
        y = Reshape (b, low) }"""
    x = np.random.default_rng(2).normal(size=(1, 12, 8, 6)).astype(np.float32)
    assert differences({"pixel shuffle": text}, [{"x": x}]) == []


def test_rank_six_that_is_used_otherwise_is_refused() -> None:
    text = """g (float[1, 12, 8, 6] x) => (y) {
        high = Constant <value_ints=[1, 3, 2, 2, 8, 6]> ()
        a = Reshape (x, high)
        b = Neg (a)
        low = Constant <value_ints=[1, 3, 16, -1]> ()
        y = Reshape (b, low) }"""
    with pytest.raises(BuildError, match="rank 6") as caught:
        Converted(joined({"used": text}))
    assert [(item.code, item.subject) for item in caught.value.diagnostics] == [
        ("E340", "Reshape_0"),
        ("E340", "Neg_0"),
    ]


def test_scalars_and_booleans_come_and_go() -> None:
    texts = {
        "sum": "g (float x, bool[2] b, int8[2] i) => (y) { y = Add (x, x) }",
        "not": "g (float x, bool[2] b, int8[2] i) => (y) { y = Not (b) }",
        "small": "g (float x, bool[2] b, int8[2] i) => (y) { y = Add (i, i) }",
    }
    inputs = {
        "x": np.array(1.5, np.float32),
        "b": np.array([True, False]),
        "i": np.array([100, -3], np.int8),
    }
    made = Converted(joined(texts)).run(inputs)
    assert made["sum_y"].shape == () and made["sum_y"] == 3
    assert made["not_y"].dtype == bool and made["not_y"].tolist() == [False, True]
    assert made["small_y"].dtype == np.int8 and made["small_y"].tolist() == [-56, -6]


def test_large_integers_stay_exact_in_a_float16_program() -> None:
    x = np.array([[16777217, -2000000001]], np.int64)
    texts = {
        "pad": """g (int64[1, 2] x) => (y) {
            pads = Constant <value_ints=[0, 1, 0, 1]> ()
            y = Pad (x, pads) }""",
        "trilu": "g (int64[1, 2] x) => (y) { y = Trilu (x) }",
        "sum": "g (int64[1, 2] x) => (y) { y = ReduceMax <keepdims=0> (x) }",
        "power": """g (int64[1, 2] x) => (y) {
            one = Constant <value_int=1> ()
            y = Pow (x, one) }""",
    }
    assert differences(texts, [{"x": x}], precision="float16") == []
