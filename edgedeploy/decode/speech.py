"""Speech or none, frame by frame: scores at or above a threshold, and the spans that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgedeploy.decode import Answer, AnswerKind, Decoder, Setting, finite, output_error, taken


def spans(speech: np.ndarray) -> list[tuple[int, int]]:
    """Return the runs of ones as ``(first frame, frame after the last)``.

    Args:
        speech: Whole numbers ``[frames]``, 0 or 1.
    """
    edges = np.flatnonzero(np.diff(speech, prepend=0, append=0))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


class Speech(Decoder):
    """Reads scores of any shape in order: one frame each."""

    kind: ClassVar[AnswerKind] = "speech"

    def __init__(self, output: str, threshold: float, step_s: float | None) -> None:
        self._output = output
        self._threshold = threshold
        self._step_s = step_s

    def steps(self) -> tuple[str, ...]:
        """Return how an app finds speech."""
        return (f"A frame with a score of {self._threshold:g} or more is speech.",)

    def arrays(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> dict[str, np.ndarray]:
        """Return ``scores`` float64 ``[frames]`` and ``speech`` int64 ``[frames]``.

        Raises:
            DataError: The output holds no numbers (E874).
        """
        found = taken(outputs, self._output)
        if found.dtype.kind not in "fiub" or found.size == 0:
            raise output_error(self._output, f"is {found.dtype}{list(found.shape)}, no scores")
        scores = found.reshape(-1).astype(np.float64)
        return {"scores": scores, "speech": (scores >= self._threshold).astype(np.int64)}

    def answer(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> Answer:
        """Return the spans of speech within the frames of one call."""
        return self._say(self.arrays(outputs, geometry)["scores"])

    def join(self, answers: Sequence[Answer]) -> Answer:
        """Return the spans of speech within all frames; they go on from call to call."""
        every = [score for answer in answers for score in answer.value["scores"]]
        return self._say(np.array([np.nan if x is None else x for x in every], np.float64))

    def _say(self, scores: np.ndarray) -> Answer:
        speech = (scores >= self._threshold).astype(np.int64)
        step, unit = (1, "frames") if self._step_s is None else (self._step_s, "s")
        found = [[round(start * step, 6), round(end * step, 6)] for start, end in spans(speech)]
        value = {
            "scores": [finite(x) for x in scores],
            "spans": found,
            "unit": unit,
        }
        words = ", ".join(f"{start:g}-{end:g}" for start, end in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        share = f"{100 * float(speech.mean()):.0f} % of {len(scores)} frames"
        line = f"speech {words} {unit}{more}, {share}" if found else f"no speech, {share}"
        return Answer(kind="speech", value=value, line=line)


def create(setting: Setting) -> Speech:
    """Return the decoder.

    Raises:
        DataError: A parameter is wrong (E875).
    """
    given = setting.parameters
    given.only("threshold", "step")
    step = given.get("step", (int, float), None)
    if step is not None and not 0 < step < float("inf"):
        raise given.error(f"cannot use {step} for 'step'", "Give the seconds of a frame.")
    return Speech(
        setting.output,
        float(given.get("threshold", (int, float), 0.5)),
        None if step is None else float(step),
    )
