"""Resizing as matrices: laws, and values that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.backends.apple.interpolation import (
    COORDINATES,
    Axis,
    Method,
    coordinates,
    nearest,
    outside,
    weights,
)

axes = st.builds(
    lambda size, made: Axis(size=size, made=made, scale=made / size),
    st.integers(1, 9),
    st.integers(1, 20),
)
methods = st.builds(
    Method,
    mode=st.sampled_from(["linear", "cubic"]),
    coordinates=st.sampled_from(COORDINATES),
    cubic_a=st.sampled_from([-0.75, -0.5]),
    exclude_outside=st.booleans(),
    antialias=st.booleans(),
)


@given(axes, methods)
@settings(max_examples=80)
def test_constant_stays_constant(axis: Axis, method: Method) -> None:
    np.testing.assert_allclose(weights(axis, method).sum(axis=1), 1, rtol=1e-12)


@given(axes, methods)
@settings(max_examples=60)
def test_same_size_changes_nothing(axis: Axis, method: Method) -> None:
    same = Axis(size=axis.size, made=axis.size, scale=1.0)
    np.testing.assert_allclose(weights(same, method), np.eye(axis.size), atol=1e-6)


@given(axes)
@settings(max_examples=60)
def test_half_pixel_is_symmetric(axis: Axis) -> None:
    matrix = weights(axis, Method(mode="cubic", coordinates="half_pixel"))
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-5)


@given(axes, st.sampled_from(COORDINATES))
@settings(max_examples=60)
def test_linear_resizing_keeps_a_ramp_inside(axis: Axis, mode: str) -> None:
    matrix = weights(axis, Method(mode="linear", coordinates=mode))
    wanted = np.clip(coordinates(axis, mode), 0, axis.size - 1)
    np.testing.assert_allclose(matrix @ np.arange(axis.size), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("rounding", "wanted"),
    [
        ("floor", [0, 0, 1, 1, 2]),
        ("ceil", [0, 1, 1, 2, 2]),
        ("round_prefer_floor", [0, 0, 1, 1, 2]),
        ("round_prefer_ceil", [0, 1, 1, 2, 2]),
    ],
)
def test_halves_are_rounded_as_told(rounding: str, wanted: list[int]) -> None:
    # 0, 1/2, 1, 3/2, 2
    axis = Axis(size=3, made=5, scale=5 / 3)
    method = Method(mode="nearest", coordinates="align_corners", rounding=rounding)
    assert nearest(axis, method).tolist() == wanted


def test_nearest_places_are_inside() -> None:
    # -1/4, 1/4, 3/4, 5/4: what lies before the first is the first
    axis = Axis(size=2, made=4, scale=2.0)
    method = Method(mode="nearest", coordinates="half_pixel", rounding="floor")
    assert nearest(axis, method).tolist() == [0, 0, 0, 1]


def test_crop_tells_what_is_outside() -> None:
    # from -1 to 4 of the places 0 to 3
    axis = Axis(size=4, made=6, scale=1.5, crop=(-1 / 3, 4 / 3))
    method = Method(mode="linear", coordinates="tf_crop_and_resize")
    assert coordinates(axis, method.coordinates).round(5).tolist() == [-1, 0, 1, 2, 3, 4]
    assert outside(axis, method).tolist() == [True, False, False, False, False, True]
    assert not outside(axis, Method(mode="linear", coordinates="half_pixel")).any()


def test_one_element_of_a_crop_is_its_middle() -> None:
    axis = Axis(size=5, made=1, scale=0.2, crop=(0.25, 0.75))
    assert coordinates(axis, "tf_crop_and_resize").tolist() == [2]
    assert coordinates(axis, "align_corners").tolist() == [0]
    assert coordinates(axis, "pytorch_half_pixel").tolist() == [0]


def test_symmetric_places_share_what_rounding_cut_off() -> None:
    # 5 * 0.5 = 2.5 became 2: places 0.75 and 2.75 of half_pixel, moved to be symmetric about 2
    axis = Axis(size=5, made=2, scale=0.5)
    assert coordinates(axis, "half_pixel").tolist() == [0.5, 2.5]
    assert coordinates(axis, "half_pixel_symmetric").tolist() == [1.0, 3.0]


def test_antialias_averages_when_shrinking() -> None:
    axis = Axis(size=4, made=2, scale=0.5)
    plain = Method(mode="linear", coordinates="half_pixel")
    wide = Method(mode="linear", coordinates="half_pixel", antialias=True, exclude_outside=True)
    assert weights(axis, plain).tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]
    # a triangle of width 2 around 1/2: 3/4, 3/4, 1/4 of what is inside
    np.testing.assert_allclose(weights(axis, wide)[0] * 7, [3, 3, 1, 0], atol=1e-6)
