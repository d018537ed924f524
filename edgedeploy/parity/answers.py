"""How one answer differs from the float model's: in words, and in figures of the outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.decode import Answer, AnswerKind
from edgedeploy.parity.compare import Comparer
from edgedeploy.parity.metrics.detection import match, overlaps
from edgedeploy.parity.metrics.edit_rate import edits

MATCH_IOU = 0.5
"""Overlap from which on two boxes of one class are taken for the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a model.

    Attributes:
        outputs: What it gave, by name.
        arrays: What its decoder read of that.
        answer: What the decoder answers.
    """

    outputs: Mapping[str, np.ndarray]
    arrays: Mapping[str, np.ndarray]
    answer: Answer


Calls = Sequence[Call]


def difference(found: Calls, wanted: Calls) -> dict[str, Any]:
    """Return how answers differ from the float model's, as JSON data.

    Args:
        found: Every call of an artifact, in order, at least one.
        wanted: The same calls of the float model, read by the same decoder.

    Returns:
        ``{"same": true | false | null, "words": text, "outputs": {name: {"cosine": x, "max_abs":
        x}}}``. ``same`` is about what a user would see (the best class, the text, the frames of
        speech, which boxes there are); it is null for vectors and for outputs that hold numbers
        alone. The cosine is the least of all calls.
    """
    comparer = Comparer()
    for number, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        comparer.add(str(number), mine.outputs, theirs.outputs)
    figures = {
        item.name: {"cosine": item.cosine_min, "max_abs": item.max_abs}
        for item in comparer.results()
    }
    same, words = _SEEN[found[0].answer.kind](found, wanted)
    parts = [words, *(finding.message for finding in comparer.findings())]
    parts += _closeness(list(figures.values()))
    return {
        "same": same,
        "words": ", ".join(part for part in parts if part) or "nothing to compare",
        "outputs": figures,
    }


def _closeness(figures: Sequence[Mapping[str, float | None]]) -> list[str]:
    """Return in words how close outputs are: the worst of them."""
    cosines = [item["cosine"] for item in figures if item["cosine"] is not None]
    off = [item["max_abs"] for item in figures if item["max_abs"] is not None]
    if off and max(off) == 0:
        return ["equal outputs"]
    found = [f"cosine {min(cosines):.6f}"] if cosines else []
    return [*found, f"off by {max(off):.2g}"] if off else found


Seen = tuple[bool | None, str]
"""Whether the answers are the same to a user, and in words."""


def _classes(found: Calls, wanted: Calls) -> Seen:
    others = sum(
        _best(mine.answer) != _best(theirs.answer)
        for mine, theirs in zip(found, wanted, strict=True)
    )
    if len(found) == 1:
        return not others, "another class" if others else "same class"
    return not others, f"another class in {others} of {len(found)} calls"


def _best(answer: Answer) -> str | None:
    return answer.value[0]["label"] if answer.value else None


def _texts(found: Calls, wanted: Calls) -> Seen:
    pairs = [
        (mine.answer.value["text"], theirs.answer.value["text"])
        for mine, theirs in zip(found, wanted, strict=True)
    ]
    changed = sum(edits(mine, theirs) for mine, theirs in pairs)
    length = sum(len(theirs) for _, theirs in pairs)
    return not changed, f"{changed} edits to {length} characters" if changed else "same text"


def _speech(found: Calls, wanted: Calls) -> Seen:
    mine, theirs = (
        np.concatenate([call.arrays["speech"] for call in calls]) for calls in (found, wanted)
    )
    if mine.shape != theirs.shape:
        return False, f"{len(mine)} frames, not {len(theirs)}"
    others = int((mine != theirs).sum())
    return not others, f"{others} of {len(theirs)} frames differ" if others else "same frames"


def _boxes(found: Calls, wanted: Calls) -> Seen:
    met = mine = theirs = 0
    for ours, other in zip(found, wanted, strict=True):
        met += matched_boxes(ours.answer.value, other.answer.value)
        mine += len(ours.answer.value)
        theirs += len(other.answer.value)
    if met == mine == theirs:
        return True, "same boxes"
    return False, f"{met} of {theirs} boxes found, {mine - met} others"


def matched_boxes(found: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> int:
    """Return how many boxes of an answer have one of their class in the other answer.

    One for one, best score first, as COCO matches detections with the truth, at an overlap of
    :data:`MATCH_IOU`.

    Args:
        found: ``{"box": [x1, y1, x2, y2], "class": n, ..}``, best first.
        wanted: The other answer's.
    """
    met = 0
    for label in {item["class"] for item in found}:
        mine, theirs = (
            np.array([item["box"] for item in side if item["class"] == label], np.float64)
            for side in (found, wanted)
        )
        if len(theirs):
            crowd = np.zeros(len(theirs), bool)
            met += int(match(overlaps(mine, theirs, crowd), crowd, MATCH_IOU)[0].sum())
    return met


def _vector(found: Calls, wanted: Calls) -> Seen:
    return None, ""


def _values(found: Calls, wanted: Calls) -> Seen:
    """Say whether texts are the same; numbers alone are neither the same nor others."""
    pairs = [
        (mine.outputs[name].astype(str).tolist(), value.astype(str).tolist())
        for mine, theirs in zip(found, wanted, strict=True)
        for name, value in theirs.outputs.items()
        if value.dtype.kind in "OUS" and name in mine.outputs
    ]
    if not pairs:
        return None, ""
    same = all(mine == theirs for mine, theirs in pairs)
    return same, "same texts" if same else "other texts"


_SEEN: Mapping[AnswerKind, Callable[[Calls, Calls], Seen]] = {
    "classes": _classes,
    "text": _texts,
    "speech": _speech,
    "boxes": _boxes,
    "vector": _vector,
    "values": _values,
}
