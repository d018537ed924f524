"""Operators on shapes whose sizes are known only at run time, at several sizes each."""

from __future__ import annotations

import numpy as np
import pytest

from tests.coreml.agree import differences

pytestmark = pytest.mark.slow

SIZES = ((1, 5), (2, 4), (4, 9))
"""The open sizes N and W of the samples; N of 1 also broadcasts."""


def samples(*, integers: bool = False) -> list[dict[str, np.ndarray]]:
    """Return ``x`` of shape [N, 3, W] at every size."""
    rng = np.random.default_rng(3)
    if integers:
        return [{"x": rng.integers(-9, 10, (n, 3, w))} for n, w in SIZES]
    return [{"x": rng.normal(size=(n, 3, w)).astype(np.float32)} for n, w in SIZES]


GRAPHS = {
    "reshape by sizes of its own": """
        n = Shape <start=0, end=1> (x)
        w = Shape <start=2, end=3> (x)
        three = Constant <value_ints=[3]> ()
        to = Concat <axis=0> (n, w, three)
        y = Reshape (x, to)""",
    "reshape by a product": """
        all = Size (x)
        one = Constant <value_ints=[1]> ()
        flat = Reshape (all, one)
        three = Constant <value_ints=[3]> ()
        each = Div (flat, three)
        to = Concat <axis=0> (each, three)
        y = Reshape (x, to)""",
    "reshape with 0 and -1": """
        to = Constant <value_ints=[0, -1]> ()
        y = Reshape (x, to)""",
    "two reshapes, the second with a 0": """
        first = Constant <value_ints=[0, 1, 3, -1]> ()
        a = Reshape (x, first)
        second = Constant <value_ints=[0, 1, -1]> ()
        y = Reshape (a, second)""",
    "flatten behind an open axis": "y = Flatten <axis=1> (x)",
    "flatten before an open axis": "y = Flatten <axis=-1> (x)",
    "slice of the end": """
        start = Constant <value_ints=[-3]> ()
        end = Constant <value_ints=[9223372036854775807]> ()
        axis = Constant <value_ints=[2]> ()
        y = Slice (x, start, end, axis)""",
    "slice beyond both ends": """
        start = Constant <value_ints=[-100, 1]> ()
        end = Constant <value_ints=[7, 100]> ()
        axis = Constant <value_ints=[2, 1]> ()
        y = Slice (x, start, end, axis)""",
    "slice backwards": """
        start = Constant <value_ints=[-2, 100]> ()
        end = Constant <value_ints=[-9223372036854775807, -9223372036854775807]> ()
        axis = Constant <value_ints=[2, 0]> ()
        step = Constant <value_ints=[-2, -1]> ()
        y = Slice (x, start, end, axis, step)""",
    "slice to a computed place": """
        w = Shape <start=2, end=3> (x)
        two = Constant <value_ints=[2]> ()
        half = Div (w, two)
        none = Constant <value_ints=[0]> ()
        y = Slice (x, none, half, two)""",
    "slice from a computed place before the end": """
        w = Shape <start=2, end=3> (x)
        two = Constant <value_ints=[2]> ()
        half = Div (w, two)
        start = Neg (half)
        end = Constant <value_ints=[9223372036854775807]> ()
        y = Slice (x, start, end, two)""",
    "expand to a shape": """
        to = Shape (x)
        one = Constant <value_ints=[0]> ()
        two = Constant <value_ints=[1]> ()
        w = Constant <value_ints=[2]> ()
        part = Slice (x, one, two, w)
        y = Expand (part, to)""",
    "choice with broadcasting": """
        zero = Constant <value_ints=[0]> ()
        one = Constant <value_ints=[1]> ()
        two = Constant <value_ints=[2]> ()
        column = Slice (x, zero, one, two)
        row = Slice (x, zero, one, zero)
        positive = Constant <value_float=0.0> ()
        cond = Greater (row, positive)
        y = Where (cond, x, column)""",
    "tile by a computed count": """
        n = Shape <start=0, end=1> (x)
        ones = Constant <value_ints=[1, 1]> ()
        reps = Concat <axis=0> (ones, n)
        y = Tile (x, reps)""",
    "pad with a value": """
        pads = Constant <value_ints=[0, 1, 2, 0, 0, 3]> ()
        value = Constant <value_float=1.5> ()
        y = Pad (x, pads, value)""",
    "pad by reflection and crop": """
        pads = Constant <value_ints=[0, 0, 2, 0, 0, -1]> ()
        y = Pad <mode="reflect"> (x, pads)""",
    "pad all axes with their edges": """
        pads = Constant <value_ints=[1, 0, 2, 0, 1, 1]> ()
        y = Pad <mode="edge"> (x, pads)""",
    "pad by going round": """
        pads = Constant <value_ints=[0, 0, 2, 0, 0, 3]> ()
        y = Pad <mode="wrap"> (x, pads)""",
    "squeeze what is one at run time": """
        n = Shape <start=0, end=1> (x)
        w = Shape <start=2, end=3> (x)
        three = Constant <value_ints=[3]> ()
        one = Constant <value_ints=[1]> ()
        to = Concat <axis=0> (n, one, three, w)
        a = Reshape (x, to)
        axis = Constant <value_ints=[1]> ()
        y = Squeeze (a, axis)""",
    "fill a shape": """
        to = Shape (x)
        ones = ConstantOfShape <value = float[1] {2.5}> (to)
        y = Add (ones, x)""",
    "mean over open axes": """
        axes = Constant <value_ints=[0, 2]> ()
        y = ReduceMean <keepdims=0> (x, axes)""",
    "last of the largest": """
        whole = Round (x)
        places = ArgMax <axis=2, select_last_index=1> (whole)
        y = Cast <to=1> (places)""",
}

