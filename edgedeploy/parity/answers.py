"""How one answer differs from the float model's: in words, and in figures of the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgedeploy.decode import AnswerKind
from edgedeploy.parity.compare import Comparer
from edgedeploy.parity.metrics.detection import match, overlaps
from edgedeploy.parity.metrics.edit_rate import edits

MATCH_IOU = 0.5
"""Overlap from which on two boxes of one class are taken for the same."""

Arrays = Mapping[str, np.ndarray]


def difference(
    kind: AnswerKind,
    found: Sequence[Arrays],
    wanted: Sequence[Arrays],
    outputs: Sequence[Arrays],
    reference: Sequence[Arrays],
) -> dict[str, Any]:
    """Return how answers differ from the float model's, as JSON data.

    Args:
        kind: What a decoder made of the outputs.
        found: The decoder's arrays of each call, in order.
        wanted: Those of the float model for the same calls.
        outputs: The outputs of each call.
        reference: Those of the float model.

    Returns:
        ``{"same": true | false | null, "words": text, "outputs": {name: {"cosine": x, "max_abs":
        x}}}``. ``same`` is about what a user would see (the best class, the text, the spans, which
        boxes there are); it is null for vectors and for outputs that hold numbers alone. The
        cosine is the least of all calls.
    """
    comparer = Comparer()
    for number, (mine, theirs) in enumerate(zip(outputs, reference, strict=True)):
        comparer.add(str(number), mine, theirs)
    figures = {
        item.name: {"cosine": item.cosine_min, "max_abs": item.max_abs}
        for item in comparer.results()
    }
    same, words = _MEANT[kind](found, wanted)
    cosines = [item["cosine"] for item in figures.values() if item["cosine"] is not None]
    off = [item["max_abs"] for item in figures.values() if item["max_abs"] is not None]
    parts = [words] if words else []
    parts += [finding.message for finding in comparer.findings()]
    if cosines:
        parts.append(f"cosine {min(cosines):.6f}")
    if off:
        parts.append(f"off by {max(off):.2g}")
    return {"same": same, "words": ", ".join(parts) or "nothing to compare", "outputs": figures}


Meant = tuple[bool | None, str]
"""Whether the answers are the same to a user, and in words."""


def _classes(found: Sequence[Arrays], wanted: Sequence[Arrays]) -> Meant:
    others = sum(_best(mine) != _best(theirs) for mine, theirs in zip(found, wanted, strict=True))
    if len(found) == 1:
        return not others, "another class" if others else "same class"
    return not others, f"{others} of {len(found)} calls with another class"


def _best(arrays: Arrays) -> Any:
    return arrays["label"][0] if "label" in arrays else int(arrays["scores"].argmax())


def _texts(found: Sequence[Arrays], wanted: Sequence[Arrays]) -> Meant:
    pairs = [
        (str(mine["text"][0]), str(theirs["text"][0]))
        for mine, theirs in zip(found, wanted, strict=True)
    ]
    changed = sum(edits(mine, theirs) for mine, theirs in pairs)
    length = sum(len(theirs) for _, theirs in pairs)
    return not changed, f"{changed} edits to {length} characters" if changed else "same text"


def _speech(found: Sequence[Arrays], wanted: Sequence[Arrays]) -> Meant:
    mine, theirs = (np.concatenate([item["speech"] for item in side]) for side in (found, wanted))
    if mine.shape != theirs.shape:
        return False, f"{len(mine)} frames, not {len(theirs)}"
    others = int((mine != theirs).sum())
    return not others, f"{others} of {len(theirs)} frames differ" if others else "same frames"


def _boxes(found: Sequence[Arrays], wanted: Sequence[Arrays]) -> Meant:
    met = mine = theirs = 0
    for ours, other in zip(found, wanted, strict=True):
        met += matched_boxes(ours, other)
        mine += len(ours["boxes"])
        theirs += len(other["boxes"])
    if met == mine == theirs:
        return True, "same boxes"
    return False, f"{met} of {theirs} boxes found, {mine - met} others"


def matched_boxes(found: Arrays, wanted: Arrays) -> int:
    """Return how many boxes have one of their class in the other answer.

    One for one, best score first, as COCO matches detections with the truth, at an overlap of
    :data:`MATCH_IOU`.

    Args:
        found: ``boxes`` ``[n, 4]`` corners, best first, and ``classes`` ``[n]``.
        wanted: The same of the other answer, ``[m, 4]`` and ``[m]``.
    """
    met = 0
    for label in set(found["classes"].tolist()):
        mine, theirs = (item["boxes"][item["classes"] == label] for item in (found, wanted))
        crowd = np.zeros(len(theirs), bool)
        if len(theirs):
            met += int(match(overlaps(mine, theirs, crowd), crowd, MATCH_IOU)[0].sum())
    return met


def _vector(found: Sequence[Arrays], wanted: Sequence[Arrays]) -> Meant:
    return None, ""


def _values(found: Sequence[Arrays], wanted: Sequence[Arrays]) -> Meant:
    """Say whether texts are the same; numbers alone are neither the same nor others."""
    pairs = [
        (mine[name].astype(str).tolist(), value.astype(str).tolist())
        for mine, theirs in zip(found, wanted, strict=True)
        for name, value in theirs.items()
        if value.dtype.kind in "OUS" and name in mine
    ]
    if not pairs:
        return None, ""
    same = all(mine == theirs for mine, theirs in pairs)
    return same, "same texts" if same else "other texts"


_MEANT = {
    "classes": _classes,
    "text": _texts,
    "speech": _speech,
    "boxes": _boxes,
    "vector": _vector,
    "values": _values,
}
