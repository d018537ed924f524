"""Boxes that the model has chosen already, and what all decoders of boxes share.

One output ``[.., n, 6]`` of x1 y1 x2 y2 score class, or outputs of their own for boxes, scores and
classes. A class below 0 marks padding; a box or score that is not finite is no box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgedeploy.decode import Answer, AnswerKind, Decoder, Setting, finite, output_error, taken
from edgedeploy.decode.head import SCORE

FORMS = ("xyxy", "xywh", "cxcywh")
SPACES = ("input", "unit", "original")
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Boxes of one sample, in any order.

    Attributes:
        boxes: Corners x1 y1 x2 y2, float64 ``[n, 4]``.
        scores: float64 ``[n]``.
        classes: int64 ``[n]``.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __getitem__(self, which: np.ndarray) -> Found:
        """Return some of them: numbers ``[m]`` or bool ``[n]``."""
        return Found(
            boxes=self.boxes[which], scores=self.scores[which], classes=self.classes[which]
        )


def corners(boxes: np.ndarray, form: str) -> np.ndarray:
    """Return boxes ``[n, 4]`` of one of :data:`FORMS` as x1 y1 x2 y2."""
    if form == "xyxy":
        return boxes
    low = boxes[:, :2] - boxes[:, 2:] / 2 if form == "cxcywh" else boxes[:, :2]
    return np.concatenate([low, low + boxes[:, 2:]], axis=1)


def intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the area that each box ``[n, 4]`` shares with each other ``[m, 4]``: ``[n, m]``."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=2))


def areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of boxes ``[n, 4]``; one whose corners are in the wrong order has none."""
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))


def suppress(found: Found, iou: float, *, most: int, candidates: int) -> Found:
    """Return what is left of boxes after greedy non-maximum suppression, best score first.

    Each class by itself: the best box is kept, and those that overlap it by more than ``iou`` are
    dropped; then the best of the rest, and so on. What is kept above a score does not depend on
    boxes below it, so that a threshold may be applied before or after. Boxes of equal score go by
    their order. Source: ONNX operator specification, NonMaxSuppression-11.

    Args:
        found: The boxes.
        iou: Intersection over union, 0..1.
        most: Boxes of one class that are kept.
        candidates: Boxes of one class that are looked at, the best.
    """
    kept: list[np.ndarray] = []
    for label in np.unique(found.classes):
        ours = np.flatnonzero(found.classes == label)
        ours = ours[np.argsort(-found.scores[ours], kind="stable")][:candidates]
        kept.append(ours[_greedy(found.boxes[ours], iou, most)])
    every = np.concatenate(kept) if kept else np.empty(0, np.int64)
    # Equal scores of two classes go by class, as they were gathered.
    return found[every[np.argsort(-found.scores[every], kind="stable")]]


def _greedy(boxes: np.ndarray, iou: float, most: int) -> list[int]:
    """Return the rows that are kept of boxes ``[n, 4]`` of one class, best first."""
    area = areas(boxes)
    left = np.arange(len(boxes))
    kept: list[int] = []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        both = intersections(boxes[best, None], boxes[left])[0]
        left = left[both <= iou * (area[best] + area[left] - both)]
    return kept


def to_original(found: Found, geometry: Mapping[str, Any] | None, space: str, output: str) -> Found:
    """Return boxes in pixels of the original image, cut at its edges; none outside is left.

    Args:
        found: The boxes.
        geometry: Where the image went; boxes in original pixels need none, and are not cut then.
        space: What they are measured in, one of :data:`SPACES`: pixels of the model input, the
            same as a share of its sides, pixels of the original.
        output: Their output, for the message.

    Raises:
        DataError: The geometry is needed and not known (E874).
    """
    known = np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.scores)
    found = found[known]
    if geometry is None:
        if space != "original":
            raise output_error(
                output,
                "has boxes that cannot be brought to the original image, because the sample is "
                "none that `image:` made; give `space: original` where they are in its pixels",
            )
        return found
    boxes = found.boxes
    if space == "unit":
        boxes = boxes * np.array([geometry["input_width"], geometry["input_height"]] * 2)
    if space != "original":
        offset = np.array([geometry["left"], geometry["top"]] * 2, np.float64)
        boxes = (boxes - offset) / np.array([geometry["scale_x"], geometry["scale_y"]] * 2)
    boxes = np.clip(boxes, 0, np.array([geometry["width"], geometry["height"]] * 2, np.float64))
    moved = Found(boxes=boxes, scores=found.scores, classes=found.classes)
    return moved[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]


