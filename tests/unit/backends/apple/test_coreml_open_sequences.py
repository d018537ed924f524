"""Gathers, recurrent layers and attention whose sizes are known only at run time."""

from __future__ import annotations

import numpy as np
import pytest

from tests.coreml.agree import differences, joined
from tests.coreml.harness import Converted

pytestmark = pytest.mark.slow

SIZES = ((1, 5), (2, 1), (3, 9))
"""The open sizes N and S of the samples."""


def samples() -> list[dict[str, np.ndarray]]:
    """Return ``x`` [N, S, 8], ``ids`` [N, S] with negative ones, and ``mask`` [N, S]."""
    rng = np.random.default_rng(5)
    made = []
    for n, s in SIZES:
        mask = np.arange(s)[None] < rng.integers(1, s + 1, (n, 1))
        made.append(
            {
                "x": rng.normal(size=(n, s, 8)).astype(np.float32),
                "ids": rng.integers(-6, 6, (n, s)),
                "mask": mask.astype(np.float32),
            }
        )
    return made


HEAD = "g (float[N, S, 8] x, int64[N, S] ids, float[N, S] mask) => ({} y)"
WEIGHTS = """
    wshape = Constant <value_ints=[2, {rows}, 8]> ()
    w = ConstantOfShape <value=float[1] {{0.05}}> (wshape)
    rshape = Constant <value_ints=[2, {rows}, 3]> ()
    r = ConstantOfShape <value=float[1] {{-0.2}}> (rshape)
    t = Transpose <perm=[1, 0, 2]> (x)"""

GRAPHS = {
    "embedding": """
        table = Constant <value = float[6, 2]
            {0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11.}> ()
        y = Gather (table, ids)""",
    "last step": """
        last = Constant <value_int=-1> ()
        y = Gather <axis=1> (x, last)""",
    "elements": """
        axis = Constant <value_ints=[2]> ()
        i = Unsqueeze (ids, axis)
        y = GatherElements <axis=2> (x, i)""",
    "top": """
        two = Constant <value_ints=[2]> ()
        y, i = TopK <axis=2> (x, two)""",
    "lstm": WEIGHTS.format(rows=12)
    + 'y, h, c = LSTM <hidden_size=3, direction="bidirectional"> (t, w, r)',
    "gru": WEIGHTS.format(rows=9)
    + 'y, h = GRU <hidden_size=3, direction="bidirectional", linear_before_reset=1> (t, w, r)',
    "rnn": WEIGHTS.format(rows=3)
    + 'y, h = RNN <hidden_size=3, direction="bidirectional"> (t, w, r)',
    "attention": "y = Attention <q_num_heads=4, kv_num_heads=2, is_causal=1> (x, k, k)",
    "attention with a mask": """
        rows = Constant <value_ints=[1, 3]> ()
        columns = Constant <value_ints=[1, 2]> ()
        zero = Constant <value_float=0.0> ()
        some = Greater (mask, zero)
        any = GreaterOrEqual (mask, zero)
        of_keys = Unsqueeze (some, columns)
        of_queries = Unsqueeze (any, rows)
        allowed = And (of_queries, of_keys)
        y = Attention <q_num_heads=4, kv_num_heads=2, softcap=3.0> (x, k, k, allowed)""",
    "rotated": """
        top = Constant <value_ints=[16, 2]> ()
        cos = ConstantOfShape <value=float[1] {0.6}> (top)
        sin = ConstantOfShape <value=float[1] {0.8}> (top)
        six = Constant <value_int=6> ()
        places = Mod (ids, six)
        y = RotaryEmbedding <num_heads=2> (x, cos, sin, places)""",
}
RANKS = {"top": 3, "last step": 2, "lstm": 4, "gru": 4, "rnn": 4}
SLICED = """
    b = Constant <value_ints=[0]> ()
    e = Constant <value_ints=[4]> ()
    a = Constant <value_ints=[2]> ()
    k = Slice (x, b, e, a)"""


def texts(names: list[str]) -> dict[str, str]:
    """Return graphs by name."""
    made = {}
    for name in names:
        before = SLICED if name.startswith("attention") else ""
        dims = ", ".join("ABCD"[: RANKS.get(name, 3)])
        made[name] = f"{HEAD.format(f'float[{dims}]')} {{ {before} {GRAPHS[name]} }}"
    return made


def test_open_sizes_give_what_the_runtime_gives() -> None:
    assert differences(texts(list(GRAPHS)), samples(), ios=16, opset=23) == []


def test_open_sizes_of_fused_attention() -> None:
    names = [name for name in GRAPHS if name.startswith("attention")]
    assert differences(texts(names), samples(), ios=18, opset=23) == []


def test_fused_attention_is_one_operation_from_ios_18_on() -> None:
    model = joined(texts(["attention"]), opset=23)
    ranges = {"N": (1, 4), "S": (1, 16)}
    assert "scaled_dot_product_attention" in Converted(model, ios=18, ranges=ranges).kinds()
    assert "scaled_dot_product_attention" not in Converted(model, ios=17, ranges=ranges).kinds()


def test_long_sequences_loop() -> None:
    """Beyond the steps that are unrolled, each step writes its row of the output."""
    text = f"""g (float[1, 40, 8] x) => (float[40, 2, 1, 3] y) {{
        {WEIGHTS.format(rows=9)}
        y, h = GRU <hidden_size=3, direction="bidirectional", linear_before_reset=1> (t, w, r)
    }}"""
    x = np.random.default_rng(2).normal(size=(1, 40, 8)).astype(np.float32)
    assert differences({"gru": text}, [{"x": x}]) == []
    assert "while_loop" in Converted(joined({"gru": text})).kinds()
