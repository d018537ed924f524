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
    ProviderPlacement,
    Ranges,
    Words,
)
from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.ortmobile.graph import read_graph
from edgedeploy.backends.trt.arithmetic import stated_arithmetic
from edgedeploy.backends.trt.layertypes import layer_types
from edgedeploy.backends.trt.profiles import optimisation_profiles
from edgedeploy.backends.trt.program import MODEL, InterpretedRunner, write_program
from edgedeploy.backends.trt.recipe import input_specs, make_recipe, write_recipe
from edgedeploy.backends.trt.settings import WORDS, check_types, settings
from edgedeploy.backends.trt.typed import typed_findings
from edgedeploy.errors import BuildError
from edgedeploy.profile.types import DimSpec


class TensorRt:
    """TensorRT; an :class:`edgedeploy.backends.base.Backend`."""

    name = "trt"
    version = 2
    tools = FAMILIES["tensorrt"].tools
    reads = FAMILIES["tensorrt"].reads
    options: Mapping[str, str] = WORDS

    def preflight(self, model: Path, fields: Mapping[str, Any]) -> Placement:
        """Return what is known to be refused; which node gets which kernel, only the device knows.

        Raises:
            BuildError: The file is no ONNX model (E312).
        """
        return Placement(
            providers=(
                ProviderPlacement(
                    provider="TensorRT",
                    judged=False,
                    partitions=None,
                    nodes=(),
                    source="TensorRT starts on machines with an NVIDIA GPU alone",
                    notes=("the parser and the builder of the device judge it",),
                ),
            ),
            diagnostics=typed_findings(model),
        )

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
            BuildError: An option that does not exist (E310), that no release of the target's has
                (E336) or that does not fit the board or the model (E338); types that TensorRT does
                not take (E329); a dim without limits (E335).
        """
        checked = settings(options, fields)
        if found := typed_findings(model):
            raise BuildError(found)
        types = layer_types(read_graph(model))
        check_types(checked, types.types)
        profiles = optimisation_profiles(input_specs(model), _dims(ranges, words))
        written = write_program(model, folder)
        recipe = make_recipe(types, profiles, checked, words.state if words else ())
        return CompileReport(
            entry=MODEL,
            files=tuple(
                CompiledFile(path=path, role="program", release=False)
                for path in (*written, write_recipe(folder, recipe))
            ),
            notes=_notes(checked),
            metadata={"format": "tensorrt-engine", "precision": list(types.types)},
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
        """Return what the program states.

        Raises:
            BuildError: It cannot be read (E312).
        """
        return stated_arithmetic(folder / MODEL, inputs)


def _dims(ranges: Ranges | None, words: Words | None) -> Mapping[str, DimSpec]:
    """Return what sizes an open dim may take: as the profile says it, or else its limits."""
    limits = {name: DimSpec(low=low, high=high) for name, (low, high) in (ranges or {}).items()}
    return {**limits, **(words.dims if words else {})}


def _notes(options: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    if options["version_compatible"]:
        found.append(
            "the engine holds code of its own (the lean runtime): whoever loads it must set "
            "engine_host_code_allowed, and trust it like a library"
        )
    if options["tf32"]:
        found.append(
            "float32 products round their inputs to 10 bits on the GPU (tf32), and not here, where "
            "outputs are compared"
        )
    return tuple(found)


BACKEND: Backend = TensorRt()
