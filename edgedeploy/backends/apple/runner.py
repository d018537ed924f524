"""Running Core ML packages by the names and types of the ONNX models that they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.backends.apple.engines import Engine, States, engine
from edgedeploy.backends.apple.interface import Interface, Port
from edgedeploy.backends.apple.package import PACKAGE
from edgedeploy.backends.apple.pixels import pixels_of
from edgedeploy.backends.inputs import Bounds, Inputs, checked_inputs
from edgedeploy.errors import BuildError, Diagnostic, IntegrityError
from edgedeploy.mil.interpreter import Observe
from edgedeploy.mil.program import Program
from edgedeploy.mil.read import read_package
from edgedeploy.runner import Closing, Evidence
from edgedeploy.signature import Signature

INT32 = np.iinfo(np.int32)


class CoreMlRunner(Closing):
    """A loaded package; an :class:`edgedeploy.runner.Runner`.

    Inputs that are images take the samples of a build, which were preprocessed, back to pixels.
    States are fed and answered like the inputs and outputs that they are in the ONNX model, so that
    whoever carries them needs not know.

    Args:
        folder: What a compile wrote.
        observe: Told of every operation; the package is interpreted then, on a Mac too.

    Raises:
        BuildError: It does not load (E317), or has operations that are not known here (E361).
    """

    def __init__(self, folder: Path, *, observe: Observe | None = None) -> None:
        try:
            self._interface = Interface.read(folder)
            self.program: Program = read_package(folder / PACKAGE)
        except (IntegrityError, OSError, KeyError, TypeError, ValueError) as error:
            raise BuildError(
                f"the package does not load: {' '.join(str(error).split())}",
                code="E317",
                subject=PACKAGE,
                hint="build the artifact again",
            ) from error
        self._engine: Engine | None = engine(folder, self.program, observe)
        self._evidence = self._engine.evidence
        self._signature = self._interface.signature
        self._bounds = _bounds(self._interface, self.program)

    @property
    def signature(self) -> Signature:
        """The inputs and outputs by the names and types of the ONNX model."""
        return self._signature

    @property
    def evidence(self) -> Evidence:
        """``interpreted``: our reading of the program; ``host-runtime`` where Core ML ran it."""
        return self._evidence

    def run(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Return all outputs by their ONNX names, in their ONNX types.

        Args:
            inputs: Arrays by input name, all of them.

        Raises:
            BuildError: The inputs do not fit (E331-E333, E345), or it failed (E330, E362).
        """
        if self._engine is None:
            raise BuildError("the runner is closed", code="E330")
        given = checked_inputs(self._signature.inputs, inputs, self._bounds)
        ports = self._interface.inputs
        self._check_listed(given)
        states: States = {
            port.name: given[port.onnx_name].astype(np.float16)
            for port in ports
            if port.kind == "state"
        }
        feed = {
            port.name: _fed(given[port.onnx_name], port) for port in ports if port.kind != "state"
        }
        made = {**self._engine.predict(feed, states), **states}
        return {port.onnx_name: _given(made[port.name], port) for port in self._interface.outputs}

    def _check_listed(self, given: Inputs) -> None:
        """Refuse a shape that an input with a list of shapes does not have."""
        found = []
        for port in self._interface.inputs:
            feature = self.program.features[port.name]
            shapes = feature.shapes if port.kind == "array" and not feature.bounds else ()
            shape = given[port.onnx_name].shape
            if len(shapes) > 1 and shape not in shapes:
                found.append(
                    Diagnostic(
                        code="E333",
                        message=f"input {port.onnx_name!r} has shape {list(shape)}, the artifact "
                        f"takes one of {', '.join(str(list(item)) for item in shapes)}",
                        subject=port.onnx_name,
                        hint="feed a shape of the list, or build it with `shapes: range`",
                    )
                )
        if found:
            raise BuildError(found)

    def close(self) -> None:
        """Release the program; calling it twice is allowed."""
        self._engine = None


def _bounds(interface: Interface, program: Program) -> dict[str, Bounds]:
    """Return the limits of sizes by ONNX input, where the package states a range."""
    return {
        port.onnx_name: program.features[port.name].bounds
        for port in interface.inputs
        if port.dims and port.kind == "array" and program.features[port.name].bounds
    }


def _fed(array: np.ndarray, port: Port) -> np.ndarray:
    """Return an input as the package takes it: int32 for all integers, rank 1 for a scalar."""
    if port.image is not None:
        return pixels_of(array, port.image, port.onnx_name)
    if port.dtype == "int32" and array.dtype.kind in "iu":
        array = np.clip(array, INT32.min, INT32.max)
    return np.atleast_1d(array).astype(port.dtype)


def _given(made: Any, port: Port) -> np.ndarray:
    """Return an output as the ONNX model gives it."""
    if port.kind == "classes":
        scores = np.array([made[name] for name in port.classes], port.onnx_dtype)
        return scores.reshape(_fixed(port))
    array = np.asarray(made).astype(port.onnx_dtype)
    return array if port.dims else array.reshape(())


def _fixed(port: Port) -> list[int]:
    return [dim if isinstance(dim, int) else 1 for dim in port.dims]
