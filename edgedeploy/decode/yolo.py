"""Boxes of one-stage detectors of the YOLO family, chosen by non-maximum suppression.

One output ``[1, 4 + classes, n]`` (v8 and later) or ``[1, n, 4 + classes]``: x and y of the centre,
width and height in pixels of the model input, then a score for each class. With ``objectness``
(v5, v7) a score of the box stands before those of the classes, and multiplies them. With ``nms:
model`` the normal form does all of it (:mod:`edgedeploy.passes.suppress_boxes`) and gives rows of
x1 y1 x2 y2 score class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.decode import Setting, output_error
from edgedeploy.decode.boxes import (
    Boxes,
    Columns,
    Found,
    corners,
    last_steps,
    numbers,
    suppress,
    to_original,
)
from edgedeploy.decode.head import MOST, Head, read_head

LEAST_SCORE = 0.001
"""Boxes below it are not even scored. Source: Ultralytics YOLO, validation."""

CANDIDATES = 1000
"""Boxes of one class, the best, among which suppression chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads a head.

    Attributes:
        output: Its name.
        classes: How many classes have names; 0: not known.
        head: The parameters.
    """

    output: str
    classes: int
    head: Head

    def read(self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None) -> Found:
        table = self.table(numbers(outputs, self.output))
        scores = table[:, 4:]
        if self.head.objectness:
            scores = scores[:, :1] * scores[:, 1:]
        # A box may be answered for several classes, each by itself.
        rows, labels = np.nonzero(scores >= LEAST_SCORE)
        found = Found(
            boxes=corners(table[rows, :4], "cxcywh"),
            scores=scores[rows, labels],
            classes=labels.astype(np.int64),
        )
        kept = suppress(found, self.head.iou, most=MOST, candidates=CANDIDATES)
        return to_original(kept, geometry, self.head.space, self.output)

    def table(self, found: np.ndarray) -> np.ndarray:
        """Return the output with one row for each box: ``[n, 4 + classes]``.

        Raises:
            DataError: It has another shape, or one that could be read both ways (E874).
        """
        shape: tuple[int, ...] = found.shape
        least = 4 + self.head.objectness
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
    head = read_head(setting.parameters)
    if head.nms == "model":
        rows = Columns(boxes=setting.output, space=head.space)
        return Boxes(setting, rows.read, score=head.score, steps=rows.steps(head.score))
    reader = _Reader(output=setting.output, classes=len(setting.classes), head=head)
    return Boxes(setting, reader.read, score=head.score, steps=_steps(head))


def _steps(head: Head) -> tuple[str, ...]:
    """Return how an app finds the boxes."""
    box = " a score of the box, by which those of the classes are multiplied;" * head.objectness
    unit = "in pixels of the input" if head.space == "input" else "as shares of the input's sides"
    holds, *rest = last_steps(head.score, head.space)
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
