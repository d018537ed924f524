"""The typed graph that an engine is built from, kept beside it, and what runs it here."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from edgedeploy.backends.base import Ranges, Words
from edgedeploy.backends.ortmobile.runner import OrtRunner, load_runtime, session_options
from edgedeploy.model.files import DATA_NAME, INLINE_BYTES, SMALLEST_EXTERNAL_BYTES
from edgedeploy.profile.types import DimSpec
from edgedeploy.runner import Evidence
from edgedeploy.signature import Signature, TensorSpec

FOLDER = "program"
MODEL = "program/model.onnx"
_NUMPY = {"float": "float32", "double": "float64"}


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


def signature_of(program: Path) -> Signature:
    """Return the inputs and outputs of a typed graph; weights are not read.

    An input that has a value of its own is none.
    """
    import onnx

    graph = onnx.load(str(program), load_external_data=False).graph
    held = {item.name for item in graph.initializer}
    return Signature(
        inputs=tuple(_spec(item) for item in graph.input if item.name not in held),
        outputs=tuple(_spec(item) for item in graph.output),
    )


def _spec(value: Any) -> TensorSpec:
    import onnx

    kind = value.type.tensor_type
    dims = None
    if kind.HasField("shape"):
        dims = tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
            for dim in kind.shape.dim
        )
    dtype = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    return TensorSpec(name=value.name, dtype=_NUMPY.get(dtype, dtype), dims=dims)


def sizes_of(ranges: Ranges | None, words: Words | None) -> dict[str, DimSpec]:
    """Return what sizes an open dim may take, by its name.

    Args:
        ranges: Lowest and highest size, as a compile is given them.
        words: What the profile says; its steps and buckets go before ``ranges``.
    """
    found = {name: DimSpec(low=low, high=high) for name, (low, high) in (ranges or {}).items()}
    return {**found, **(words.dims if words is not None else {})}


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

    Nothing is fused and no Cast is taken out, and what the graph has in float16 is rounded to it
    after every node (:mod:`edgedeploy.backends.trt.rounding`). It is the graph that TensorRT builds
    from, not its engine: kernels, and the order of sums, are others, and an engine may keep more
    digits between nodes that it fuses.

    Args:
        folder: An artifact's, with its program.
        threads: Threads of ONNX Runtime.
        profile_prefix: Path prefix of a profile to record, or None.

    Raises:
        BuildError: It does not load (E317).
    """

    def __init__(
        self, folder: Path, threads: int = 1, *, profile_prefix: Path | None = None
    ) -> None:
        import onnx_ir as ir

        from edgedeploy.backends.trt.rounding import has_half, spell_out

        path = folder / MODEL
        # Weights in files of their own are read from there, whatever graph asks for them.
        keys = {"session.model_external_initializers_file_folder_path": str(path.parent)}
        options = session_options(threads, keys)
        if profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile_prefix)
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
