"""What an app feeds a package and gets from it, and what that is in the ONNX model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from edgedeploy.profile.types import ImagePreprocess
from edgedeploy.signature import Signature, TensorSpec

INTERFACE = "interface.json"

Kind = Literal["array", "image", "state", "classes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of the program.

    Attributes:
        onnx_name: Name in the ONNX model.
        name: Name in the program: Core ML wants identifiers. The input and the output of a state
            have the state's name.
        onnx_dtype: Type in the ONNX model, as a NumPy name.
        dtype: Type at the interface: ``float16``, ``float32`` or ``int32``.
        dims: Sizes; the name of an open one.
        kind: ``array``; ``image`` for pixels; ``state`` for what Core ML keeps between
            predictions; ``classes`` for probabilities by the name of the class.
        image: How an image file becomes the ONNX input; its arithmetic is inside the program.
        classes: Names of the classes, in the order of the ONNX output.
    """

    onnx_name: str
    name: str
    onnx_dtype: str
    dtype: str
    dims: tuple[int | str, ...]
    kind: Kind = "array"
    image: ImagePreprocess | None = None
    classes: tuple[str, ...] = ()

    def spec(self) -> TensorSpec:
        """Return the tensor that it is in the ONNX model."""
        return TensorSpec(name=self.onnx_name, dtype=self.onnx_dtype, dims=self.dims)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the port whose fields are ``data``."""
        image = data["image"]
        if image is not None:
            lists = {key: tuple(image[key]) for key in ("mean", "std", "bake")}
            image = ImagePreprocess(**{**image, **lists})
        rest = {"dims": tuple(data["dims"]), "classes": tuple(data["classes"])}
        return cls(**{**data, "image": image, **rest})


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
        ports = (*self.inputs, *self.outputs)
        yield from (item for item in ports if item.name != item.onnx_name and item.kind != "state")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the profile asks of the interface beyond arrays.

    Attributes:
        images: Inputs that take pixels, and how those become the ONNX input.
        states: ``(input, output)`` names of what Core ML shall keep between predictions.
        classes: Names of the classes of the first output; empty where it stays an array.
    """

    images: Mapping[str, ImagePreprocess] = field(default_factory=dict)
    states: tuple[tuple[str, str], ...] = ()
    classes: tuple[str, ...] = ()

    def kind(self, name: str) -> Kind:
        """Return what an input or output of the ONNX model becomes."""
        if name in self.images:
            return "image"
        return "state" if any(name in pair for pair in self.states) else "array"
