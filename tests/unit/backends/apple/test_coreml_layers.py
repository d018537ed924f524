"""What is tricky about single layers: edges of their definitions, and which operation they become.

Each test packs its forms into one package and compares with ONNX Runtime.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.coreml.sweeps import Form, compare, expected, model_of

pytestmark = pytest.mark.slow


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def form(op: str, *inputs: np.ndarray | None, fixed=(), outputs: int = 1, **attributes) -> Form:
    return Form(
        op=op,
        inputs=inputs,
        constants=frozenset(fixed),
        attributes=attributes,
        outputs=outputs,
    )


def test_activations_at_their_edges() -> None:
    edges = np.array([-1, -0.5, -0.0, 0.0, 0.5, 1, 2, 40, -90], np.float32)
    integers = np.array([-3, 0, 3])
    low, high = np.float32(0.5), np.float32(-0.5)
    found = compare(
        [
            form("ThresholdedRelu", edges, alpha=0.5),
            form("Shrink", edges, lambd=0.5, bias=0.25),
            form("Clip", edges, np.array(low), np.array(high), fixed={1, 2}),
            form("Clip", edges, np.array(high), np.array(low)),
            form("Clip", edges, None, np.array(low), fixed={2}),
            form("Clip", integers, np.array(-(2**40)), np.array(2), fixed={1, 2}),
            form("Relu", integers.astype(np.int32)),
            form("LogSoftmax", edges * 100),
            form("Hardmax", np.array([[1, 3, 3, 2], [5, 5, 5, 5]], np.float32)),
            form("LpNormalization", np.zeros((2, 3), np.float32)),
            form("Dropout", edges, outputs=2),
            form("Softplus", edges * 10),
        ]
    )
    assert found.wrong == found.refused == []


@pytest.mark.parametrize("ios", [16, 17])
def test_slopes_of_every_shape(ios: int) -> None:
    image, rows = values(2, 3, 4, 5), values(2, 3, 4)
    native = compare([form("PRelu", image, values(3, 1, 1), fixed={1})], ios=ios)
    others = compare(
        [
            form("PRelu", image, values(3, 1, 1)),
            form("PRelu", image, values(5), fixed={1}),
            form("PRelu", image, values(1), fixed={1}),
            # MIL's prelu takes rank 3 only where all slopes are equal
            form("PRelu", rows, values(3, 1), fixed={1}),
        ],
        ios=ios,
    )
    assert native.wrong == others.wrong == native.refused == others.refused == []
    assert "prelu" in native.kinds
    assert "prelu" not in others.kinds


@pytest.mark.parametrize("ios", [16, 17])
def test_convolutions_with_what_is_computed(ios: int) -> None:
    x, weight = values(1, 4, 8, 8), values(6, 2, 3, 3)
    forms = [
        form("Conv", x, weight, values(6), group=2, strides=[2, 1]),
        form("Conv", x, weight, values(6), fixed={1}, group=2),
    ]
    dilated = form("Conv", x, weight, group=2, dilations=[2, 2])
    across = form("ConvTranspose", x, values(4, 3, 3, 3), values(3), strides=[2, 2])
    found = compare([*forms, dilated, across], ios=ios)
    assert found.wrong == []
    refused = {told.partition("[")[0]: told for told in found.refused}
    assert "dilation with weights" in refused["Conv"]
    assert ("ConvTranspose" in refused) == (ios == 16)


def test_output_padding_beyond_the_windows_holds_the_bias() -> None:
    x, weight, bias = values(1, 2, 3, 3), values(2, 3, 2, 2), values(3)
    found = compare(
        [
            form("ConvTranspose", x, weight, bias, fixed={1, 2}, strides=[3, 3], output_padding=pad)
            for pad in ([2, 1], [1, 0])
        ]
    )
    assert found.wrong == found.refused == []
    assert "pad" in found.kinds


@pytest.mark.parametrize("ios", [16, 17, 18])
def test_integer_weights_stay_in_the_package(ios: int) -> None:
    rng = np.random.default_rng(1)
    layers = {
        "conv": ("Conv", (8, 2, 3, 3), 0, (1, 4, 9, 9), {"group": 2, "dilations": [2, 2]}),
        "conv_transpose": ("ConvTranspose", (4, 3, 3, 3), 1, (1, 4, 5, 5), {"strides": [2, 2]}),
        "linear": ("Gemm", (6, 5), 0, (2, 5), {"transB": 1}),
    }
    forms = []
    for op, shape, _, sizes, attributes in layers.values():
        forms.append(form(op, values(*sizes), values(*shape), **attributes))
    model, feeds = model_of(forms, 21)
    for number, (_, shape, axis, _, _) in enumerate(layers.values()):
        name = f"i{number}_1"
        del feeds[name]
        kept = [item for item in model.graph.input if item.name != name]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        scale = rng.uniform(0.01, 0.02, shape[axis]).astype(np.float32)
        integers = rng.integers(-127, 128, shape).astype(np.int8)
        for array, told in ((integers, "q"), (scale, "s"), (np.zeros_like(scale, np.int8), "z")):
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, f"{told}{number}"))
        given = [f"{told}{number}" for told in "qsz"]
        model.graph.node.insert(
            0, onnx.helper.make_node("DequantizeLinear", given, [name], axis=axis)
        )
    from tests.coreml.harness import Converted

    converted = Converted(model, ios=ios)
    made, wanted = converted.run(feeds), expected(model, feeds)
    for name, value in wanted.items():
        np.testing.assert_allclose(made[name], value, rtol=1e-4, atol=1e-4)
    constexpr = "constexpr_blockwise_shift_scale" if ios == 18 else "constexpr_affine_dequantize"
    assert {*layers, constexpr} <= converted.kinds()
    assert "dequantize" not in converted.kinds()


def test_pools_of_bytes_places_and_norms() -> None:
    image = np.random.default_rng(2).integers(0, 256, (1, 2, 5, 5)).astype(np.uint8)
    ties = np.zeros((1, 2, 4, 4), np.float32)
    found = compare(
        [
            form("MaxPool", image, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            form("MaxPool", ties, kernel_shape=[2, 2], outputs=2),
            form("MaxPool", values(2, 2, 5, 6), kernel_shape=[2, 3], storage_order=1, outputs=2),
            form("GlobalLpPool", values(1, 2, 3, 4), p=3),
            form("LpPool", values(1, 2, 6), kernel_shape=[3], p=2),
        ],
        # ONNX Runtime has GlobalLpPool of older opsets alone
        opset=21,
    )
    assert found.wrong == found.refused == []


@pytest.mark.parametrize(
    ("attributes", "scales", "kind"),
    [
        (
            {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            [2, 3],
            "upsample_nearest_neighbor",
        ),
        ({"mode": "linear"}, [2, 1.5], "resize_bilinear"),
        (
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            [2, 2],
            "resize_bilinear",
        ),
        ({"nearest_mode": "ceil"}, [2, 3], "gather"),
        ({"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, [2, 2], "matmul"),
        ({"mode": "cubic"}, [2, 2], "matmul"),
    ],
)
def test_resize_becomes_the_operation_that_does_the_same(attributes, scales, kind) -> None:
    factors = np.array([1, 1, *scales], np.float32)
    found = compare([form("Resize", values(1, 2, 4, 6), None, factors, fixed={2}, **attributes)])
    assert found.wrong == found.refused == []
    assert kind in found.kinds


def test_norms_with_other_than_constants() -> None:
    x = values(2, 4, 3, 5)
    four = [values(4, seed=place) for place in range(3)]
    found = compare(
        [
            form("BatchNormalization", x, *four, np.abs(four[2])),
            form("BatchNormalization", values(3, 4), *four, np.abs(four[2]), fixed={1, 2, 3, 4}),
            form("InstanceNormalization", values(2, 4, 3, 2, 5), *four[:2], fixed={1, 2}),
            form("LayerNormalization", x, values(1, 5), fixed={1}, axis=-2),
            form("LayerNormalization", x, values(5), values(5), axis=3, outputs=3),
            form("GroupNormalization", x, *four[:2], num_groups=2),
        ]
    )
    assert found.wrong == found.refused == []


def test_einsum_sums_that_need_more() -> None:
    square, stack = values(3, 3), values(2, 3, 3)
    found = compare(
        [
            form("Einsum", square, equation="ii"),
            form("Einsum", stack, equation="...ii->...i"),
            form("Einsum", values(2, 3, 4), values(2, 4, 5), equation="bij , bjk -> bik"),
            form("Einsum", values(2, 2, 2, 2, 3), values(2, 2, 2, 2, 3), equation="abcdi,abcdi"),
            form(
                "Einsum", values(2, 2, 1, 2, 3), values(2, 2, 1, 2, 3), equation="abcdi,abcdj->ija"
            ),
            form("Einsum", values(2), values(3), values(4), equation="a,b,c->cab"),
            form("Einsum", values(1, 3), values(2, 3), equation="...i,...i->..."),
        ]
    )
    assert found.wrong == found.refused == []


REFUSED = [
    (form("LRN", values(1, 4, 3, 3), size=2), "a window of 2 channels"),
    (form("Celu", values(3), alpha=-1.0), "alpha -1"),
    (form("Conv", values(1, 1, 2, 2), values(1, 1, 3, 3), fixed={1}), "larger than the padded"),
    (
        form("Dropout", values(3), np.float32(0.5), np.bool_(True), fixed={1, 2}),
        "training_mode",
    ),
    (
        form(
            "Resize", values(1, 1, 3, 3), None, np.array([1, 1, 1.5, 1.5], np.float32), fixed={2},
            mode="linear", coordinate_transformation_mode="align_corners",
        ),
        "no whole sizes",
    ),
]  # fmt: skip


def test_what_is_not_expressed_says_why() -> None:
    import onnx_ir as ir

    from edgedeploy.backends.apple.translate import translate
    from edgedeploy.errors import BuildError

    for one, reason in REFUSED:
        model, _ = model_of([one], 22)
        with pytest.raises(BuildError) as raised:
            translate(ir.serde.deserialize_model(model), ios=17)
        assert [item.code for item in raised.value.diagnostics] == ["E340"]
        assert reason in raised.value.diagnostics[0].message
        assert raised.value.diagnostics[0].hint
