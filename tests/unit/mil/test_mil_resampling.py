"""Resizing and resampling of the MIL interpreter against ONNX Runtime and documented values."""

import numpy as np
import pytest

from edgedeploy.mil.ops.resampling import (
    affine,
    crop,
    crop_resize,
    resample,
    resize,
    resize_bilinear,
    resize_nearest_neighbor,
    upsample_bilinear,
    upsample_nearest_neighbor,
)
from edgedeploy.mil.sampling import grid
from tests.unit.mil.reference import by_runtime, floats

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SQUARE = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)


def resized_by_runtime(x, sizes, **attributes):
    return by_runtime(
        "Resize", [x, None, None, np.array([*x.shape[:2], *sizes], np.int64)], **attributes
    )[0]


@pytest.mark.parametrize(
    ("mode", "count", "wanted"),
    [
        ("UNALIGN_CORNERS", 5, [0, 0.1, 0.5, 0.9, 1]),
        ("STRICT_ALIGN_CORNERS", 5, [0, 0.25, 0.5, 0.75, 1]),
        ("ALIGN_CORNERS", 5, [0, 0.25, 0.5, 0.75, 1]),
        ("DEFAULT", 5, [0, 0.4, 0.8, 1, 1]),
        ("OFFSET_CORNERS", 5, [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("UNALIGN_CORNERS", 6, [0, 0, 1 / 3, 2 / 3, 1, 1]),
        ("DEFAULT", 6, [0, 1 / 3, 2 / 3, 1, 1, 1]),
        ("OFFSET_CORNERS", 6, [1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12]),
        ("STRICT_ALIGN_CORNERS", 1, [0]),
        ("ALIGN_CORNERS", 1, [0.5]),
    ],
)
def test_grids_are_the_documented_ones(mode, count, wanted):
    np.testing.assert_allclose(grid(2, count, mode), wanted, atol=1e-12)


@pytest.mark.parametrize("sizes", [(7, 11), (3, 4), (10, 12)])
@pytest.mark.parametrize(
    ("mode", "theirs"),
    [
        ("UNALIGN_CORNERS", "half_pixel"),
        ("STRICT_ALIGN_CORNERS", "align_corners"),
        ("DEFAULT", "asymmetric"),
    ],
)
def test_resize_bilinear_is_the_runtimes(mode, theirs, sizes):
    x = floats(2, 3, 5, 6)
    wanted = resized_by_runtime(x, sizes, mode="linear", coordinate_transformation_mode=theirs)
    np.testing.assert_allclose(resize_bilinear(x, *sizes, mode), wanted, **CLOSE)
    shape, number = np.array([9, *sizes]), np.uint32(2)
    np.testing.assert_array_equal(
        resize(x, shape, number, sampling_mode=mode), resize_bilinear(x, *sizes, mode)
    )


@pytest.mark.parametrize(
    ("flags", "theirs"),
    [
        ({"align_corners": True}, "align_corners"),
        ({"align_corners": False}, "half_pixel"),
        ({"align_corners": False, "half_pixel_centers": np.bool_(False)}, "asymmetric"),
    ],
)
@pytest.mark.parametrize("scales", [(3, 2), (np.float32(1.5), np.float32(2.3)), (0.5, 0.75)])
def test_upsample_bilinear_is_the_runtimes(flags, theirs, scales):
    x = floats(2, 3, 5, 6)
    found = upsample_bilinear(x, *scales, **flags)
    assert found.shape[2:] == (int(5 * scales[0]), int(6 * scales[1]))
    wanted = resized_by_runtime(
        x, found.shape[2:], mode="linear", coordinate_transformation_mode=theirs
    )
    np.testing.assert_allclose(found, wanted, **CLOSE)


def test_corners_and_pixel_centres_exclude_each_other():
    with pytest.raises(ValueError, match="corners"):
        upsample_bilinear(SQUARE, 2, 2, True, True)


@pytest.mark.parametrize("scales", [(2, 3), (1.4, 0.5), (0.67, 1.12)])
def test_upsample_nearest_is_the_runtimes(scales):
    x = floats(2, 3, 5, 6)
    found = upsample_nearest_neighbor(x, *map(np.float32, scales))
    wanted = resized_by_runtime(
        x,
        found.shape[2:],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    np.testing.assert_array_equal(found, wanted)


def test_resize_nearest_repeats_pixels_and_does_nothing_else():
    x = floats(2, 3, 5, 6)
    found = resize_nearest_neighbor(x, np.int32(10), np.int32(18))
    wanted = resized_by_runtime(x, (10, 18), mode="nearest")
    np.testing.assert_array_equal(found, wanted)
    for sizes in ((7, 6), (5, 3)):
        with pytest.raises(ValueError, match="no multiple"):
            resize_nearest_neighbor(x, *sizes)


def test_resize_to_nearest_takes_the_nearest_or_raises():
    x = np.float32([[[-6], [9]]])
    found = resize(x, np.array([3, 2]), np.uint32(2), "NEAREST_NEIGHBOR")
    # Points 0, 2/3 and 1: the values of Apple's own test.
    np.testing.assert_array_equal(found, [[[-6, -6], [9, 9], [9, 9]]])
    with pytest.raises(ValueError, match="middle"):
        resize(x, np.array([4, 1]), np.uint32(2), "NEAREST_NEIGHBOR")
    with pytest.raises(ValueError, match="CUBIC"):
        resize(x, np.array([4, 1]), np.uint32(2), "CUBIC")
    with pytest.raises(ValueError, match="rounded"):
        resize(x.astype(np.int32), np.array([4, 1]), np.uint32(2))


def test_resize_keeps_a_size_of_zero():
    x = floats(2, 3, 5)
    found = resize(x, np.array([0, 0, 10]), np.uint32(3))
    np.testing.assert_array_equal(found, resize(x, np.array([10]), np.uint32(1)))
    assert found.shape == (2, 3, 10)


def test_crop_cuts_both_ends():
    np.testing.assert_array_equal(crop(SQUARE, [0, 1], [1, 1]), SQUARE[:, :, :3, 1:3])


@pytest.mark.parametrize(
    ("box", "size", "normalized", "wanted"),
    [
        ([1, 1, 2, 2], 2, False, [6, 7, 10, 11]),
        ([1, 1, 2, 2], 1, False, [8.5]),
        ([0, 0, 1 / 3, 1 / 3], 2, True, [1, 2, 5, 6]),
        ([2, 2, 1, 1], 2, False, [11, 10, 7, 6]),
        ([0.1, 0.3, 1.3, 1.0], 2, True, [3.1, 5.2, 10, 10]),
        ([0.5, 1.8, 1.0, 0.3], 2, True, [10, 7.9, 10, 13.9]),
    ],
)
def test_crop_resize_has_the_values_of_apples_tests(box, size, normalized, wanted):
    attributes = {
        "target_height": size,
        "target_width": size,
        "normalized_coordinates": normalized,
        "sampling_mode": "ALIGN_CORNERS",
        "pad_value": np.float32(10),
    }
    boxes = np.float32([box])
    found = crop_resize(SQUARE, boxes=boxes, **attributes)
    np.testing.assert_allclose(found.ravel(), wanted, rtol=1e-5)
    assert found.shape == (1, 1, size, size)
    older = crop_resize(SQUARE, roi=boxes.reshape(1, 1, 4, 1, 1), **attributes)
    np.testing.assert_array_equal(older, found[:, None])


def test_each_box_takes_its_image():
    x = floats(3, 2, 5, 6)
    boxes = np.float32([[0, 0, 2, 2], [1, 1, 3, 3]])
    sizes = {"target_height": 3, "target_width": 3, "sampling_mode": "ALIGN_CORNERS"}
    found = crop_resize(x, boxes=boxes, box_indices=np.array([2, 0]), **sizes)
    np.testing.assert_allclose(found, [x[2, :, :3, :3], x[0, :, 1:4, 1:4]], **CLOSE)
    rois = np.concatenate([np.float32([[2], [0]]), boxes], axis=1).reshape(2, 1, 5, 1, 1)
    np.testing.assert_array_equal(crop_resize(x, roi=rois, **sizes), found[:, None])
    every = crop_resize(x, roi=boxes.reshape(2, 1, 4, 1, 1), **sizes)
    np.testing.assert_allclose(every[0], x[:, :, :3, :3], **CLOSE)
    with pytest.raises(IndexError):
        crop_resize(x, boxes=boxes, box_indices=np.array([3, 0]), **sizes)


@pytest.mark.parametrize(
    ("mode", "box"),
    [
        ("CORNERS_HEIGHT_FIRST", [1, 0, 3, 2]),
        ("CORNERS_WIDTH_FIRST", [0, 1, 2, 3]),
        ("CENTER_SIZE_HEIGHT_FIRST", [2, 1, 2, 2]),
        ("CENTER_SIZE_WIDTH_FIRST", [1, 2, 2, 2]),
    ],
)
def test_boxes_of_every_form(mode, box):
    found = crop_resize(
        SQUARE,
        boxes=np.float32([box]) * 2,
        target_height=3,
        target_width=3,
        spatial_scale=np.float32(0.5),
        box_coordinate_mode=mode,
        sampling_mode="STRICT_ALIGN_CORNERS",
    )
    np.testing.assert_allclose(found, SQUARE[:, :, 1:4, :3], **CLOSE)


def test_regions_are_aligned_as_in_detection():
    x = floats(1, 2, 9, 9)
    box = np.float32([[1, 2, 6, 7]])
    # One sample per bin: RoiAlign without an offset.
    (wanted,) = by_runtime(
        "RoiAlign",
        [x, box, np.array([0])],
        output_height=5,
        output_width=5,
        sampling_ratio=1,
        coordinate_transformation_mode="output_half_pixel",
    )
    found = crop_resize(
        x,
        boxes=box,
        target_height=5,
        target_width=5,
        box_coordinate_mode="CORNERS_WIDTH_FIRST",
        sampling_mode="OFFSET_CORNERS",
    )
    np.testing.assert_allclose(found, wanted, **CLOSE)


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("padding", ["constant", "border", "mirror"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_resample_is_the_runtimes(mode, padding, corners):
    x = floats(2, 3, 5, 6)
    points = np.random.default_rng(1).uniform(-1.9, 1.9, (2, 7, 8, 2)).astype(np.float32)
    theirs = {"constant": "zeros", "border": "border", "mirror": "reflection"}[padding]
    (wanted,) = by_runtime(
        "GridSample",
        [x, points],
        mode={"bilinear": "linear"}.get(mode, mode),
        padding_mode=theirs,
        align_corners=int(corners),
    )
    ours = ("reflection" if corners else "symmetric") if padding == "mirror" else padding
    found = resample(x, points, mode, ours, 0.0, "normalized_minus_one_to_one", corners)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("mode", "padding", "value", "coordinates", "corners", "wanted"),
    [
        (
            "bilinear",
            "constant",
            6.17,
            "normalized_minus_one_to_one",
            True,
            [8.585, 6.17, 27.5, 6.17],
        ),
        ("nearest", "border", -1, "unnormalized", False, [11, 11, 11, 44]),
        ("bilinear", "reflection", -1, "normalized_zero_to_one", True, [22, 36.3, 11, 34.1]),
        ("nearest", "symmetric", -1, "normalized_zero_to_one", False, [22, 33, 11, 33]),
    ],
)
def test_resample_has_the_values_of_apples_tests(
    mode, padding, value, coordinates, corners, wanted
):
    x = np.float32([11, 22, 33, 44]).reshape(1, 1, 2, 2)
    points = np.float32([-1, -2, -3.7, -1, 0, 0, 3.5, 1.2]).reshape(1, 2, 2, 2)
    found = resample(x, points, mode, padding, np.float32(value), coordinates, corners)
    np.testing.assert_allclose(found.ravel(), wanted, rtol=1e-5)


def test_affine_has_the_values_of_apples_tests():
    x = np.float32([11, 22, 33, 44]).reshape(1, 1, 2, 2)
    matrix = np.float32([[-1.0, -2.0, -3.7, -1.0, 3.5, 1.2]])
    rest = ("bilinear", "constant", 0.0, "normalized_minus_one_to_one", True)
    found = affine(x, matrix, 3, 3, *rest)
    wanted = [10.752501, 2.5025, 0, 1.98, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(found.ravel(), wanted, rtol=1e-4, atol=1e-5)
    found = affine(x, matrix, 2, 5, *rest)
    wanted = [10.752501, 5.94, 2.5025, 0.44, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(found.ravel(), wanted, rtol=1e-4, atol=1e-5)


def test_what_is_unknown_raises():
    points, unit = np.zeros((1, 1, 1, 2), np.float32), "normalized_minus_one_to_one"
    for mode, padding, coordinates in (
        ("bicubic", "constant", unit),
        ("nearest", "wrap", unit),
        ("nearest", "border", "degrees"),
    ):
        with pytest.raises(ValueError, match="unknown"):
            resample(SQUARE, points, mode, padding, 0.0, coordinates, True)
    with pytest.raises(ValueError, match="unknown"):
        grid(2, 2, "SIDEWAYS")
    with pytest.raises(ValueError, match="no DEFAULT points"):
        crop_resize(SQUARE, boxes=np.float32([[2, 2, 1, 1]]))
    with pytest.raises(ValueError, match="documented"):
        affine(SQUARE, np.zeros((1, 6)), 2, 2, "bilinear", "constant", 0, unit, False)
