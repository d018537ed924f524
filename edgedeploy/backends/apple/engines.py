"""What computes a package: our interpreter, or Core ML itself on a Mac."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgedeploy.backends.apple.interface import Interface
from edgedeploy.backends.apple.package import PACKAGE
from edgedeploy.errors import BuildError
from edgedeploy.mil.interpreter import Interpreter, Observe
from edgedeploy.mil.program import Program
from edgedeploy.runner import Evidence

States = dict[str, np.ndarray]
"""Value of each state by name, float16."""


class Engine(Protocol):
    """Something that computes predictions.

    Attributes:
        evidence: What its predictions prove.
    """

    evidence: Evidence

    def predict(self, feed: Mapping[str, np.ndarray], states: States) -> dict[str, Any]:
        """Return the package's outputs by name; ``states`` get their new values.

        Args:
            feed: Inputs by name; pixels as float32 ``[1, channels, height, width]``.
            states: Values before, which are replaced.

        Raises:
            BuildError: It failed (E330, E362).
        """


class Interpreted:
    """Our interpreter: what the program says, without any runtime of Apple's.

    Args:
        program: Of the package.
        observe: Told of every operation.

    Raises:
        BuildError: It has operations that are not known here (E361).
    """

    evidence: Evidence = "interpreted"

    def __init__(self, program: Program, observe: Observe | None = None) -> None:
        self._machine = Interpreter(program, observe)

    def predict(self, feed: Mapping[str, np.ndarray], states: States) -> dict[str, Any]:
        """Return the package's outputs by name; ``states`` get their new values."""
        for name, value in states.items():
            self._machine.states[name] = value.astype(np.float32)
        made = self._machine.run(feed)
        for name in states:
            states[name] = self._machine.states[name].astype(np.float16)
        return made


class Native:
    """Core ML on this Mac, through coremltools; it chooses the units itself.

    Nobody has run this on a Mac so far: docs/verified-hardware.md.

    Args:
        folder: What a compile wrote.
        program: Of the package, for the kinds of its features.

    Raises:
        BuildError: Core ML does not load it (E317).
    """

    evidence: Evidence = "host-runtime"

    def __init__(self, folder: Path, program: Program) -> None:
        import coremltools

        self._features = program.features
        ports = Interface.read(folder).inputs
        self._turned = {item.name for item in ports if item.image and item.image.colour == "bgr"}
        try:
            self._model: Any = coremltools.models.MLModel(str(folder / PACKAGE))
        except Exception as error:
            raise BuildError(
                f"Core ML does not load it: {' '.join(str(error).split())}",
                code="E317",
                subject=PACKAGE,
                hint="build it for the version of macOS that this Mac runs, or an older one",
            ) from error

    def predict(self, feed: Mapping[str, np.ndarray], states: States) -> dict[str, Any]:
        """Return the package's outputs by name; ``states`` get their new values."""
        given = {name: self._fed(name, value) for name, value in feed.items()}
        try:
            state: Any = self._model.make_state() if states else None
            for name, value in states.items():
                state.write_state(name, value)
            made = dict(self._model.predict(given, state))
            for name in states:
                states[name] = np.asarray(state.read_state(name), np.float16)
        except Exception as error:
            raise BuildError(
                f"Core ML failed while running: {' '.join(str(error).split())}",
                code="E330",
                hint="check that the values fit the model (indices in range, sizes that agree)",
            ) from error
        return made

    def _fed(self, name: str, value: np.ndarray) -> Any:
        """Return an input as Core ML takes it: pixels as an image of Pillow's."""
        if self._features[name].kind != "image":
            return value
        from PIL import Image

        pixels = value[0].transpose(1, 2, 0).astype(np.uint8)
        if name in self._turned:  # Core ML turns the channels of an image round itself
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def engine(folder: Path, program: Program, observe: Observe | None = None) -> Engine:
    """Return what computes a package on this machine.

    Args:
        folder: What a compile wrote.
        program: Of the package.
        observe: Told of every operation; only the interpreter can.

    Raises:
        BuildError: It does not load (E317), or has unknown operations (E361).
    """
    if observe is None and has_core_ml():
        return Native(folder, program)
    return Interpreted(program, observe)


def has_core_ml() -> bool:
    """Return whether this machine is a Mac on which coremltools reaches Core ML."""
    there = platform.system() == "Darwin"
    return there and importlib.util.find_spec("coremltools.libcoremlpython") is not None