class Boxes(Decoder):
    """Answers boxes that something reads from the outputs."""

    kind: ClassVar[AnswerKind] = "boxes"

    def __init__(
        self,
        setting: Setting,
        read: Callable[[Mapping[str, np.ndarray], Mapping[str, Any] | None], Found],
        *,
        score: float,
        steps: Sequence[str],
    ) -> None:
        """Make the decoder.

        Args:
            setting: Its output and the names of classes.
            read: Returns boxes in original pixels, of outputs and geometry.
            score: Least score that is answered; the arrays have those below it too.
            steps: How an app reads the boxes.
        """
        self._setting = setting
        self._read = read
        self._score = score
        self._steps = tuple(steps)
        self.labels = tuple(setting.classes)

    def steps(self) -> tuple[str, ...]:
        """Return how an app finds the boxes."""
        return self._steps

    def arrays(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> dict[str, np.ndarray]:
        """Return ``boxes`` ``[n, 4]``, ``scores`` ``[n]`` and ``classes`` ``[n]``, best first.

        Raises:
            DataError: The outputs have other shapes, name a class that has no name, or the image's
                geometry is not known (E874).
        """
        found = self._read(outputs, geometry)
        names = len(self._setting.classes)
        if names and found.classes.max(initial=0) >= names:
            raise output_error(
                self._setting.output,
                f"gives class {found.classes.max()}, and `classes` names {names}",
            )
        found = found[np.argsort(-found.scores, kind="stable")]
        return {"boxes": found.boxes, "scores": found.scores, "classes": found.classes}

    def answer(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> Answer:
        """Return the boxes whose scores reach the threshold."""
        found = self.arrays(outputs, geometry)
        value = [
            {
                "box": [round(float(edge), 3) for edge in box],
                "class": int(label),
                "label": self._setting.label(int(label)),
                "score": finite(score),
            }
            for box, score, label in zip(*found.values(), strict=True)
            if score >= self._score
        ]
        return Answer(kind="boxes", value=value, line=_words(value))


def _words(value: Sequence[Mapping[str, Any]]) -> str:
    if not value:
        return "no box"
    said = [
        f"{item['label']} {item['score']:.3f} ({' '.join(f'{edge:.0f}' for edge in item['box'])})"
        for item in value[:_SHOWN]
    ]
    more = f" and {len(value) - _SHOWN} more" if len(value) > _SHOWN else ""
    return ", ".join(said) + more


def last_steps(score: float, space: str) -> tuple[str, ...]:
    """Return what an app does with boxes in the end, in sentences."""
    back = (
        "Take the image's offset from the corners and divide them by its scale: pixels of the "
        "original. Cut them at its edges."
    )
    unit = "Multiply by the sides of the input."
    return (
        f"A box holds from a score of {score:g} on.",
        *((unit,) if space == "unit" else ()),
        *((back,) if space != "original" else ()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Where the boxes stand in the outputs.

    Attributes:
        boxes: Output with boxes ``[.., n, 4]``, or with all six columns.
        scores, classes: Further outputs; None where ``boxes`` has six columns, or where
            ``scores`` has a column for each class.
        form, space: Of the four numbers.
    """

    boxes: str
    scores: str | None = None
    classes: str | None = None
    form: str = "xyxy"
    space: str = "input"

    def read(self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None) -> Found:
        """Return the boxes in original pixels.

        Raises:
            DataError: The outputs have other shapes, or the geometry is not known (E874).
        """
        boxes, scores, classes = self._columns(outputs)
        real = np.isfinite(classes) & (classes >= 0)
        found = Found(
            boxes=corners(boxes[real], self.form),
            scores=scores[real],
            classes=classes[real].astype(np.int64),
        )
        return to_original(found, geometry, self.space, self.boxes)

    def _columns(
        self, outputs: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        width = 6 if self.scores is None else 4
        boxes = numbers(outputs, self.boxes)
        if boxes.ndim < 2 or boxes.shape[-1] != width or boxes.size != width * boxes.shape[-2]:
            raise output_error(self.boxes, f"has shape {list(boxes.shape)}, not [1, n, {width}]")
        boxes = boxes.reshape(-1, width)
        if self.scores is None:
            return boxes[:, :4], boxes[:, 4], boxes[:, 5]
        scores = numbers(outputs, self.scores)
        if self.classes is None:
            if scores.ndim < 2 or not scores.size or scores.size != len(boxes) * scores.shape[-1]:
                raise output_error(self.scores, f"has shape {list(scores.shape)}, not [n, classes]")
            scores = scores.reshape(-1, scores.shape[-1])
            return boxes, scores.max(axis=1), scores.argmax(axis=1).astype(np.float64)
        classes = numbers(outputs, self.classes)
        if scores.size != len(boxes) or classes.size != len(boxes):
            raise output_error(self.scores, f"and '{self.classes}' do not fit {len(boxes)} boxes")
        return boxes, scores.reshape(-1), classes.reshape(-1)

    def steps(self, score: float) -> tuple[str, ...]:
        """Return how an app reads the boxes, in sentences."""
        corner = {
            "xyxy": "x1 y1 x2 y2",
            "xywh": "x y of the first corner, width, height",
            "cxcywh": "x y of the centre, width, height",
        }[self.form]
        if self.scores is None:
            first = f"Each row is one box: {corner}, score, class; a class below 0 is padding."
        elif self.classes is None:
            first = f"Each row of {self.boxes} is {corner}; {self.scores} has a score per class."
        else:
            first = (
                f"Each row of {self.boxes} is {corner}; {self.scores} and {self.classes} say how "
                "certain it is and of which class; one below 0 is padding."
            )
        return (first, *last_steps(score, self.space))


def numbers(outputs: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return an output as float64.

    Raises:
        DataError: There is none, or it holds no numbers (E874).
    """
    found = taken(outputs, name)
    if found.dtype.kind not in "fiu":
        raise output_error(name, f"is {found.dtype}{list(found.shape)}, no numbers")
    return found.astype(np.float64)


READING = ("boxes", "scores", "classes", "format", "space")
"""Parameters that say where the boxes stand."""


def create(setting: Setting) -> Boxes:
    """Return the decoder.

    Raises:
        DataError: A parameter is wrong (E875), or an output that it names does not exist (E874).
    """
    given = setting.parameters
    given.only(*READING, "score")
    where = Columns(
        boxes=given.get("boxes", str, setting.output),
        scores=given.get("scores", str, None),
        classes=given.get("classes", str, None),
        form=given.choice("format", FORMS, "xyxy"),
        space=given.choice("space", SPACES, "input"),
    )
    if where.classes is not None and where.scores is None:
        raise given.error("has `classes` without `scores`", "Name both outputs.")
    for name in (where.boxes, where.scores, where.classes):
        if name is not None and name not in setting.outputs:
            raise output_error(name, f"does not exist; there are {', '.join(setting.outputs)}")
    score = given.number("score", SCORE, 0, 1)
    return Boxes(setting, where.read, score=score, steps=where.steps(score))
