"""If, Loop and Scan: bodies that see what is around them, at several sizes."""

from __future__ import annotations

import numpy as np
import pytest

from edgedeploy.errors import BuildError
from tests.coreml.agree import differences, joined
from tests.coreml.harness import Converted

pytestmark = pytest.mark.slow

HEAD = "g (float[N, 3] x, int64[1] count, bool[1] flag) => (float[A, 3] y)"


def samples() -> list[dict[str, np.ndarray]]:
    """Return inputs at three sizes, with both values of the flag."""
    rng = np.random.default_rng(7)
    return [
        {
            "x": rng.normal(size=(n, 3)).astype(np.float32),
            "count": np.array([rounds]),
            "flag": np.array([flag]),
        }
        for n, rounds, flag in ((1, 1, True), (4, 5, False), (2, 3, True))
    ]


GRAPHS = {
    "branch by data": """
        two = Constant <value_float=2.0> ()
        y = If (flag) <
            then_branch = t () => (float[N, 3] a) { a = Mul (x, two) },
            else_branch = e () => (float[N, 3] b) { n = Neg (x)  b = Add (n, two) }>""",
    "the same weight inside and after": """
        w = Constant <value_floats=[1.0, 2.0, 3.0]> ()
        b = If (flag) <
            then_branch = t () => (float[N, 3] a) { a = Mul (x, w) },
            else_branch = e () => (float[N, 3] b) { b = Sub (x, w) }>
        y = Add (b, w)""",
    "a branch that only hands on": """
        y = If (flag) <
            then_branch = t () => (float[N, 3] a) { a = Identity (x) },
            else_branch = e () => (float[N, 3] b) { b = Neg (x) }>""",
    "branches in branches": """
        zero = Constant <value_float=0.0> ()
        sum = ReduceSum <keepdims=0> (x)
        more = Greater (sum, zero)
        y = If (flag) <
            then_branch = t () => (float[N, 3] a) {
                a = If (more) <
                    then_branch = tt () => (float[N, 3] c) { c = Abs (x) },
                    else_branch = te () => (float[N, 3] d) { d = Neg (x) }>
            },
            else_branch = e () => (float[N, 3] b) { b = Mul (x, sum) }>""",
    "fixed number of rounds": """
        three = Constant <value_int=3> ()
        go = Constant <value = bool {1}> ()
        y = Loop (three, go, x) <
            body = b (int64 i, bool c, float[N, 3] h) => (bool d, float[N, 3] k) {
                d = Identity (c)
                f = Cast <to=1> (i)
                k = Add (h, f)
            }>""",
    "rounds by data": """
        half = Constant <value_float=0.5> ()
        go = Constant <value = bool {1}> ()
        one = Constant <value_ints=[0]> ()
        rounds = Squeeze (count, one)
        y = Loop (rounds, go, x) <
            body = b (int64 i, bool c, float[N, 3] h) => (bool d, float[N, 3] k) {
                d = Identity (c)
                s = Mul (h, half)
                k = Sub (x, s)
            }>""",
    "rounds until a condition": """
        limit = Constant <value_float=20.0> ()
        two = Constant <value_float=2.0> ()
        go = Constant <value = bool {1}> ()
        y = Loop (, go, x) <
            body = b (int64 i, bool c, float[N, 3] h) => (bool d, float[N, 3] k) {
                k = Mul (h, two)
                a = Abs (k)
                m = ReduceMax <keepdims=0> (a)
                d = Less (m, limit)
            }>""",
    "two states, one of which is kept": """
        zero = Constant <value_float=0.0> ()
        one = Constant <value_ints=[0]> ()
        rounds = Squeeze (count, one)
        a, y = Loop (rounds, , zero, x) <
            body = b (int64 i, bool c, float p, float[N, 3] q) => (bool d, float u, float[N, 3] v) {
                d = Identity (c)
                f = Cast <to=1> (i)
                u = Add (p, f)
                v = Add (q, p)
            }>""",
}

COLLECTED = {
    "collected in a fixed number of rounds": """
        three = Constant <value_int=3> ()
        go = Constant <value = bool {1}> ()
        z = Constant <value_floats=[0.0, 1.0, 2.0]> ()
        last, y = Loop (three, go, z) <
            body = b (int64 i, bool c, float[3] h) => (bool d, float[3] k, float[3] s) {
                d = Identity (c)
                m = ReduceMean <axes=[0], keepdims=0> (x)
                k = Add (h, m)
                s = Mul (k, m)
            }>""",
    "collected until a condition": """
        nine = Constant <value_int=9> ()
        limit = Constant <value_float=3.0> ()
        go = Constant <value = bool {1}> ()
        z = Constant <value_floats=[0.0, 1.0, 2.0]> ()
        last, rows = Loop (nine, go, z) <
            body = b (int64 i, bool c, float[3] h) => (bool d, float[3] k, bool[3] s) {
                one = Constant <value_float=1.0> ()
                k = Add (h, one)
                m = ReduceMax <keepdims=0> (k)
                d = Less (m, limit)
                s = Greater (k, one)
            }>
        y = Cast <to=1> (rows)""",
}


def test_bodies() -> None:
    assert differences(_texts(GRAPHS), samples(), opset=17) == []


def test_collecting_bodies() -> None:
    assert differences(_texts(COLLECTED), samples(), opset=17) == []


def _texts(graphs: dict[str, str]) -> dict[str, str]:
    return {name: f"{HEAD} {{ {body} }}" for name, body in graphs.items()}


SCANS = {
    "both directions and other axes": """
        zero = Constant <value_floats=[0.0, 0.0]> ()
        last, y = Scan <num_scan_inputs=1, scan_input_axes=[1], scan_input_directions=[1],
                     scan_output_axes=[1], scan_output_directions=[1],
            body = b (float[2] h, float[2] r) => (float[2] k, float[2] s) {
                k = Add (h, r)
                s = Mul (k, h)
            }> (zero, x)""",
}


@pytest.mark.parametrize("steps", [4, 600])
def test_scans(steps: int) -> None:
    """Short ones are unrolled, long ones loop; both give the same as the runtime."""
    texts = {name: f"g (float[2, {steps}] x) => (y) {{ {body} }}" for name, body in SCANS.items()}
    x = np.random.default_rng(1).normal(size=(2, steps)).astype(np.float32) / steps
    assert differences(texts, [{"x": x}], opset=17) == []
    loops = "while_loop" in Converted(joined(texts, opset=17)).kinds()
    assert loops == (steps > 100)


def test_branches_of_different_shapes_are_refused() -> None:
    text = """g (float[4] x, bool flag) => (float[C] y) {
        y = If (flag) <
            then_branch = t () => (float[A] a) { a = Concat <axis=0> (x, x) },
            else_branch = e () => (float[B] b) { b = Neg (x) }>
    }"""
    with pytest.raises(BuildError, match="its branches make"):
        Converted(joined({"g": text}, opset=17))


def test_refused_nodes_in_bodies_are_named_once() -> None:
    text = """g (float[4] x, int64 n) => (float[4] y) {
        y = Loop (n, , x) <
            body = b (int64 i, bool c, float[4] h) => (bool d, float[4] k) {
                d = Identity (c)
                r = RandomNormalLike (h)
                k = Add (h, r)
            }>
    }"""
    with pytest.raises(BuildError) as caught:
        Converted(joined({"g": text}, opset=17))
    assert [item.message for item in caught.value.diagnostics] == [
        "Core ML: RandomNormalLike: it draws random numbers"
    ]
