"""The parameters of a detector's head, without what reads it: plans look at them too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgedeploy.parameters import Parameters

SCORE = 0.25
"""Least score that is answered, unless the profile says another."""

IOU = 0.7
"""Overlap above which the weaker of two boxes of a class is dropped. Source: Ultralytics YOLO."""

MOST = 100
"""Boxes of one class that are kept, and rows of the output with ``nms: model``. Source: COCO
detection evaluation, maxDets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How a head of the YOLO family becomes boxes.

    Attributes:
        objectness: Whether a score of the box stands before those of the classes.
        score: Least score that is answered, 0..1.
        iou: Overlap above which the weaker of two boxes of a class is dropped, 0..1.
        space: Whether boxes are in pixels of the input or shares of its sides.
        nms: Who suppresses: the app, or the model, whose output then is rows of chosen boxes.
    """

    objectness: bool
    score: float
    iou: float
    space: Literal["input", "unit"]
    nms: Literal["app", "model"]


def read_head(given: Parameters) -> Head:
    """Return the parameters of the decoder ``yolo``.

    Raises:
        DataError: One cannot be used (E875).
    """
    given.only("objectness", "score", "iou", "space", "nms")
    return Head(
        objectness=given.get("objectness", bool, False),
        score=given.number("score", SCORE, 0, 1),
        iou=given.number("iou", IOU, 0, 1),
        space=given.choice("space", ("input", "unit"), "input"),
        nms=given.choice("nms", ("app", "model"), "app"),
    )
