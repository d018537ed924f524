"""Character and word error rate: Levenshtein edits over the length of the truth, summed first.

The text is what the model's decoder reads; without one a string output, or (parameter
``decode: ctc``) class scores by :mod:`edgedeploy.decode.ctc`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from edgedeploy.decode import Decoder, make_decoder
from edgedeploy.parity.metrics import (
    Case,
    Factory,
    Options,
    SumMetric,
    output_error,
    taken,
    truth_error,
)
from edgedeploy.profile.types import DecodeSpec


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


class EditRate(SumMetric):
    """Records are ``[edits, true length]``."""

    higher_is_better = False

    def __init__(
        self, output: str, unit_of: Literal["characters", "words"], decoder: Decoder | None
    ) -> None:
        self._output = output
        self._words = unit_of == "words"
        self._decoder = decoder

    def score(self, case: Case) -> Any | None:
        """Return edits and length of the sample's text."""
        if case.truth is None or isinstance(case.truth, list | dict):
            raise truth_error(case, "a text")
        truth, found = str(case.truth), self._text(case)
        if self._words:
            return [edits(truth.split(), found.split()), len(truth.split())]
        return [edits(truth, found), len(truth)]

    def _text(self, case: Case) -> str:
        if self._decoder is not None:
            return str(self._decoder.arrays(case.outputs, case.geometry)["text"][0])
        output = taken(case.outputs, self._output)
        if output.dtype.kind in "OU" and output.size == 1:
            return str(output.reshape(-1)[0])
        raise output_error(
            self._output, "is no text; give `decode: ctc` and `characters: metadata:KEY`"
        )

    def from_sums(self, sums: np.ndarray) -> np.ndarray:
        """Return all edits over all true characters or words."""
        return np.asarray(sums[:, 0] / sums[:, 1])

    def correct(self, record: Any) -> bool | None:
        """Return whether the text is right to the letter."""
        return bool(record[0] == 0)


def _decoder(options: Options) -> Decoder | None:
    """Return what reads the text: the model's decoder, or that of the metric's own parameters."""
    if options.decoder is not None:
        options.only()
        return options.answering("text")
    options.only("decode", "characters")
    if options.choice("decode", ("ctc",), None) is None:
        return None
    return make_decoder(
        DecodeSpec(
            name="ctc",
            output=options.output,
            parameters={k: v for k, v in options.spec.parameters.items() if k != "decode"},
        ),
        outputs=(options.output,),
        metadata=options.metadata,
        classes=(),
    )


def _cer(options: Options) -> EditRate:
    return EditRate(options.output, "characters", _decoder(options))


def _wer(options: Options) -> EditRate:
    return EditRate(options.output, "words", _decoder(options))


METRICS: Mapping[str, Factory] = {"cer": _cer, "wer": _wer}