INTEGER_GRAPHS = {
    "mean of integers, towards zero": """
        axes = Constant <value_ints=[2]> ()
        y = ReduceMean <keepdims=1> (x, axes)""",
    "counted and added up": """
        w = Shape <start=2, end=3> (x)
        end = Squeeze (w)
        zero = Constant <value_int=0> ()
        one = Constant <value_int=1> ()
        count = Range (zero, end, one)
        sum = Add (x, count)
        axis = Constant <value_int=2> ()
        y = CumSum <reverse=1, exclusive=1> (sum, axis)""",
    "triangles": """
        two = Constant <value_int=-1> ()
        a = Trilu <upper=1> (x)
        b = Trilu <upper=0> (x, two)
        y = Sub (a, b)""",
    "one hot": """
        depth = Constant <value_int=7> ()
        pair = Constant <value_ints=[-1, 4]> ()
        y = OneHot <axis=1> (x, depth, pair)""",
    "what is not zero": "y = NonZero (x)",
    "pad of integers": """
        pads = Constant <value_ints=[0, 1, 2, 0, 0, 3]> ()
        value = Constant <value_int=16777217> ()
        y = Pad (x, pads, value)""",
    "quotients and remainders": """
        by = Constant <value_int=4> ()
        a = Div (x, by)
        b = Mod (x, by)
        c = Mod <fmod=1> (x, by)
        ten = Constant <value_int=1000> ()
        d = Mul (b, ten)
        e = Mul (a, ten)
        f = Add (c, d)
        y = Add (e, f)""",
}


def test_open_sizes() -> None:
    texts = {name: f"g (float[N, 3, W] x) => (y) {{ {body} }}" for name, body in GRAPHS.items()}
    assert differences(texts, samples(), ios=18) == []


def test_open_sizes_of_integers() -> None:
    texts = {
        name: f"g (int64[N, 3, W] x) => (y) {{ {body} }}" for name, body in INTEGER_GRAPHS.items()
    }
    assert differences(texts, samples(integers=True), ios=16) == []
