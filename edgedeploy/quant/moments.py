"""The moments of activations, on disk: what rounding that knows the data reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgedeploy.errors import DataError

FORMAT = 2
INDEX = "moments.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """The moments of a model's layers.

    Attributes:
        folder: Where the matrices lie.
        files: Stem of two file names by node name: ``0000.npy`` and ``0000-mean.npy``.
        factors: By node name, what the inputs of its one group were multiplied by afterwards.
    """

    folder: Path
    files: Mapping[str, str]
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of(self, node: str) -> np.ndarray | None:
        """Return the mean of ``x x^T`` over a layer's operands, ``[groups, inputs, inputs]``.

        None where nothing was gathered for the layer; float32, mapped from its file.
        """
        name = self.files.get(node)
        if name is None:
            return None
        found: np.ndarray = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        by = self.factors.get(node)
        return found if by is None else found * by[:, None] * by[None, :]

    def mean_of(self, node: str) -> np.ndarray | None:
        """Return the mean of a layer's operands, float32 ``[groups, inputs]``, else None."""
        name = self.files.get(node)
        if name is None:
            return None
        found: np.ndarray = np.load(self.folder / f"{name}-mean.npy")
        return found * self.factors.get(node, 1.0)

    def scaled(self, factors: Mapping[str, np.ndarray]) -> Moments:
        """Return the moments after the inputs of some nodes, of one group, were multiplied."""
        return replace(self, factors={**self.factors, **factors})

    @classmethod
    def read(cls, folder: Path) -> Moments:
        """Return the moments that :func:`edgedeploy.quant.gather.gather` wrote.

        Raises:
            DataError: The folder holds no moments of a known format (E263).
        """
        try:
            data = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            if data["moments"] != FORMAT:
                raise ValueError(f"their format is {data['moments']}, not {FORMAT}")
            return cls(folder=folder, files=dict(data["files"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"cannot read the moments of the activations: {error}",
                code="E263",
                subject=INDEX,
                hint="Calibrate again: name the calibration data.",
            ) from error
