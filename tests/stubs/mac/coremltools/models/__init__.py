"""Compiled models: loading and predicting."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from coremltools import ComputeUnit, _log
from edgedeploy.mil.interpreter import Interpreter
from edgedeploy.mil.read import read_package

_TYPES = {"float16": ("float32",), "float32": ("float32",), "int32": ("int32",)}


class MLState:
    """The states of a model between predictions, by name."""

    def __init__(self, values: dict[str, np.ndarray]) -> None:
        self._values = values

    def read_state(self, name: str) -> np.ndarray:
        """Return a state."""
        if name not in self._values:
            raise RuntimeError(f"no state {name}")
        return self._values[name]

    def write_state(self, name: str, value: np.ndarray) -> None:
        """Set a state."""
        if self.read_state(name).shape != value.shape or value.dtype != np.float16:
            raise RuntimeError(f"state {name} does not fit")
        self._values[name] = value


class CompiledMLModel:
    """A loaded ``.mlmodelc``."""

    def __init__(self, path: str, compute_units: ComputeUnit = ComputeUnit.ALL) -> None:
        if not isinstance(path, str) or not isinstance(compute_units, ComputeUnit):
            raise TypeError("a path (str) and a ComputeUnit are wanted")
        package = Path(path, "stand-in.mlpackage")
        if not path.endswith(".mlmodelc") or not package.is_dir():
            raise RuntimeError(f"Error reading {path}: no compiled model")
        _log(f"load {compute_units.name}")
        self._program = read_package(package)
        self._machine = Interpreter(self._program)
        self._images = _images(package)

    def make_state(self) -> MLState:
        """Return states of zeros."""
        if not self._machine.states:
            raise RuntimeError("the model keeps no state")
        zeros = {name: np.zeros_like(v, np.float16) for name, v in self._machine.states.items()}
        return MLState(zeros)

    def predict(self, data: dict[str, Any], state: MLState | None = None) -> dict[str, Any]:
        """Return the outputs by name."""
        if self._machine.states and state is None:
            raise RuntimeError("the model keeps state, and none was given")
        wanted = {item.name for item in self._program.inputs} - set(self._machine.states)
        if set(data) != wanted:
            raise RuntimeError(f"inputs {sorted(wanted)} are required, not {sorted(data)}")
        feed = {name: self._fed(name, value) for name, value in data.items()}
        for name in self._machine.states:
            self._machine.states[name] = state.read_state(name).astype(np.float32)
        made = self._machine.run(feed)
        for name, value in self._machine.states.items():
            state.write_state(name, value.astype(np.float16))
        return dict(made)

    def _fed(self, name: str, value: Any) -> np.ndarray:
        if name in self._images:
            colour = self._images[name]
            if not isinstance(value, Image.Image) or value.mode != (
                "L" if colour == "g" else "RGB"
            ):
                raise TypeError(f"Image input, '{name}' must be of type PIL.Image.Image")
            pixels = np.atleast_3d(np.asarray(value, np.float32))
            pixels = pixels[..., ::-1] if colour == "b" else pixels
            return pixels.transpose(2, 0, 1)[None]
        feature = self._program.features[name]
        if not isinstance(value, np.ndarray) or value.dtype.name not in _TYPES[feature.dtype]:
            raise TypeError(f"{name} takes {feature.dtype}")
        if value.ndim == 0:
            raise RuntimeError(f"{name}: MultiArray shape is empty")
        return value.astype(feature.dtype)


def _images(package: Path) -> dict[str, str]:
    """Return ``g``, ``r`` or ``b`` by the name of each input that is an image."""
    from coremltools.proto import FeatureTypes_pb2, Model_pb2

    spec = Model_pb2.Model()
    spec.ParseFromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    spaces = FeatureTypes_pb2.ImageFeatureType
    letters = {spaces.GRAYSCALE: "g", spaces.RGB: "r", spaces.BGR: "b"}
    return {
        item.name: letters[item.type.imageType.colorSpace]
        for item in spec.description.input
        if item.type.WhichOneof("Type") == "imageType"
    }
