"""Mean average precision of boxes, as COCO defines it (cocodataset.org/#detection-eval).

Average precision by class, 101 recall points, IoU thresholds .50:.05:.95, at most 100 detections
of a class per image, crowd regions neither reward nor punish; then the mean over classes with true
boxes. The boxes are what the model's decoder reads; without one, what
:mod:`edgedeploy.decode.boxes` reads by the metric's own parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgedeploy.decode import Decoder, make_decoder
from edgedeploy.decode.boxes import READING, areas, intersections
from edgedeploy.parity.metrics import (
    Case,
    Factory,
    Metric,
    Options,
    output_error,
    parameter_error,
    truth_error,
)
from edgedeploy.profile.types import DecodeSpec

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100


def overlaps(found: np.ndarray, true: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return intersection over union ``[n, m]`` of corner boxes; over ``found`` alone for crowds.

    Args:
        found: ``[n, 4]``.
        true: ``[m, 4]``.
        crowd: bool ``[m]``.
    """
    both = intersections(found, true)
    area, other = areas(found)[:, None], areas(true)[None, :]
    return np.asarray(both / np.maximum(np.where(crowd, area, area + other - both), 1e-300))


def match(iou: np.ndarray, crowd: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return for each detection, best score first, whether it hits and whether it is ignored.

    Each takes the free true box that it overlaps most, if that reaches the threshold; a crowd
    region only where there is no such box, and any number of times.

    Args:
        iou: ``[n, m]``, true boxes that are no crowd first.
        crowd: bool ``[m]``.
        threshold: Least intersection over union.
    """
    free = ~crowd
    hit, ignored = np.zeros(len(iou), bool), np.zeros(len(iou), bool)
    for row, values in enumerate(iou):
        reached = values >= threshold - 1e-12
        if (reached & free).any():
            # The last of equals, as the reference implementation has it.
            best = len(values) - 1 - int(np.argmax(np.where(free, values, -1)[::-1]))
            hit[row], free[best] = True, False
        else:
            ignored[row] = bool((reached & crowd).any())
    return hit, ignored


class MeanAveragePrecision(Metric):
    """Records: ``{"true": {class: boxes}, "found": [[class, score, hit bits, ignore bits]..]}``."""

    resamples = 200

    def __init__(
        self, decoder: Decoder, iou: float | None, class_ids: Sequence[int] | None
    ) -> None:
        """Make the metric.

        Args:
            decoder: Reads the boxes.
            iou: The one threshold that counts; None for all ten.
            class_ids: The truth's class for each class number of the model; None keeps the number.
        """
        self._decoder = decoder
        self._class_ids = None if class_ids is None else np.asarray(class_ids, np.int64)
        self._levels = slice(None) if iou is None else np.isclose(IOU_THRESHOLDS, iou)

    def score(self, case: Case) -> Any | None:
        """Return the sample's true boxes by class and its matched detections."""
        read = self._decoder.arrays(case.outputs, case.geometry)
        boxes, scores, classes = read["boxes"], read["scores"], self._true_ids(read["classes"])
        true, crowd, true_classes = _true_boxes(case)
        found: list[list[Any]] = []
        counts: dict[str, int] = {}
        for label in sorted({*classes.tolist(), *true_classes.tolist()}):
            ours = np.flatnonzero(true_classes == label)
            ours = ours[np.argsort(crowd[ours], kind="stable")]
            if (~crowd[ours]).any():
                counts[str(label)] = int((~crowd[ours]).sum())
            theirs = np.flatnonzero(classes == label)
            theirs = theirs[np.argsort(-scores[theirs], kind="stable")][:MAX_DETECTIONS]
            iou = overlaps(boxes[theirs], true[ours], crowd[ours])
            hits, ignored = np.zeros(len(theirs), int), np.zeros(len(theirs), int)
            for bit, threshold in enumerate(IOU_THRESHOLDS):
                hit, skip = match(iou, crowd[ours], threshold)
                hits |= hit.astype(int) << bit
                ignored |= skip.astype(int) << bit
            found += [
                [label, float(scores[i]), int(h), int(g)]
                for i, h, g in zip(theirs, hits, ignored, strict=True)
            ]
        return {"true": counts, "found": found}

    def _true_ids(self, classes: np.ndarray) -> np.ndarray:
        """Return the truth's class for each class number of the model."""
        if self._class_ids is None:
            return classes
        if classes.max(initial=0) >= len(self._class_ids):
            raise output_error("boxes", f"are of class {classes.max()}, beyond `class_ids`")
        return np.asarray(self._class_ids[classes])

    def values(self, records: Sequence[Any], weights: np.ndarray) -> np.ndarray:
        """Return mAP of each weighting."""
        tables = [_ClassTable(records, label) for label in _labels(records)]
        out = np.full(len(weights), np.nan)
        for row, weight in enumerate(weights):
            scores = [
                table.precisions(weight)[self._levels].mean()
                for table in tables
                if table.true @ weight > 0
            ]
            if scores:
                out[row] = np.mean(scores)
        return out

    def class_values(self, records: Sequence[Any], weights: np.ndarray, label: str) -> np.ndarray:
        """Return the average precision of one class of each weighting; NaN without true boxes."""
        table = _ClassTable(records, label)
        return np.array(
            [
                table.precisions(weight)[self._levels].mean() if table.true @ weight > 0 else np.nan
                for weight in weights
            ]
        )

    def by_class(self, records: Sequence[Any]) -> dict[str, tuple[int, float]]:
        """Return average precision by class."""
        ones = np.ones(len(records))
        found: dict[str, tuple[int, float]] = {}
        for label in _labels(records):
            table = _ClassTable(records, label)
            value = float(table.precisions(ones)[self._levels].mean())
            found[label] = (int(table.true.sum()), value)
        return found

    def details(self, records: Sequence[Any]) -> dict[str, float]:
        """Return mAP over all thresholds and at IoU .50."""
        ones = np.ones(len(records))
        each = [_ClassTable(records, label).precisions(ones) for label in _labels(records)]
        if not each:
            return {}
        mean = np.mean(each, axis=0)
        return {"map_50_95": float(mean.mean()), "map_50": float(mean[0])}


def _labels(records: Sequence[Any]) -> list[str]:
    """Return the classes with true boxes."""
    return sorted({label for record in records for label in record["true"]}, key=int)


def _true_boxes(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return corners ``[m, 4]``, crowd flags ``[m]`` and classes ``[m]`` of the truth."""
    try:
        items = [(item["box"], bool(item.get("crowd")), int(item["class"])) for item in case.truth]  # type: ignore[union-attr]
        boxes = np.array([box for box, _, _ in items], np.float64).reshape(len(items), 4)
    except (TypeError, KeyError, ValueError, AttributeError):
        raise truth_error(case, "a list of {box: [x, y, w, h], class: n}") from None
    boxes[:, 2:] += boxes[:, :2]
    crowd = np.array([flag for _, flag, _ in items], bool)
    return boxes, crowd, np.array([label for _, _, label in items], np.int64)


class _ClassTable:
    """All detections of one class over all samples, best score first."""

    def __init__(self, records: Sequence[Any], label: str) -> None:
        self.true = np.array([record["true"].get(label, 0) for record in records], np.float64)
        rows = [
            (owner, score, hits, ignored)
            for owner, record in enumerate(records)
            for found, score, hits, ignored in record["found"]
            if str(found) == label
        ]
        table = np.array(rows, np.float64).reshape(-1, 4)
        table = table[np.argsort(-table[:, 1], kind="stable")]
        # What comes behind the last hit only lowers a precision that nobody reads there.
        behind = np.flatnonzero(table[:, 2])[-1:] + 1
        table = table[: int(behind[0]) if len(behind) else 0]
        bits = np.arange(len(IOU_THRESHOLDS))[:, None]
        self._owner = table[:, 0].astype(np.int64)
        self._hit = (table[:, 2].astype(np.int64) >> bits & 1).astype(bool)
        self._counts = ~(table[:, 3].astype(np.int64) >> bits & 1).astype(bool)

    def precisions(self, weight: np.ndarray) -> np.ndarray:
        """Return average precision at each threshold ``[10]`` for weighted samples."""
        each = weight[self._owner]
        hits = np.cumsum(each * (self._hit & self._counts), axis=1)
        all_found = np.cumsum(each * self._counts, axis=1)
        recall = hits / max(float(self.true @ weight), 1e-300)
        precision = hits / np.maximum(all_found, 1e-300)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        out = np.zeros(len(IOU_THRESHOLDS))
        for level in range(len(out)):
            position = np.searchsorted(recall[level], RECALL_POINTS, side="left")
            inside = position < recall.shape[1]
            out[level] = best[level, position[inside]].sum() / len(RECALL_POINTS)
        return out


def _reader(options: Options) -> Decoder:
    """Return what reads the boxes: the model's decoder, or that of the metric's own parameters."""
    given = options.spec.parameters
    named = [str(given[name]) for name in ("boxes", "scores", "classes") if name in given]
    return options.answering("boxes") or make_decoder(
        DecodeSpec(
            name="boxes",
            output=options.output,
            parameters={name: given[name] for name in READING if name in given},
        ),
        outputs=(options.output, *named),
        metadata=options.metadata,
        classes=(),
    )


def _create(options: Options) -> MeanAveragePrecision:
    options.only(*(() if options.decoder else READING), "class_ids", "iou")
    ids = options.get("class_ids", (list, tuple), None)
    iou = options.get("iou", (int, float), None)
    if iou is not None and not np.isclose(IOU_THRESHOLDS, iou).any():
        raise parameter_error("map", f"cannot use {iou} for 'iou'", "Give .5, .55, ... or .95.")
    return MeanAveragePrecision(_reader(options), iou, ids)


METRICS: Mapping[str, Factory] = {"map": _create}
