"""Layers on shapes whose batch, height or width is known only at run time."""

from __future__ import annotations

import numpy as np
import pytest

from edgedeploy.errors import BuildError
from tests.coreml.agree import differences

pytestmark = pytest.mark.slow

SIZES = ((1, 6, 7), (2, 7, 12), (3, 9, 8))
"""The open sizes N, H and W of the samples."""


def samples() -> list[dict[str, np.ndarray]]:
    """Return ``x`` of shape [N, 4, H, W] at every size."""
    rng = np.random.default_rng(5)
    return [{"x": rng.normal(size=(n, 4, h, w)).astype(np.float32)} for n, h, w in SIZES]


HEAD = "g (float[N, 4, H, W] x) => (float[A, B, C, D] y)"
WEIGHT = """
    shape = Constant <value_ints=[4, 2, 3, 3]> ()
    eye = ConstantOfShape <value=float[1] {0.25}> (shape)
    w = Identity (eye)"""

GRAPHS = {
    "conv": f"{WEIGHT} y = Conv <group=2, pads=[1, 0, 1, 2], strides=[1, 2]> (x, w)",
    "conv same": f'{WEIGHT} y = Conv <group=2, auto_pad="SAME_UPPER"> (x, w)',
    "conv same, stride": f'{WEIGHT} y = Conv <group=2, auto_pad="SAME_LOWER", strides=[2,2]>(x, w)',
    "conv transpose": f"{WEIGHT} y = ConvTranspose <group=2, strides=[2,2], pads=[1,1,0,0]> (x, w)",
    "max pool": "y = MaxPool <kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]> (x)",
    "max pool ceil": "y = MaxPool <kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1> (x)",
    "average pool": """
        y = AveragePool <kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
            ceil_mode=1> (x)""",
    "global pool": "y = GlobalAveragePool (x)",
    "softmax": "y = Softmax <axis=2> (x)",
    "log softmax": "y = LogSoftmax <axis=3> (x)",
    "group norm": """
        s = Constant <value_floats=[0.1, 0.2, 0.3, 0.4]> ()
        y = GroupNormalization <num_groups=2> (x, s, s)""",
    "instance norm": """
        s = Constant <value_floats=[0.1, 0.2, 0.3, 0.4]> ()
        y = InstanceNormalization (x, s, s)""",
    "lrn": "y = LRN <size=3, alpha=0.5> (x)",
    "matmul with itself": "t = Transpose <perm=[0, 1, 3, 2]> (x) y = MatMul (x, t)",
    "einsum": 'y = Einsum <equation="nchw,ndhw->ncdh"> (x, x)',
    "einsum of kept axes": 'y = Einsum <equation="nchw,nchv->nhwv"> (x, x)',
    "nearest resize": """
        f = Constant <value_floats=[1.0, 1.0, 2.0, 3.0]> ()
        y = Resize <mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric"> (x, , f)""",
    "linear resize": """
        f = Constant <value_floats=[1.0, 1.0, 2.0, 2.0]> ()
        y = Resize <mode="linear"> (x, , f)""",
    "linear resize of corners": """
        f = Constant <value_floats=[1.0, 1.0, 3.0, 2.0]> ()
        y = Resize <mode="linear", coordinate_transformation_mode="align_corners"> (x, , f)""",
}


def test_open_sizes_give_what_the_runtime_gives() -> None:
    texts = {name: f"{HEAD} {{ {body} }}" for name, body in GRAPHS.items()}
    assert differences(texts, samples()) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = MaxPool <kernel_shape=[2, 2], dilations=[2, 2]> (x)", "dilation or indices"),
        (
            "y = AveragePool <kernel_shape=[3, 3], ceil_mode=1, count_include_pad=1> (x)",
            "this form of ceil_mode",
        ),
        (
            """f = Constant <value_floats=[1.0, 1.0, 1.5, 2.0]> ()
            y = Resize <mode="linear"> (x, , f)""",
            "what is no whole factor",
        ),
        (
            """f = Constant <value_floats=[1.0, 1.0, 2.0, 2.0]> ()
            y = Resize <mode="cubic"> (x, , f)""",
            "this form of cubic resizing",
        ),
        ("y = Hardmax (x)", "an open size along its axis"),
    ],
)
def test_what_needs_sizes_says_so(body: str, reason: str) -> None:
    with pytest.raises(BuildError) as raised:
        differences({"one": f"{HEAD} {{ {body} }}"}, [])
    (said,) = raised.value.diagnostics
    assert said.code == "E340"
    assert reason in said.message
    assert said.hint == "bind the model's dims"
