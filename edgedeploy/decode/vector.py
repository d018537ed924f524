"""An embedding: one vector, of length 1 unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from edgedeploy.decode import Answer, AnswerKind, Decoder, Setting, finite, output_error, taken

_SHOWN = 4


class Vector(Decoder):
    """Reads ``[.., size]``, all other axes 1."""

    kind: ClassVar[AnswerKind] = "vector"

    def __init__(self, output: str, normalise: bool) -> None:
        self._output = output
        self._normalise = normalise

    def steps(self) -> tuple[str, ...]:
        """Return what an app does with the vector."""
        return ("Divide the vector by its length.",) if self._normalise else ()

    def arrays(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> dict[str, np.ndarray]:
        """Return ``vector`` float64 ``[size]``; one of length 0 stays as it is.

        Raises:
            DataError: The output is no single vector (E874).
        """
        found = taken(outputs, self._output)
        if found.dtype.kind not in "fiu" or found.ndim == 0 or found.size != found.shape[-1]:
            raise output_error(self._output, f"has shape {list(found.shape)}, not [1, size]")
        vector = found.reshape(-1).astype(np.float64)
        length = float(np.linalg.norm(vector))
        return {"vector": vector / length if self._normalise and length > 0 else vector}

    def answer(
        self, outputs: Mapping[str, np.ndarray], geometry: Mapping[str, Any] | None
    ) -> Answer:
        """Return the vector."""
        vector = self.arrays(outputs, geometry)["vector"]
        first = " ".join(f"{x:.4f}" for x in vector[:_SHOWN])
        more = " ..." if len(vector) > _SHOWN else ""
        value = {"vector": [finite(x) for x in vector]}
        line = f"{len(vector)} numbers of length {np.linalg.norm(vector):.4g}: {first}{more}"
        return Answer(kind="vector", value=value, line=line)


def create(setting: Setting) -> Vector:
    """Return the decoder.

    Raises:
        DataError: A parameter is wrong (E875).
    """
    setting.parameters.only("normalise")
    return Vector(setting.output, setting.parameters.get("normalise", bool, True))
