"""Outputs of a model without a decoder: numbers, described."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from edgedeploy.decode import Answer, AnswerKind, Decoder

_SHOWN = 4
"""Texts of an output that its words hold."""


class Values(Decoder):
    """Describes every output by type, shape and extremes; texts are told."""

    kind: ClassVar[AnswerKind] = "values"

    def steps(self) -> tuple[str, ...]:
        """Return nothing: the numbers are the answer."""
        return ()

    def arrays(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> dict[str, np.ndarray]:
        """Return the outputs as they are."""
        return dict(outputs)

    def answer(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> Answer:
        """Return what the outputs look like."""
        value = {name: _about(array) for name, array in outputs.items()}
        return Answer(
            kind="values",
            value=value,
            line="; ".join(f"{name} {_words(about)}" for name, about in value.items()),
        )


def _about(array: np.ndarray) -> dict[str, Any]:
    """Return what an output looks like; ``min``, ``mean`` and ``max`` are of finite numbers."""
    found: dict[str, Any] = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if array.dtype.kind in "OUS":
        found["texts"] = [str(item) for item in array.reshape(-1)]
    if array.dtype.kind not in "fiub":
        return found
    numbers = array.astype(np.float64).reshape(-1)
    finite = numbers[np.isfinite(numbers)]
    if finite.size < numbers.size:
        found["nonfinite"] = int(numbers.size - finite.size)
    if finite.size:
        found.update(min=float(finite.min()), mean=float(finite.mean()), max=float(finite.max()))
    return found


def _words(about: Mapping[str, Any]) -> str:
    if "texts" in about:
        more = ", ..." if len(about["texts"]) > _SHOWN else ""
        return ", ".join(map(repr, about["texts"][:_SHOWN])) + more
    text = f"{about['dtype']}{about['shape']}"
    if "min" in about:
        text += f" {about['min']:.4g}..{about['max']:.4g}, mean {about['mean']:.4g}"
    if "nonfinite" in about:
        text += f", {about['nonfinite']} not finite"
    return text
