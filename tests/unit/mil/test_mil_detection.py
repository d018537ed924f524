"""Non-maximum suppression of the MIL interpreter."""

import numpy as np
import pytest

from edgedeploy.mil.ops.detection import non_maximum_suppression
from tests.unit.mil.reference import by_runtime


def case(boxes=30, classes=1, seed=0):
    random = np.random.default_rng(seed)
    places = random.uniform(0, 10, (2, boxes, 4)).astype(np.float32)
    return places, random.normal(size=(2, boxes, classes)).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
def test_it_is_the_runtimes(threshold):
    boxes, scores = case()
    wanted = by_runtime(
        "NonMaxSuppression",
        [
            boxes,
            scores.swapaxes(1, 2),
            np.array(30, np.int64),
            np.array(threshold, np.float32),
            np.array(-0.5, np.float32),
        ],
        center_point_box=1,
    )[0]
    found = non_maximum_suppression(boxes, scores, np.float32(threshold), 30, np.float32(-0.5))
    for item in range(2):
        ours = found[2][item][: found[3][item]]
        np.testing.assert_array_equal(ours, wanted[wanted[:, 0] == item, 2])
        np.testing.assert_array_equal(found[0][item][: len(ours)], boxes[item][ours])
        np.testing.assert_array_equal(found[1][item][: len(ours)], scores[item][ours])
        assert (found[2][item][len(ours) :] == -1).all()
        assert not found[0][item][len(ours) :].any()


def test_from_ios_17_on_boxes_lie_in_the_last_axis_and_no_threshold_counts():
    boxes, scores = case(classes=3)
    old = non_maximum_suppression(boxes, scores, np.float32(0.3), 9, np.float32(-np.inf))
    new = non_maximum_suppression(
        boxes.swapaxes(1, 2), scores.swapaxes(1, 2), np.float32(0.3), np.int32(9)
    )
    assert [item.shape for item in new] == [(2, 4, 9), (2, 3, 9), (2, 9)]
    np.testing.assert_array_equal(new[0], old[0].swapaxes(1, 2))
    np.testing.assert_array_equal(new[2], old[2])


def test_only_boxes_of_a_class_reject_each_other_where_it_says_so():
    boxes = np.float32([[[5, 5, 2, 2], [5, 5, 2, 2], [5, 5, 2, 2.1]]])
    scores = np.float32([[[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]])
    together = non_maximum_suppression(boxes, scores, 0.5, 3, 0.0)
    np.testing.assert_array_equal(together[2], [[0, -1, -1]])
    apart = non_maximum_suppression(boxes, scores, 0.5, 3, 0.0, np.bool_(True))
    np.testing.assert_array_equal(apart[2], [[0, 1, -1]])
    np.testing.assert_array_equal(apart[3], [2])


def test_the_best_box_is_returned_where_none_reaches_the_threshold():
    boxes, scores = case()
    found = non_maximum_suppression(boxes, scores, 0.5, 4, 1e6)
    np.testing.assert_array_equal(found[2][:, 0], scores[:, :, 0].argmax(1))
    np.testing.assert_array_equal(found[3], [1, 1])


def test_boxes_without_area_overlap_nothing():
    boxes = np.zeros((1, 3, 4), np.float32)
    found = non_maximum_suppression(boxes, np.float32([[[1], [2], [3]]]), 0.0, 3, 0.0)
    np.testing.assert_array_equal(found[2], [[2, 1, 0]])
