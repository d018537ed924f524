"""The inputs and outputs of a model: names, dtypes and dims, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Dim = int | str | None
"""A fixed size, the name of a dynamic axis, or None for an unnamed dynamic axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: Tensor name in the graph.
        dtype: NumPy dtype name (``float32``, ``int64``, ``bool``, ``float16``), ``bfloat16`` or
            ``string``.
        dims: One entry per axis; None when the rank itself is unknown.
    """

    name: str
    dtype: str
    dims: tuple[Dim, ...] | None

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON data."""
        dims = None if self.dims is None else list(self.dims)
        return {"name": self.name, "dtype": self.dtype, "dims": dims}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TensorSpec:
        """Return the spec that :meth:`to_json` wrote."""
        dims = data["dims"]
        return cls(
            name=data["name"], dtype=data["dtype"], dims=None if dims is None else tuple(dims)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """All inputs and outputs, in graph order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the signature as JSON data."""
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Signature:
        """Return the signature that :meth:`to_json` wrote."""
        return cls(
            inputs=tuple(TensorSpec.from_json(item) for item in data["inputs"]),
            outputs=tuple(TensorSpec.from_json(item) for item in data["outputs"]),
        )
