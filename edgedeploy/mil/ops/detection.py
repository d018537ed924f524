"""Choosing boxes.

Source: ``non_maximum_suppression`` of the MIL operations, iOS 15 and 17; what the documentation
leaves open follows the reference in Apple's own tests of the operation.
"""

from __future__ import annotations

import math

import numpy as np

from edgedeploy.mil.registry import Array, op


@op("non_maximum_suppression")
def non_maximum_suppression(
    boxes: Array,
    scores: Array,
    iou_threshold: Array,
    max_boxes: Array,
    score_threshold: Array | None = None,
    per_class_suppression: Array | bool = False,
) -> tuple[Array, ...]:
    """Return the boxes of the highest scores that overlap none of a higher score too much.

    A box' score is its largest, its class the place of it. Where no box reaches the threshold, the
    best one is returned all the same.

    Args:
        boxes: ``[N, B, 4]`` up to iOS 16, ``[N, 4, B]`` from iOS 17 on: centre x, y, width, height.
        scores: ``[N, B, K]`` or ``[N, K, B]``.
        iou_threshold: A larger overlap with a chosen box rejects a box.
        max_boxes: How many places the outputs have.
        score_threshold: Boxes at or below it are not chosen; only up to iOS 16.
        per_class_suppression: Whether only boxes of the same class reject each other.

    Returns:
        Boxes and scores in the layout of the inputs, filled up with zeros; indices
        ``[N, max_boxes]``, filled up with -1; up to iOS 16 also the number of boxes ``[N]``.
    """
    modern = score_threshold is None
    if modern:
        boxes, scores = boxes.swapaxes(1, 2), scores.swapaxes(1, 2)
    lowest = -math.inf if score_threshold is None else float(score_threshold)
    places = int(max_boxes)
    out_boxes = np.zeros((len(boxes), places, 4), boxes.dtype)
    out_scores = np.zeros((len(boxes), places, scores.shape[2]), scores.dtype)
    indices = np.full((len(boxes), places), -1, np.int32)
    counts = np.zeros(len(boxes), np.int32)
    for item, (some, values) in enumerate(zip(boxes, scores, strict=True)):
        classes = values.argmax(axis=1) if per_class_suppression else np.zeros(len(some), int)
        chosen = _chosen(some, values.max(axis=1), classes, float(iou_threshold), lowest)[:places]
        counts[item] = len(chosen)
        indices[item, : len(chosen)] = chosen
        out_boxes[item, : len(chosen)] = some[chosen]
        out_scores[item, : len(chosen)] = values[chosen]
    if modern:
        return out_boxes.swapaxes(1, 2), out_scores.swapaxes(1, 2), indices
    return out_boxes, out_scores, indices, counts


def _chosen(
    boxes: Array, scores: Array, classes: Array, iou_threshold: float, lowest: float
) -> list[int]:
    """Return the chosen boxes, the best first."""
    order = [int(place) for place in np.argsort(-scores, kind="stable")]
    chosen: list[int] = []
    for place in order:
        if not scores[place] > lowest:
            break
        rivals = [other for other in chosen if classes[other] == classes[place]]
        if not rivals or (_overlap(boxes[place], boxes[rivals]) <= iou_threshold).all():
            chosen.append(place)
    return chosen or order[:1]


def _overlap(box: Array, others: Array) -> Array:
    """Return the intersection over the union of a box and others; 0 for boxes without area."""
    low, high = box[:2] - box[2:] / 2, box[:2] + box[2:] / 2
    lows, highs = others[:, :2] - others[:, 2:] / 2, others[:, :2] + others[:, 2:] / 2
    sides = np.maximum(np.minimum(high, highs) - np.maximum(low, lows), 0)
    shared = sides.prod(axis=1)
    union = box[2:].prod() + others[:, 2:].prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
