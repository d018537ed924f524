"""Decoders: how the outputs of a model become an answer; one file per decoder.

A decoder makes two things of the outputs of one call: canonical *arrays*, which metrics read, and
an *answer*, JSON data that a person or an app can use. Both come from the same numbers, so that
what is scored is what is shown. Each file has a function ``create(setting) -> Decoder``.

========  ===========================================================================
kind      arrays
========  ===========================================================================
classes   ``scores`` float64 ``[classes]``, or ``label`` ``[1]`` where the model gives that
text      ``text`` str ``[1]``, ``confidence`` float64 ``[1]`` in 0..1 (NaN: not known)
boxes     ``boxes`` float64 ``[n, 4]`` x1 y1 x2 y2 in pixels of the original image (edges:
          it spans 0..width), ``scores`` float64 ``[n]`` best first, ``classes`` int64 ``[n]``
speech    ``scores`` float64 ``[frames]``, ``speech`` int64 ``[frames]``, 0 or 1
vector    ``vector`` float64 ``[size]``
values    the outputs as they are
========  ===========================================================================
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgedeploy.config.nearest import advice, shorten
from edgedeploy.errors import DataError
from edgedeploy.parameters import Parameters
from edgedeploy.profile.types import DecodeSpec

if TYPE_CHECKING:
    import numpy as np

AnswerKind = Literal["classes", "text", "boxes", "speech", "vector", "values"]

_SHARED = ("head", "values")
"""Files of this package that no profile names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model says, as JSON data.

    Attributes:
        kind: What ``value`` is.
        value: ``classes``: ``[{"class": n, "label": text, "score": x}..]``, best first, empty
            where none is certain enough; ``text``: ``{"text": t, "confidence": x}``; ``boxes``:
            ``[{"box": [x1, y1, x2, y2], "class": n, "label": text, "score": x}..]`` in pixels of
            the original image; ``speech``: ``{"scores": [x..], "spans": [[start, end]..],
            "unit": "s" | "frames"}``; ``vector``: ``{"vector": [x..]}``; ``values``: output ->
            ``{"dtype", "shape", "min", "mean", "max"}``, or ``texts`` for the last
            three. A number that is not finite is null.
        line: The answer in words, one line.
    """

    kind: AnswerKind
    value: Any
    line: str

    def words(self) -> str:
        """Return the answer as one line for a terminal."""
        return self.line

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON data."""
        return {"kind": self.kind, "value": self.value, "words": self.line}


class Decoder(ABC):
    """Makes arrays and answers of one model's outputs; made by :func:`make_decoder`."""

    kind: ClassVar[AnswerKind]
    labels: tuple[str, ...] = ()
    """What the classes of the output are called, or its characters; an app needs them too."""

    @abstractmethod
    def steps(self) -> tuple[str, ...]:
        """Return how an app gets the answer from the output, a sentence each, in order."""

    @abstractmethod
    def arrays(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> dict[str, np.ndarray]:
        """Return the canonical arrays of the decoder's kind.

        Args:
            outputs: What the model gave for one sample, by output name.
            geometry: Where an image went (:class:`edgedeploy.data.preprocess.Geometry` as JSON
                data); None where the sample was no image.

        Raises:
            DataError: The outputs do not suit (E874).
        """

    @abstractmethod
    def answer(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> Answer:
        """Return the answer; arguments and errors are those of :meth:`arrays`."""

    def join(self, answers: Sequence[Answer]) -> Answer:
        """Return one answer for a sequence of calls, such as the frames of a recording.

        Args:
            answers: Of this decoder, in order, at least one.
        """
        if len(answers) == 1:
            return answers[0]
        parts = "; ".join(answer.line for answer in answers[:3])
        more = f"; ... {len(answers)} in all" if len(answers) > 3 else ""
        value = {"sequence": [answer.value for answer in answers]}
        return Answer(kind=self.kind, value=value, line=parts + more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a decoder is made from.

    Attributes:
        spec: The profile's words.
        outputs: The model's outputs, in order.
        metadata: The model's metadata, which parameters ``metadata:KEY`` refer to.
        classes: Names of classes, in the order of the output; empty: they have numbers alone.
    """

    spec: DecodeSpec
    outputs: Sequence[str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    classes: Sequence[str] = ()

    @property
    def output(self) -> str:
        """Name of the decoded output."""
        return self.spec.output or self.outputs[0]

    @property
    def parameters(self) -> Parameters:
        """The decoder's parameters; faults are E875."""
        return Parameters(
            owner=f"the decoder {self.spec.name}",
            subject=self.spec.name,
            values=self.spec.parameters,
            code="E875",
        )

    def label(self, number: int) -> str:
        """Return the name of a class, its number as text where it has none."""
        return self.classes[number] if 0 <= number < len(self.classes) else str(number)


def registered() -> tuple[str, ...]:
    """Return the names of all decoders that a profile can name, sorted."""
    return tuple(
        sorted(item.name for item in pkgutil.iter_modules(__path__) if item.name not in _SHARED)
    )


def make_decoder(
    spec: DecodeSpec | None,
    *,
    outputs: Sequence[str],
    metadata: Mapping[str, str],
    classes: Sequence[str],
) -> Decoder:
    """Return the decoder of a model.

    Args:
        spec: The profile's words; None describes the outputs as numbers (kind ``values``).
        outputs: Names of the model's outputs, in order, at least one.
        metadata: The model's metadata.
        classes: Names of its classes; empty where the profile names none.

    Raises:
        DataError: There is no such decoder (E873), a parameter is wrong (E875), or the output
            that it names does not exist (E874).
    """
    if spec is None:
        from edgedeploy.decode.values import Values

        return Values()
    if spec.name not in registered():
        raise DataError(
            f"there is no decoder '{shorten(spec.name)}'",
            code="E873",
            subject=spec.name,
            hint=advice(spec.name, registered()),
        )
    setting = Setting(spec=spec, outputs=outputs, metadata=metadata, classes=classes)
    if setting.output not in outputs:
        raise output_error(setting.output, f"does not exist; there are {', '.join(outputs)}")
    made: Decoder = importlib.import_module(f"{__name__}.{spec.name}").create(setting)
    return made


def finite(number: float) -> float | None:
    """Return a number as JSON data has it: None where it is none or infinite."""
    return float(number) if math.isfinite(number) else None


def output_error(output: str, what: str) -> DataError:
    """Return the error for an output that a decoder cannot read (E874)."""
    return DataError(
        f"output '{output}' {what}",
        code="E874",
        subject=output,
        hint="Name the right output under `decode: {output: ...}`; `inspect` lists them.",
    )


def taken(outputs: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return an output by name.

    Raises:
        DataError: There is none (E874).
    """
    try:
        return outputs[name]
    except KeyError:
        raise output_error(name, f"does not exist; there are {', '.join(outputs)}") from None
