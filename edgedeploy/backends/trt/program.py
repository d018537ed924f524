"""The typed graph that an engine is built from, kept beside it, and what runs it here."""

from __future__ import annotations

import shutil
import tempfile
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

    Nothing is fused and no Cast is taken out, and what the graph has in float16 is rounded to it
    after every node (:mod:`edgedeploy.backends.trt.rounding`). It is the graph that TensorRT builds
    from, not its engine: kernels, and the order of sums, are others, and an engine may keep more
    digits between nodes that it fuses.

    Args:
        folder: An artifact's, with its program.
        threads: Threads of ONNX Runtime.

    Raises:
        BuildError: It does not load (E317).
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        import onnx_ir as ir

        from edgedeploy.backends.trt.rounding import has_half, spell_out

        path = folder / MODEL
        # Weights in files of their own are read from there, whatever graph asks for them.
        keys = {"session.model_external_initializers_file_folder_path": str(path.parent)}
        options = session_options(threads, keys)
        options.graph_optimization_level = load_runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
        model = ir.load(path)
        if not has_half(model):
            super().__init__(path, options)
            return
        spell_out(model)
        with tempfile.TemporaryDirectory(prefix="edgedeploy-program-") as scratch:
            spelled = Path(scratch) / path.name
            ir.save(model, spelled)
            super().__init__(spelled, options)

    @property
    def evidence(self) -> Evidence:
        """The graph was run, by another runtime than its own."""
        return "interpreted"
