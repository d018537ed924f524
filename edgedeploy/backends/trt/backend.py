"""The ``trt`` backend: programs that devices build TensorRT engines from."""

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
from edgedeploy.backends.trt.program import MODEL, InterpretedRunner, write_program

_OPTIONS: Mapping[str, Any] = {}


class TensorRt:
    """TensorRT; an :class:`edgedeploy.backends.base.Backend`."""

    name = "trt"
    version = 1
    tools = FAMILIES["tensorrt"].tools
    reads = FAMILIES["tensorrt"].reads
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
        """Write the program: the typed graph and how to build it.

        Raises:
            BuildError: An option that does not exist (E310).
        """
        checked_options(options, _OPTIONS)
        program = write_program(model, folder)
        return CompileReport(
            entry=MODEL,
            files=tuple(CompiledFile(path=path, role="program", release=False) for path in program),
            metadata={"format": "tensorrt-engine"},
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


BACKEND: Backend = TensorRt()
