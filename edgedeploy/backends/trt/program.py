"""The typed graph that an engine is built from, kept beside it, and what runs it here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from edgedeploy.backends.ortmobile.runner import OrtRunner, load_runtime, session_options
from edgedeploy.model.files import DATA_NAME, INLINE_BYTES, SMALLEST_EXTERNAL_BYTES
from edgedeploy.runner import Evidence

FOLDER = "program"
MODEL = "program/model.onnx"


def write_program(model: Path, folder: Path) -> tuple[str, ...]:
    """Write the typed graph and its weights into ``folder/program``; return their paths.

    It is copied as it is, save that 4-bit weights get the form that TensorRT takes.

    Args:
        model: ``model.onnx`` in normal form.
        folder: Of the artifact.

    Raises:
        BuildError: 4-bit weights in a form that has no counterpart (E329).
    """
    import onnx_ir as ir

    from edgedeploy.backends.trt.four_bits import has_four_bits, spell_four_bits

    place = folder / FOLDER
    place.mkdir()
    loaded = ir.load(model)
    if has_four_bits(loaded):
        spell_four_bits(loaded)
        save(loaded, place / model.name)
    else:
        for file in sorted(model.parent.glob(f"{model.name}*")):
            shutil.copyfile(file, place / file.name)
    return tuple(f"{FOLDER}/{file.name}" for file in sorted(place.iterdir()))


def save(model: Any, file: Path) -> None:
    """Write a model, and a file for its weights beside it where they are many."""
    import onnx_ir as ir

    held = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    big = sum(tensor.nbytes for tensor in held if tensor is not None) > INLINE_BYTES
    ir.save(
        model,
        file,
        external_data=DATA_NAME if big else None,
        size_threshold_bytes=SMALLEST_EXTERNAL_BYTES,
    )


class InterpretedRunner(OrtRunner):
    """The typed graph as it stands, run node by node by ONNX Runtime.

    Nothing is fused and no Cast is taken out: what is rounded in the graph is rounded here. It is
    the graph that TensorRT builds from, not its engine: kernels, and the order of sums, are others.

    Args:
        folder: An artifact's, with its program.
        threads: Threads of ONNX Runtime.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        options = session_options(threads, {})
        options.graph_optimization_level = load_runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
        super().__init__(folder / MODEL, options)

    @property
    def evidence(self) -> Evidence:
        """The graph was run, by another runtime than its own."""
        return "interpreted"
