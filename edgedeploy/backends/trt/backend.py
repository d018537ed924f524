"""The ``trt`` backend: programs that devices build TensorRT engines from."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgedeploy.backends import FAMILIES
from edgedeploy.backends.base import (
    Backend,
    CompiledFile,
    CompileReport,
    Placement,
    ProviderPlacement,
    Ranges,
    Words,
)
from edgedeploy.backends.ortmobile.graph import read_graph
from edgedeploy.backends.rtx import parsing
from edgedeploy.backends.trt.interpreted import Interpreted
from edgedeploy.backends.trt.layertypes import layer_types
from edgedeploy.backends.trt.profiles import optimisation_profiles
from edgedeploy.backends.trt.program import (
    MODEL,
    signature_of,
    sizes_of,
    write_program,
)
from edgedeploy.backends.trt.recipe import make_recipe, write_recipe
from edgedeploy.backends.trt.settings import WORDS, check_types, settings
from edgedeploy.backends.trt.typed import typed_findings
from edgedeploy.errors import BuildError

_UNJUDGED = ProviderPlacement(
    provider="TensorRT",
    judged=False,
    partitions=None,
    nodes=(),
    source="TensorRT starts on machines with an NVIDIA GPU alone",
    notes=("the parser and the builder of the device judge it",),
)
_HINT = "another product than the TensorRT of the device, which alone judges"


class TensorRt(Interpreted):
    """TensorRT; an :class:`edgedeploy.backends.base.Backend`."""

    name = "trt"
    version = 2
    tools = FAMILIES["tensorrt"].tools
    reads = FAMILIES["tensorrt"].reads
    options: Mapping[str, str] = WORDS

    def preflight(self, model: Path, fields: Mapping[str, Any]) -> Placement:
        """Return what is known to be refused; which node gets which kernel, only the device knows.

        The parser of TensorRT for RTX, where it is installed, gives a hint: another product, of
        another release, that takes much the same operators.

        Raises:
            BuildError: The file is no ONNX model (E312).
        """
        with tempfile.TemporaryDirectory(prefix="edgedeploy-trt-") as scratch:
            write_program(model, Path(scratch))
            program = Path(scratch) / MODEL
            return Placement(
                providers=(_UNJUDGED, *_hints(program)), diagnostics=typed_findings(program)
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
        written = write_program(model, folder)
        program = folder / MODEL
        if found := typed_findings(program):
            raise BuildError(found)
        types = layer_types(read_graph(program))
        check_types(checked, types.types)
        inputs = signature_of(program).inputs
        profiles = optimisation_profiles(inputs, sizes_of(ranges, words), checked["opt"])
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


def _hints(program: Path) -> tuple[ProviderPlacement, ...]:
    """Return what the parser of another product takes of the program, if it is there."""
    if not parsing.is_installed():
        return ()
    found = parsing.place_nodes(read_graph(program), parsing.find_refusals(program))
    return (replace(found, provider=f"{found.provider} (a hint)", notes=(_HINT,)),)


BACKEND: Backend = TensorRt()
