"""Character and word error rate: Levenshtein edits over the length of the truth, summed first.

The text comes from a string output, or from class scores by greedy CTC decoding (Graves et al.,
ICML 2006, section 3.2): the best class of each step, repeats merged, blanks (class 0) dropped.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from edgedeploy.parity.metrics import (
    Case,
    Factory,
    Options,
    SumMetric,
    output_error,
    parameter_error,
    taken,
    truth_error,
)

BLANK = 0


def edits(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Return the least number of insertions, deletions and substitutions between the two.

    The dynamic programme of Wagner & Fischer (J. ACM 21, 1974), a row at a time.
    """
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(item, len(numbers)) for item in second], np.int64)
    ramp = np.arange(len(second) + 1)
    previous = ramp
    for row, item in enumerate(first, 1):
        best = np.empty_like(ramp)
        best[0] = row
        differs = codes != numbers.get(item, -1)
        best[1:] = np.minimum(previous[1:] + 1, previous[:-1] + differs)
        # An insertion adds 1 to the value on the left: a running minimum along a ramp.
        previous = np.minimum.accumulate(best - ramp) + ramp
    return int(previous[-1])


def ctc_text(scores: np.ndarray, characters: Sequence[str]) -> str:
    """Return the greedy decoding.

    Args:
        scores: ``[steps, classes]``; class 0 is the blank, class ``i`` is ``characters[i - 1]``.
        characters: The characters; where there is one class more, the last is a space (the
            convention of PaddleOCR's recognisers).
    """
    best = scores.argmax(axis=1)
    kept = best[np.flatnonzero(np.diff(best, prepend=-1))]
    return "".join(
        characters[label - 1] if label <= len(characters) else " "
        for label in kept
        if label != BLANK
    )


class EditRate(SumMetric):
    """Records are ``[edits, true length]``."""

    higher_is_better = False

    def __init__(
        self, output: str, unit_of: Literal["characters", "words"], characters: Sequence[str] | None
    ) -> None:
        self._output = output
        self._words = unit_of == "words"
        self._characters = characters

    def score(self, case: Case) -> Any | None:
        """Return edits and length of the sample's text."""
        if case.truth is None or isinstance(case.truth, list | dict):
            raise truth_error(case, "a text")
        truth, found = str(case.truth), self._text(taken(case.outputs, self._output))
        if self._words:
            return [edits(truth.split(), found.split()), len(truth.split())]
        return [edits(truth, found), len(truth)]

    def _text(self, output: np.ndarray) -> str:
        if output.dtype.kind in "OU" and output.size == 1:
            return str(output.reshape(-1)[0])
        if self._characters is None:
            raise output_error(
                self._output, "is no text; give `decode: ctc` and `characters: metadata:KEY`"
            )
        shape: tuple[int, ...] = output.shape
        if len(shape) < 2 or output.size != shape[-1] * shape[-2]:
            raise output_error(self._output, f"has shape {list(shape)}, not [1, steps, classes]")
        scores = output.reshape(shape[-2:])
        if not 1 <= scores.shape[1] - len(self._characters) <= 2:
            raise output_error(
                self._output,
                f"has {scores.shape[1]} classes, which do not fit {len(self._characters)} "
                "characters and a blank",
            )
        return ctc_text(scores, self._characters)

    def from_sums(self, sums: np.ndarray) -> np.ndarray:
        """Return all edits over all true characters or words."""
        return np.asarray(sums[:, 0] / sums[:, 1])

    def correct(self, record: Any) -> bool | None:
        """Return whether the text is right to the letter."""
        return bool(record[0] == 0)


def _characters(options: Options) -> list[str] | None:
    options.only("decode", "characters")
    if options.choice("decode", ("ctc",), None) is None:
        return None
    given = options.get("characters", (str, list), None)
    if isinstance(given, list):
        return [str(character) for character in given]
    key = (given or "").removeprefix("metadata:")
    if given is None or key == given or key not in options.metadata:
        keys = ", ".join(sorted(options.metadata)) or "none"
        raise parameter_error(
            options.spec.name,
            f"cannot find its characters ({given!r})",
            f"Give a list, or `metadata:KEY`; the model's metadata keys are: {keys}.",
        )
    return options.metadata[key].split("\n") if options.metadata[key] else []


def _cer(options: Options) -> EditRate:
    return EditRate(options.output, "characters", _characters(options))


def _wer(options: Options) -> EditRate:
    return EditRate(options.output, "words", _characters(options))


METRICS: Mapping[str, Factory] = {"cer": _cer, "wer": _wer}
