"""What the backends of TensorRT share: their programs are interpreted here, where no GPU is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedeploy.backends.base import Arithmetic, LayerTime
from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.trt.arithmetic import arithmetic
from edgedeploy.backends.trt.program import InterpretedRunner


class Interpreted:
    """The part of a :class:`edgedeploy.backends.base.Backend` that runs what it wrote."""

    def runner(
        self, folder: Path, *, threads: int = 1, options: Mapping[str, Any] | None = None
    ) -> InterpretedRunner:
        """Return the program, interpreted.

        Raises:
            BuildError: It does not load (E317).
        """
        return InterpretedRunner(folder, threads)

    def layer_times(
        self,
        folder: Path,
        inputs: Inputs,
        *,
        threads: int = 1,
        repeats: int = 10,
        options: Mapping[str, Any] | None = None,
    ) -> list[LayerTime]:
        """Return none: there is no GPU here that would tell."""
        return []

    def arithmetic(
        self, folder: Path, inputs: Inputs, *, options: Mapping[str, Any] | None = None
    ) -> Arithmetic:
        """Return what the program states.

        Raises:
            BuildError: It does not load (E317) or run (E330-E333).
        """
        return arithmetic(folder, inputs)
