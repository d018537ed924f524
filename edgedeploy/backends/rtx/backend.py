"""The ``rtx`` backend: TensorRT for RTX engines, from float, fp16 or QDQ models."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.backends import FAMILIES
from edgedeploy.backends.base import (
    Backend,
    CompiledFile,
    CompileReport,
    Placement,
    Ranges,
    Words,
)
from edgedeploy.backends.ortmobile.graph import GraphFacts, read_graph
from edgedeploy.backends.rtx.build import Wish, build_engine
from edgedeploy.backends.rtx.capabilities import capability_findings
from edgedeploy.backends.rtx.options import WORDS, chosen_options, flags
from edgedeploy.backends.rtx.parsing import find_refusals, place_nodes
from edgedeploy.backends.trt.interpreted import Interpreted
from edgedeploy.backends.trt.profiles import optimisation_profiles
from edgedeploy.backends.trt.program import (
    MODEL,
    signature_of,
    sizes_of,
    write_program,
)
from edgedeploy.backends.trt.typed import typed_findings
from edgedeploy.errors import BuildError, Diagnostic

ENGINE = "model.engine"
_TF32_NOTE = (
    "float32 products are rounded to TF32 (10 bits) on the GPU; the comparison here was in float32"
)


class TensorRtRtx(Interpreted):
    """TensorRT for RTX; an :class:`edgedeploy.backends.base.Backend`."""

    name = "rtx"
    version = 1
    tools = FAMILIES["tensorrt-rtx"].tools
    reads = FAMILIES["tensorrt-rtx"].reads
    options: Mapping[str, str] = WORDS

    def preflight(self, model: Path, fields: Mapping[str, Any]) -> Placement:
        """Return what the parser takes, and all that would keep the builder from an engine.

        Raises:
            BuildError: The parser is not installed (E326), or the file is no ONNX model (E312).
        """
        with tempfile.TemporaryDirectory(prefix="edgedeploy-rtx-") as scratch:
            write_program(model, Path(scratch))
            program = Path(scratch) / MODEL
            facts = read_graph(program)
            refused = find_refusals(program)
            found = _findings(program, facts, _capabilities(fields))
        named = {item.subject for item in found}
        found += [item.diagnostic() for item in refused if item.name not in named]
        return Placement(providers=(place_nodes(facts, refused),), diagnostics=tuple(found))

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
            BuildError: An option that does not exist or has no place here (E310), no builder
                (E326), types that TensorRT does not compute with (E329), a compute capability
                that lacks something (E334), dims without limits (E335), or the parser (E327) or
                builder (E328) refuses the model.
        """
        chosen = chosen_options(options)
        capabilities = _capabilities(fields)
        files = write_program(model, folder)
        program = folder / MODEL
        found = _findings(program, read_graph(program), capabilities)
        if found:
            raise BuildError(found)
        inputs = signature_of(program).inputs
        profiles = optimisation_profiles(inputs, sizes_of(ranges, words), chosen["opt"])
        wish = Wish(
            capabilities=capabilities,
            profiles=profiles,
            flags=flags(chosen),
            workspace_bytes=chosen["workspace"],
            details=chosen["layer_details"],
        )
        warnings = build_engine(program, folder / ENGINE, wish)
        return CompileReport(
            entry=ENGINE,
            files=(
                CompiledFile(path=ENGINE, role="model"),
                *(CompiledFile(path=path, role="program", release=False) for path in files),
            ),
            notes=(_TF32_NOTE,) if chosen["tf32"] else (),
            metadata={
                "format": "tensorrt-engine",
                "compute_capabilities": capabilities,
                "profiles": [
                    {name: sizes.to_json() for name, sizes in profile.items()}
                    for profile in profiles
                ],
                "warnings": list(warnings),
            },
        )


def _capabilities(fields: Mapping[str, Any]) -> list[str]:
    return list(fields["board.gpu"]["compute_capabilities"])


def _findings(program: Path, facts: GraphFacts, capabilities: Sequence[str]) -> list[Diagnostic]:
    """Return what is known to be refused without asking the parser or the builder."""
    return [*typed_findings(program), *capability_findings(capabilities, facts)]


BACKEND: Backend = TensorRtRtx()
