"""Elementwise operations of the MIL interpreter against Python's math and ONNX Runtime."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, mutually_broadcastable_shapes

from edgedeploy.errors import EdgedeployError
from edgedeploy.mil.erf import erf
from edgedeploy.mil.registry import entries
from tests.unit.mil.programs import call, const, machine, tensor
from tests.unit.mil.reference import by_runtime, floats

CLOSE = {"rtol": 2e-6, "atol": 1e-7}


def compute(kind, *positional, **given):
    """Return what the function of an operation makes of parameters by name."""
    names = ("x", "y")[: len(positional)]
    return entries()[kind].compute(**dict(zip(names, positional, strict=True)), **given)


def run(kind, x, dtype, **given):
    """Return the result of an operation on x in a program that declares its type."""
    steps = [call(kind, tensor("r", *x.shape, dtype=dtype), x="x", **given)]
    return machine([tensor("x", *x.shape, dtype=x.dtype.name)], steps, ["r"]).run({"x": x})["r"]


@given(arrays(np.float32, 20, elements=st.floats(-20, 20, width=32)))
def test_erf_is_the_error_function(x):
    np.testing.assert_allclose(erf(x), [math.erf(value) for value in x], rtol=1e-10, atol=1e-11)


def test_erf_keeps_its_limits_and_nan():
    found = erf(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], np.float32))
    np.testing.assert_array_equal(found, [1, -1, np.nan, 0, 0])
    assert np.signbit(found).tolist()[-2:] == [False, True]


@pytest.mark.parametrize(
    ("kind", "function", "low", "high"),
    [
        ("abs", abs, -3, 3),
        ("acos", math.acos, -0.99, 0.99),
        ("asin", math.asin, -0.99, 0.99),
        ("atan", math.atan, -5, 5),
        ("atanh", math.atanh, -0.99, 0.99),
        ("ceil", math.ceil, -3, 3),
        ("cos", math.cos, -5, 5),
        ("cosh", math.cosh, -3, 3),
        ("erf", math.erf, -4, 4),
        ("exp", math.exp, -5, 5),
        ("exp2", lambda x: 2**x, -5, 5),
        ("floor", math.floor, -3, 3),
        ("round", round, -3, 3),
        ("sin", math.sin, -5, 5),
        ("sinh", math.sinh, -3, 3),
        ("sqrt", math.sqrt, 0.01, 9),
        ("square", lambda x: x * x, -3, 3),
        ("tan", math.tan, -1.4, 1.4),
        ("tanh", math.tanh, -3, 3),
    ],
)
def test_a_function_is_that_of_the_math_module(kind, function, low, high):
    x = np.linspace(low, high, 31, dtype=np.float32)
    np.testing.assert_allclose(compute(kind, x), [function(float(v)) for v in x], rtol=2e-6)


def test_halves_are_rounded_to_even():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    assert compute("round", x).tolist() == [0, 2, 2, 0, -2]


def test_sign_and_not():
    assert compute("sign", np.array([-2, 0, 3], np.int32)).tolist() == [-1, 0, 1]
    assert compute("logical_not", np.array([True, False])).tolist() == [False, True]


@pytest.mark.parametrize("kind", ["inverse", "log", "rsqrt"])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, None])
def test_epsilon_is_added_before(kind, epsilon):
    default = {"inverse": 1e-4, "log": 1e-45, "rsqrt": 1e-12}[kind]
    formula = {
        "inverse": lambda x: 1 / x,
        "log": np.log,
        "rsqrt": lambda x: 1 / np.sqrt(x),
    }[kind]
    x = np.array([1e-4, 0.3, 2], np.float32)
    given = {} if epsilon is None else {"epsilon": np.float32(epsilon)}
    wanted = formula(x.astype(np.float64) + (default if epsilon is None else epsilon))
    np.testing.assert_allclose(run(kind, x, "float32", **given), wanted, rtol=1e-6)


def test_the_default_epsilon_of_log_is_nothing_in_float16():
    """1e-45 is a float32 and rounds to 0 in float16, so that log(0) differs."""
    assert run("log", np.zeros(1, np.float32), "float32") == pytest.approx(-103.28, abs=0.01)
    assert run("log", np.zeros(1, np.float16), "float16") == -np.inf


def test_clip_and_threshold():
    x = np.array([-2, 0.5, 9], np.float32)
    assert compute("clip", x, alpha=np.float32(-1), beta=np.float32(2)).tolist() == [-1, 0.5, 2]
    assert compute("threshold", x, alpha=np.float32(0)).tolist() == [0, 0.5, 9]


@pytest.mark.parametrize(
    ("kind", "operator"),
    [
        ("add", "Add"),
        ("sub", "Sub"),
        ("mul", "Mul"),
        ("real_div", "Div"),
        ("maximum", "Max"),
        ("minimum", "Min"),
        ("equal", "Equal"),
        ("greater", "Greater"),
        ("greater_equal", "GreaterOrEqual"),
        ("less", "Less"),
        ("less_equal", "LessOrEqual"),
        ("logical_and", "And"),
        ("logical_or", "Or"),
        ("logical_xor", "Xor"),
    ],
)
def test_two_tensors_broadcast_as_in_the_runtime(kind, operator):
    x, y = floats(2, 1, 3, seed=1).round(), floats(4, 1, seed=2).round() + 0.5
    if kind == "equal":
        y -= 0.5
    if kind.startswith("logical"):
        x, y = x > 0, y > 0
    (wanted,) = by_runtime(operator, [x, y])
    found = compute(kind, x, y)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, **CLOSE)


@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=4))
def test_not_equal_is_the_opposite_of_equal(shapes):
    first, second = shapes.input_shapes
    x = np.arange(math.prod(first), dtype=np.int32).reshape(first) % 3
    y = np.arange(math.prod(second), dtype=np.int32).reshape(second) % 2
    differ = compute("not_equal", x, y)
    assert differ.shape == shapes.result_shape
    np.testing.assert_array_equal(differ, ~compute("equal", x, y))


@given(st.integers(-40, 40), st.integers(-9, 9).filter(bool))
def test_integer_division_floors_and_mod_has_the_sign_of_the_divisor(a, b):
    x, y = np.array([a], np.int32), np.array([b], np.int32)
    assert compute("floor_div", x, y) == a // b
    assert compute("mod", x, y) == a % b


def test_integers_divide_where_every_way_of_rounding_is_the_same():
    x, y = np.array([6, -6, 7, -7], np.int32), np.array([3, 3, 2, -2], np.int32)
    assert compute("real_div", x, y).tolist() == [2, -2, 3, 3]
    for divisor in (-4, 0):
        with pytest.raises(EdgedeployError, match="quotient"):
            run("real_div", np.array([6], np.int32), "int32", y=np.array([divisor], np.int32))


def test_integers_wrap_at_32_bits():
    x = np.array([2**31 - 1], np.int32)
    assert run("add", x, "int32", y=np.array([1], np.int32)) == -(2**31)


def test_pow_and_select():
    x = np.array([2, -2, 9], np.float32)
    np.testing.assert_allclose(compute("pow", x, np.float32([3, 2, 0.5])), [8, 4, 3])
    found = compute("select", cond=np.array([[True], [False]]), a=x, b=np.float32(0))
    assert found.tolist() == [[2, -2, 9], [0, 0, 0]]


ACTIVATIONS = {
    "relu": ("Relu", {}, {}),
    "elu": ("Elu", {"alpha": 0.7}, {"alpha": 0.7}),
    "gelu": ("Gelu", {}, {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.1}, {"alpha": 0.1}),
    "sigmoid": ("Sigmoid", {}, {}),
    "sigmoid_hard": ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, {"alpha": 0.3, "beta": 0.4}),
    "softplus": ("Softplus", {}, {}),
    "softsign": ("Softsign", {}, {}),
    "thresholded_relu": ("ThresholdedRelu", {"alpha": 0.6}, {"alpha": 0.6}),
    "softmax": ("Softmax", {"axis": 1}, {"axis": 1}),
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_activation_is_the_runtimes(kind):
    operator, parameters, attributes = ACTIVATIONS[kind]
    x = 3 * floats(2, 5, 4, seed=3)
    (wanted,) = by_runtime(operator, [x], **attributes)
    given = {name: np.asarray(value, np.float32) for name, value in parameters.items()}
    np.testing.assert_allclose(compute(kind, x, **given), wanted, rtol=1e-5, atol=1e-6)


def test_prelu_and_softplus_have_factors_per_channel():
    x, alpha, beta = floats(2, 3, 4, 5), floats(3, seed=1), floats(3, seed=2)
    (wanted,) = by_runtime("PRelu", [x, alpha.reshape(3, 1, 1)])
    np.testing.assert_allclose(compute("prelu", x, alpha=alpha), wanted, **CLOSE)
    found = compute("softplus_parametric", x, alpha=alpha, beta=beta)
    for channel in range(3):
        wanted = alpha[channel] * np.log1p(np.exp(beta[channel] * x[:, channel]))
        np.testing.assert_allclose(found[:, channel], wanted, rtol=1e-5)


def test_activations_that_onnx_has_not():
    x = np.array([-4, -1, 0, 1, 7], np.float32)
    half = {"alpha": np.float32(0.5), "beta": np.float32(2)}
    assert compute("relu6", x).tolist() == [0, 0, 0, 1, 6]
    assert compute("clamped_relu", x, **half).tolist() == [-2, -0.5, 0, 1, 2]
    assert compute("linear_activation", x, **half).tolist() == [0, 1.5, 2, 2.5, 5.5]
    np.testing.assert_allclose(compute("scaled_tanh", x, **half), 0.5 * np.tanh(2 * x))
    np.testing.assert_allclose(compute("silu", x), x / (1 + np.exp(-x)), rtol=1e-6)


def test_gelu_has_two_approximations_and_no_other():
    x = floats(20)
    (wanted,) = by_runtime("Gelu", [x], approximate="tanh")
    np.testing.assert_allclose(compute("gelu", x, mode="TANH_APPROXIMATION"), wanted, rtol=1e-5)
    found = compute("gelu", x, mode="SIGMOID_APPROXIMATION")
    np.testing.assert_allclose(found, x / (1 + np.exp(-1.702 * x)), rtol=1e-5)
    with pytest.raises(ValueError, match="mode FAST"):
        compute("gelu", x, mode="FAST")


def test_large_values_do_not_overflow_what_has_a_limit():
    x = np.array([-200, 200], np.float32)
    with np.errstate(all="ignore"):
        assert compute("sigmoid", x).tolist() == [0, 1]
        assert compute("softplus", x).tolist() == [0, 200]
        assert compute("softmax", x).tolist() == [0, 1]
        assert compute("elu", x, alpha=np.float32(1)).tolist() == [-1, 200]


@pytest.mark.parametrize(
    ("values", "named", "dtype", "wanted"),
    [
        ([-1.7, 0, 2.9], "int32", "int32", [-1, 0, 2]),
        ([-0.5, 0, 2.9], "bool", "bool", [True, False, True]),
        ([255.9, 0, 2.9], "uint8", "uint8", [255, 0, 2]),
        ([2049.0, 0, 1e-9], "fp16", "float16", [2048, 0, 0]),
    ],
)
def test_cast_cuts_to_integers_and_takes_what_is_not_0_as_true(values, named, dtype, wanted):
    text = dataclasses.replace(const("t", np.int32(0)), attributes={"val": named})
    steps = [text, call("cast", tensor("y", 3, dtype=dtype), x="x", dtype="t")]
    found = machine([tensor("x", 3)], steps, ["y"]).run({"x": np.array(values, np.float32)})
    assert found["y"].dtype == dtype
    assert found["y"].tolist() == wanted
