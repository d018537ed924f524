"""Resizing against exact fractions, ONNX Runtime and Pillow, and the golden vectors of apps."""

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.data.pixels import axis_weights, resize
from edgedeploy.data.preprocess import fit_image, normalise, plan_fit
from edgedeploy.errors import DataError
from edgedeploy.profile.types import ImagePreprocess

VECTORS = Path(__file__).with_name("resize_vectors.json")
SIZES = st.integers(1, 9)


def image(height, width, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def exact(line, m, mode):
    """One axis by the documented definition, in fractions."""
    n = len(line)
    at = lambda position: Fraction(int(line[min(max(position, 0), n - 1)]))  # noqa: E731
    out = []
    for i in range(m):
        centre = Fraction(2 * i + 1, 2) * Fraction(n, m) - Fraction(1, 2)
        left = math.floor(centre)
        if mode == "nearest":
            out.append(at(math.floor(Fraction(2 * i + 1, 2) * Fraction(n, m))))
        elif mode == "bilinear":
            part = centre - left
            out.append(at(left) * (1 - part) + at(left + 1) * part)
        else:
            low, high = Fraction(i * n, m), Fraction((i + 1) * n, m)
            total = Fraction(0)
            for j in range(n):
                total += max(min(high, j + 1) - max(low, j), 0) * at(j)
            out.append(total / (high - low))
    return out


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, SIZES, SIZES, st.sampled_from(["nearest", "bilinear", "area"]))
def test_equals_the_definition_in_fractions(h, w, new_h, new_w, mode):
    source = image(h, w, seed=h * 31 + w)
    rows = np.array([exact(source[:, x, 0], new_h, mode) for x in range(w)], dtype=object).T
    both = []
    for row in rows:  # a second axis over fractions: scale up to whole numbers first
        unit = math.lcm(*(value.denominator for value in row))
        both.append([value / unit for value in exact([v * unit for v in row], new_w, mode)])
    expected = [[math.floor(value + Fraction(1, 2)) for value in row] for row in both]
    assert resize(source, new_h, new_w, mode)[..., 0].tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400))
def test_weights_sum_to_one_and_stay_inside(n, m):
    for mode in ("nearest", "bilinear", "bicubic", "area"):
        weights = axis_weights(n, m, mode)
        assert (weights.weight.sum(axis=1) == weights.denominator).all()
        assert weights.index.min() >= 0
        assert weights.index.max() < n


@pytest.mark.parametrize(("mode", "onnx_mode"), [("bilinear", "linear"), ("bicubic", "cubic")])
@pytest.mark.parametrize("size", [(7, 5), (40, 64), (13, 90)])
def test_agrees_with_onnx_runtime(mode, onnx_mode, size):
    import onnxruntime
    from onnx import TensorProto, helper

    source = image(24, 31, seed=3)
    node = helper.make_node(
        "Resize",
        ["x", "", "", "sizes"],
        ["y"],
        mode=onnx_mode,
        coordinate_transformation_mode="half_pixel",
        cubic_coeff_a=-0.75,
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 24, 31])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, *size])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (theirs,) = session.run(None, {"x": source[None, None, :, :, 0].astype(np.float32)})
    ours = resize(source, *size, mode)[..., 0].astype(np.float64)
    # Rounded to 8 bits once; theirs is float32; bicubic weights are rounded to 2**-14.
    assert np.abs(ours - np.clip(theirs[0, 0], 0, 255)).max() <= (
        0.6 if mode == "bicubic" else 0.501
    )


def test_area_by_whole_factors_is_the_block_mean():
    source = image(12, 20, 3, seed=5)
    blocks = source.reshape(3, 4, 5, 4, 3).mean(axis=(1, 3))
    assert (resize(source, 3, 5, "area") == np.floor(blocks + 0.5)).all()


def test_a_constant_image_stays_constant():
    for mode in ("nearest", "bilinear", "bicubic", "area"):
        assert (resize(np.full((5, 9, 1), 77, np.uint8), 13, 4, mode) == 77).all()


def preprocess(case):
    spec = ImagePreprocess(
        **{key: tuple(v) if isinstance(v, list) else v for key, v in case["preprocess"].items()}
    )
    fitted, geometry = fit_image(np.array(case["image"], np.uint8), spec)
    return normalise(fitted, spec), geometry


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text()), ids=lambda case: case["name"])
def test_golden_vectors(case):
    tensor, geometry = preprocess(case)
    assert list(tensor.shape) == case["shape"]
    assert geometry.to_json() == case["geometry"]
    np.testing.assert_allclose(tensor.reshape(-1), case["tensor"], rtol=0, atol=1e-6)


def spec(fit="stretch", height=40, width=60, **more):
    return ImagePreprocess(height=height, width=width, fit=fit, **more)


@pytest.mark.parametrize(
    ("fit", "size", "resized", "left", "top"),
    [
        ("stretch", (100, 100), (40, 60), 0, 0),
        ("letterbox", (100, 100), (40, 40), 10, 0),
        ("letterbox", (10, 60), (10, 60), 0, 15),
        ("pad", (100, 100), (40, 40), 0, 0),
        ("crop", (100, 100), (60, 60), 0, -10),
        ("crop", (40, 120), (40, 120), -30, 0),
        ("letterbox", (1, 10000), (1, 60), 0, 19),
    ],
)
def test_fit_places_the_image(fit, size, resized, left, top):
    geometry, new = plan_fit(*size, spec(fit))
    assert new == resized
    assert (geometry.left, geometry.top) == (left, top)
    fitted, _ = fit_image(image(*size), spec(fit))
    assert fitted.shape == (40, 60, 1)


def test_padding_has_the_declared_value():
    fitted, _ = fit_image(np.zeros((40, 20, 1), np.uint8), spec("pad", pad_value=114))
    assert (fitted[:, :20] == 0).all()
    assert (fitted[:, 20:] == 114).all()


def test_free_width_keeps_the_aspect_ratio_or_fills_a_fixed_one():
    free = spec("pad", height=48, width=None)
    assert plan_fit(24, 100, free)[1] == (48, 200)
    geometry, new = plan_fit(24, 100, free, fixed_width=320)
    assert (new, geometry.input_width) == ((48, 200), 320)
    assert plan_fit(24, 400, free, fixed_width=320)[1] == (19, 320)


def test_normalise_is_scale_then_mean_then_std_per_channel():
    source = image(2, 2, 3)
    words = spec(height=2, width=2, scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    expected = (source / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 0.125]
    np.testing.assert_allclose(normalise(source, words)[0], expected.transpose(2, 0, 1), atol=1e-6)


def test_bgr_mean_follows_the_tensor_order():
    source = image(2, 2, 3)
    tensor = normalise(source, spec(colour="bgr", mean=(1.0, 2.0, 3.0), layout="nhwc"))
    np.testing.assert_allclose(tensor[0], source[..., ::-1] - np.array([1.0, 2.0, 3.0]))


def test_baked_steps_are_left_to_the_model():
    source = image(3, 4, 3)
    words = spec(
        colour="bgr", scale=0.5, mean=(9.0,), bake=("colour", "scale", "mean", "layout", "uint8")
    )
    tensor = normalise(source, words)
    assert tensor.dtype == np.uint8
    assert (tensor[0] == source).all()


def test_wrong_number_of_means_is_refused():
    with pytest.raises(DataError, match="2 values") as caught:
        normalise(image(2, 2, 3), spec(mean=(0.5, 0.5)))
    assert caught.value.diagnostics[0].code == "E288"
