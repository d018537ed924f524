"""Classes: one score for each, or the label itself; the answer is the best of them with names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from edgedeploy.decode import Answer, AnswerKind, Decoder, Setting, finite, output_error, taken


class Classes(Decoder):
    """Reads ``[.., classes]`` scores, all other axes 1, or one whole number or text.

    Equal scores rank by class number.
    """

    kind: ClassVar[AnswerKind] = "classes"

    def __init__(
        self, setting: Setting, *, top: int, softmax: bool, threshold: float | None
    ) -> None:
        self._setting = setting
        self._output = setting.output
        self._top = top
        self._softmax = softmax
        self._threshold = threshold
        self.labels = tuple(setting.classes)

    def steps(self) -> tuple[str, ...]:
        """Return how an app finds the class."""
        named = ", in the order of the labels" if self.labels else ""
        found = [f"One score per class{named}; the highest is the answer."]
        if self._softmax:
            found.append("The softmax of the scores is their probability.")
        if self._threshold is not None:
            what = "probability" if self._softmax else "score"
            found.append(f"It holds from a {what} of {self._threshold:g} on.")
        return tuple(found)

    def arrays(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> dict[str, np.ndarray]:
        """Return ``scores`` float64 ``[classes]``, or ``label`` ``[1]`` where the model names it.

        Raises:
            DataError: The output is neither, or there are other classes than names (E874).
        """
        found = taken(outputs, self._output)
        if found.size == 1 and found.dtype.kind in "OUSiu":
            return {"label": found.reshape(1)}
        if found.dtype.kind not in "fiu" or found.ndim == 0 or found.size != found.shape[-1]:
            raise output_error(
                self._output, f"has shape {list(found.shape)}, not one score per class"
            )
        names = len(self._setting.classes)
        if names not in (0, found.size):
            raise output_error(
                self._output, f"has {found.size} scores, and `classes` names {names}"
            )
        scores = found.reshape(-1).astype(np.float64)
        return {"scores": softmax(scores) if self._softmax else scores}

    def answer(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> Answer:
        """Return the best classes whose scores reach the threshold."""
        found = self.arrays(outputs, geometry)
        if "label" in found:
            named = _given(found["label"][0], self._setting)
            return Answer(kind="classes", value=[named], line=named["label"])
        scores = found["scores"]
        order = np.argsort(-scores, kind="stable")[: self._top]
        least = -np.inf if self._threshold is None else self._threshold
        kept = [int(number) for number in order if scores[number] >= least]
        words = ", ".join(f"{self._setting.label(n)} {scores[n]:.3f}" for n in kept)
        if not kept:
            words = f"none: the highest score is {scores[order[0]]:.3f}"
        best = [
            {"class": n, "label": self._setting.label(n), "score": finite(scores[n])} for n in kept
        ]
        return Answer(kind="classes", value=best, line=words)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return probabilities of logits along the last axis, float64."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _given(label: Any, setting: Setting) -> dict[str, Any]:
    """Return the class that the model itself names: by its number, or by its label."""
    if isinstance(label, np.integer):
        return {"class": int(label), "label": setting.label(int(label)), "score": None}
    text = label.decode() if isinstance(label, bytes) else str(label)
    number = setting.classes.index(text) if text in setting.classes else None
    return {"class": number, "label": text, "score": None}


def create(setting: Setting) -> Classes:
    """Return the decoder.

    Raises:
        DataError: A parameter is wrong (E875).
    """
    given = setting.parameters
    given.only("top", "softmax", "threshold")
    threshold = given.get("threshold", (int, float), None)
    return Classes(
        setting,
        top=given.whole("top", 5, 1, 1000),
        softmax=given.get("softmax", bool, False),
        threshold=None if threshold is None else float(threshold),
    )
