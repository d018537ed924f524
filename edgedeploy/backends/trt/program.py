"""The typed graph that an engine is built from, kept beside it, and what runs it here."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgedeploy.backends.ortmobile.runner import OrtRunner, load_runtime, session_options
from edgedeploy.runner import Evidence

FOLDER = "program"
MODEL = "program/model.onnx"


def write_program(model: Path, folder: Path) -> tuple[str, ...]:
    """Copy the typed graph and its weights into ``folder/program``; return their paths."""
    place = folder / FOLDER
    place.mkdir()
    written = []
    for file in sorted(model.parent.glob(f"{model.name}*")):
        shutil.copyfile(file, place / file.name)
        written.append(f"{FOLDER}/{file.name}")
    return tuple(written)


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
