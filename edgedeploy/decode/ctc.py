"""Text of class scores per step: greedy CTC decoding (Graves et al., ICML 2006, section 3.2).

The best class of each step, repeats merged, blanks (class 0) dropped. An output that is a text
already is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgedeploy.decode import Answer, AnswerKind, Decoder, Setting, finite, output_error, taken
from edgedeploy.decode.classes import softmax

BLANK = 0
_SUM_OF_PROBABILITIES = 0.05
"""How far a step's scores may be from a sum of 1 and still be probabilities: 8 bits round them."""


def kept_steps(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps that stand for a character, and the class of each.

    Args:
        scores: ``[steps, classes]``.
    """
    best = scores.argmax(axis=1)
    steps = np.flatnonzero(np.diff(best, prepend=-1))
    steps = steps[best[steps] != BLANK]
    return steps, best[steps]


def ctc_text(scores: np.ndarray, characters: Sequence[str]) -> str:
    """Return the greedy decoding.

    Args:
        scores: ``[steps, classes]``; class 0 is the blank, class ``i`` is ``characters[i - 1]``.
        characters: The characters; where there is one class more, the last is a space (the
            convention of PaddleOCR's recognisers).
    """
    _, labels = kept_steps(scores)
    return "".join(characters[label - 1] if label <= len(characters) else " " for label in labels)


class CtcText(Decoder):
    """Reads ``[.., steps, classes]`` scores, all other axes 1."""

    kind: ClassVar[AnswerKind] = "text"

    def __init__(self, output: str, characters: Sequence[str]) -> None:
        self._output = output
        self._characters = characters
        self.labels = tuple(characters)

    def steps(self) -> tuple[str, ...]:
        """Return how an app reads the text."""
        count = len(self._characters)
        return (
            "Take the class of the highest score of each step, and drop those that repeat the "
            "step before.",
            f"Drop class 0, the blank; class i is line i of the labels, and class {count + 1}, "
            "where there is one, a space.",
        )

    def arrays(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> dict[str, np.ndarray]:
        """Return ``text`` ``[1]`` and ``confidence`` ``[1]``, the mean of its characters'.

        The confidence of a text that the model gives itself, and of no text, is NaN.

        Raises:
            DataError: The output is no text and no such scores (E874).
        """
        found = taken(outputs, self._output)
        if found.dtype.kind in "OUS" and found.size == 1:
            return {"text": found.reshape(1).astype(str), "confidence": np.array([np.nan])}
        scores = self._scores(found)
        steps, labels = kept_steps(scores)
        sure = _probabilities(scores[steps])[np.arange(len(steps)), labels]
        return {
            "text": np.array([ctc_text(scores, self._characters)]),
            "confidence": np.array([sure.mean() if len(steps) else np.nan]),
        }

    def _scores(self, found: np.ndarray) -> np.ndarray:
        shape: tuple[int, ...] = found.shape
        if len(shape) < 2 or found.size != shape[-1] * shape[-2] or found.dtype.kind not in "fiu":
            raise output_error(self._output, f"has shape {list(shape)}, not [1, steps, classes]")
        if not 1 <= shape[-1] - len(self._characters) <= 2:
            raise output_error(
                self._output,
                f"has {shape[-1]} classes, which do not fit {len(self._characters)} characters "
                "and a blank",
            )
        return found.reshape(shape[-2:])

    def answer(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> Answer:
        """Return the text and how certain it is."""
        found = self.arrays(outputs, geometry)
        text, sure = str(found["text"][0]), float(found["confidence"][0])
        return Answer(kind="text", value={"text": text, "confidence": finite(sure)}, line=text)


def _probabilities(scores: np.ndarray) -> np.ndarray:
    """Return scores ``[n, classes]`` as probabilities; those that are none yet are logits."""
    numbers = scores.astype(np.float64)
    sums = numbers.sum(axis=-1)
    if (numbers >= 0).all() and (abs(sums - 1) <= _SUM_OF_PROBABILITIES).all():
        return numbers
    return softmax(numbers)


def characters_of(setting: Setting) -> list[str]:
    """Return the characters that the parameter ``characters`` names.

    A list, ``classes`` (the model's file of classes, the default where it has some), or
    ``metadata:KEY``, one per line.

    Raises:
        DataError: They cannot be found (E875).
    """
    given = setting.parameters.get("characters", (str, list), None)
    if isinstance(given, list):
        if not all(isinstance(item, str) and item and "\n" not in item for item in given):
            raise setting.parameters.error(
                "has characters that are no text of one line", "Write each as a text in quotes."
            )
        return given
    if setting.classes and given in (None, "classes"):
        return list(setting.classes)
    key = (given or "").removeprefix("metadata:")
    if given is None or key == given or key not in setting.metadata:
        keys = ", ".join(sorted(setting.metadata)) or "none"
        raise setting.parameters.error(
            f"cannot find its characters ({given!r})",
            "Give a list, `classes` with the model's `classes:` file, or `metadata:KEY`; the "
            f"model's metadata keys are: {keys}.",
        )
    return setting.metadata[key].split("\n") if setting.metadata[key] else []


def create(setting: Setting) -> CtcText:
    """Return the decoder.

    Raises:
        DataError: A parameter is wrong, or the characters cannot be found (E875).
    """
    setting.parameters.only("characters")
    return CtcText(setting.output, characters_of(setting))
