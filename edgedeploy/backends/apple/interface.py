"""What an app feeds a package and gets from it, and what that is in the ONNX model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from edgedeploy.signature import Signature, TensorSpec

INTERFACE = "interface.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of the program.

    Attributes:
        onnx_name: Name in the ONNX model.
        name: Name in the program: Core ML wants identifiers.
        onnx_dtype: Type in the ONNX model, as a NumPy name.
        dtype: Type at the interface: ``float16``, ``float32`` or ``int32``.
        dims: Sizes; the name of an open one.
    """

    onnx_name: str
    name: str
    onnx_dtype: str
    dtype: str
    dims: tuple[int | str, ...]

    def spec(self) -> TensorSpec:
        """Return the tensor that it is in the ONNX model."""
        return TensorSpec(name=self.onnx_name, dtype=self.onnx_dtype, dims=self.dims)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the port whose fields are ``data``."""
        return cls(**{**data, "dims": tuple(data["dims"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """All inputs and outputs, in the order of the ONNX model."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def signature(self) -> Signature:
        """The inputs and outputs of the ONNX model."""
        return Signature(
            inputs=tuple(port.spec() for port in self.inputs),
            outputs=tuple(port.spec() for port in self.outputs),
        )

    def renamed(self) -> Iterator[Port]:
        """Yield what has another name in the package than in the ONNX model."""
        yield from (item for item in (*self.inputs, *self.outputs) if item.name != item.onnx_name)

    def write(self, folder: Path) -> None:
        """Write it as ``interface.json`` into a folder."""
        text = json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False)
        (folder / INTERFACE).write_text(text + "\n", encoding="utf-8", newline="\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return what :meth:`write` wrote."""
        data = json.loads((folder / INTERFACE).read_text(encoding="utf-8"))
        return cls(
            inputs=tuple(Port.from_json(item) for item in data["inputs"]),
            outputs=tuple(Port.from_json(item) for item in data["outputs"]),
        )
