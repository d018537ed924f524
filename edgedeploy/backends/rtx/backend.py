"""The ``rtx`` backend: TensorRT for RTX engines, from float, fp16 or QDQ models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedeploy.backends import FAMILIES
from edgedeploy.backends.base import (
    Arithmetic,
    Backend,
    CompiledFile,
    CompileReport,
    LayerTime,
    Placement,
    Ranges,
    Words,
    checked_options,
)
from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.rtx.build import build_engine
from edgedeploy.backends.trt.program import InterpretedRunner, write_program

ENGINE = "model.engine"
_OPTIONS: Mapping[str, Any] = {}


class TensorRtRtx:
    """TensorRT for RTX; an :class:`edgedeploy.backends.base.Backend`."""

    name = "rtx"
    version = 1
    tools = FAMILIES["tensorrt-rtx"].tools
    reads = FAMILIES["tensorrt-rtx"].reads
    options: Mapping[str, str] = {}

    def preflight(self, model: Path, fields: Mapping[str, Any]) -> Placement:
        """Return what the parser takes."""
        return Placement(providers=())

    def compile(
        self,
        model: Path,
        folder: Path,
        options: Mapping[str, Any],
        fields: Mapping[str, Any],
        *,
        ranges: Ranges | None = None,
        words: Words | None = None,
    ) -> CompileReport:
        """Write the engine, and the program that it was built from.

        Raises:
            BuildError: An option that does not exist (E310), no builder (E326), or the parser
                (E327) or builder (E328) refuses the model.
        """
        checked_options(options, _OPTIONS)
        capabilities = fields["board.gpu"]["compute_capabilities"]
        program = write_program(model, folder)
        (folder / ENGINE).write_bytes(build_engine(model, capabilities))
        return CompileReport(
            entry=ENGINE,
            files=(
                CompiledFile(path=ENGINE, role="model"),
                *(CompiledFile(path=path, role="program", release=False) for path in program),
            ),
            metadata={"format": "tensorrt-engine", "compute_capabilities": capabilities},
        )

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
        """Return what the program states."""
        return Arithmetic(layers=(), conversions=0, stated=True)


BACKEND: Backend = TensorRtRtx()
