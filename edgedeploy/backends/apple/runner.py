"""Running Core ML packages: through our interpreter, which is what there is away from a Mac."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from edgedeploy.backends.apple.interface import Interface, Port
from edgedeploy.backends.apple.package import PACKAGE
from edgedeploy.backends.inputs import Bounds, Inputs, checked_inputs
from edgedeploy.errors import BuildError, EdgedeployError
from edgedeploy.mil.interpreter import Interpreter
from edgedeploy.mil.program import Program
from edgedeploy.mil.read import read_package
from edgedeploy.runner import Evidence
from edgedeploy.signature import Signature

INT32 = np.iinfo(np.int32)


class CoreMlRunner:
    """A package in our interpreter; an :class:`edgedeploy.runner.Runner`.

    Args:
        folder: What a compile wrote.

    Raises:
        BuildError: It does not load (E317), or has operations that are not known here (E361).
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._interface = Interface.read(folder)
            self.program: Program = read_package(folder / PACKAGE)
        except (EdgedeployError, OSError, KeyError, ValueError) as error:
            raise BuildError(
                f"the package does not load: {' '.join(str(error).split())}",
                code="E317",
                subject=PACKAGE,
                hint="build the artifact again",
            ) from error
        self._machine: Interpreter | None = Interpreter(self.program)
        features = self.program.features
        self._bounds: dict[str, Bounds] = {
            port.onnx_name: features[port.name].bounds
            for port in self._interface.inputs
            if features[port.name].bounds
        }

    @property
    def signature(self) -> Signature:
        """The inputs and outputs by the names and types of the ONNX model."""
        return self._interface.signature

    @property
    def evidence(self) -> Evidence:
        """Our reading of the program: no runtime of Apple's took part."""
        return "interpreted"

    def run(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Return all outputs by their ONNX names, in their ONNX types.

        Args:
            inputs: Arrays by input name, all of them.

        Raises:
            BuildError: The inputs do not fit (E331-E333), or an operation failed (E362).
        """
        if self._machine is None:
            raise BuildError("the runner is closed", code="E330")
        given = checked_inputs(self.signature.inputs, inputs, self._bounds)
        feed = {port.name: _fed(given[port.onnx_name], port) for port in self._interface.inputs}
        made = self._machine.run(feed)
        return {port.onnx_name: _given(made[port.name], port) for port in self._interface.outputs}

    def close(self) -> None:
        """Release the program; calling it twice is allowed."""
        self._machine = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _fed(array: np.ndarray, port: Port) -> np.ndarray:
    """Return an input as the package takes it: int32 for all integers, rank 1 for a scalar."""
    if port.dtype == "int32" and array.dtype.kind in "iu":
        array = np.clip(array, INT32.min, INT32.max)
    return np.atleast_1d(array).astype(port.dtype)


def _given(array: np.ndarray, port: Port) -> np.ndarray:
    """Return an output as the ONNX model gives it."""
    shaped = array if port.dims else array.reshape(())
    return shaped.astype(port.onnx_dtype)
