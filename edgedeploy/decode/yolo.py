"""Boxes of one-stage detectors of the YOLO family, chosen by non-maximum suppression.

One output ``[1, 4 + classes, n]`` (v8 and later) or ``[1, n, 4 + classes]``: x and y of the centre,
width and height in pixels of the model input, then a score for each class. With ``objectness``
(v5, v7) a score of the box stands before those of the classes, and multiplies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.decode import Setting, output_error
from edgedeploy.decode.boxes import (
    SCORE,
    Boxes,
    Found,
    corners,
    last_steps,
    numbers,
    suppress,
    to_original,
)

IOU = 0.7
"""Overlap above which the weaker of two boxes of a class is dropped. Source: Ultralytics YOLO."""

LEAST_SCORE = 0.001
"""Boxes below it are not even scored. Source: Ultralytics YOLO, validation."""

MOST = 100
"""Boxes of one class that are kept. Source: COCO detection evaluation, maxDets."""

CANDIDATES = 1000
"""Boxes of one class, the best, among which suppression chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """How the output is read.

    Attributes:
        output: Its name.
        classes: How many classes have names; 0: not known.
        objectness: Whether a score of the box stands before those of the classes.
        space: ``input`` or ``unit``.
        iou: For suppression.
    """

    output: str
    classes: int
    objectness: bool
    space: str
    iou: float

    def read(self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None) -> Found:
        table = self.table(numbers(outputs, self.output))
        scores = table[:, 4:]
        if self.objectness:
            scores = scores[:, :1] * scores[:, 1:]
        # A box may be answered for several classes, each by itself.
        rows, labels = np.nonzero(scores >= LEAST_SCORE)
        found = Found(
            boxes=corners(table[rows, :4], "cxcywh"),
            scores=scores[rows, labels],
            classes=labels.astype(np.int64),
        )
        kept = suppress(found, self.iou, most=MOST, candidates=CANDIDATES)
        return to_original(kept, geometry, self.space, self.output)

    def table(self, found: np.ndarray) -> np.ndarray:
        """Return the output with one row for each box: ``[n, 4 + classes]``.

        Raises:
            DataError: It has another shape, or one that could be read both ways (E874).
        """
        shape: tuple[int, ...] = found.shape
        least = 4 + self.objectness
        if len(shape) < 2 or found.size != shape[-1] * shape[-2]:
            raise self._error(shape, f"[1, {least} + classes, n] or [1, n, {least} + classes]")
        high, wide = shape[-2:]
        width = least + self.classes if self.classes else min(high, wide)
        if width <= least or width not in (high, wide):
            raise self._error(shape, f"[1, {width if self.classes else f'{least} + classes'}, n]")
        if high == wide:
            raise output_error(
                self.output, f"has shape {list(shape)}, which can be read in two ways"
            )
        return found.reshape(high, wide).T if width == high else found.reshape(high, wide)

    def _error(self, shape: tuple[int, ...], wanted: str) -> Exception:
        named = f"; `classes` names {self.classes}" if self.classes else ""
        return output_error(self.output, f"has shape {list(shape)}, not {wanted}{named}")


def create(setting: Setting) -> Boxes:
    """Return the decoder.

    Raises:
        DataError: A parameter is wrong (E875).
    """
    given = setting.parameters
    given.only("objectness", "score", "iou", "space")
    head = _Head(
        output=setting.output,
        classes=len(setting.classes),
        objectness=given.get("objectness", bool, False),
        space=given.choice("space", ("input", "unit"), "input"),
        iou=given.number("iou", IOU, 0, 1),
    )
    score = given.number("score", SCORE, 0, 1)
    return Boxes(setting, head.read, score=score, steps=_steps(head, score))


def _steps(head: _Head, score: float) -> tuple[str, ...]:
    """Return how an app finds the boxes."""
    box = " a score of the box, by which those of the classes are multiplied;" * head.objectness
    unit = "in pixels of the input" if head.space == "input" else "as shares of the input's sides"
    holds, *rest = last_steps(score, head.space)
    return (
        f"Along the axis of {4 + head.objectness} + classes stand x and y of the centre, width "
        f"and height of one box, {unit};{box} then a score for each class. The corners are the "
        "centre less and plus half the size.",
        holds,
        "Within each class, from the best score down: drop every box whose intersection with a "
        f"better one that was kept is more than {head.iou:g} of their union. At most {MOST} boxes "
        "of a class are kept.",
        *rest,
    )
