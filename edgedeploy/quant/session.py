"""Running of float and QDQ models in ONNX Runtime for calibration and comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from edgedeploy.data.pack import Sample
from edgedeploy.errors import BuildError, DataError

# What spoils QDQ models, as in the conversion to .ort: MatMulAddFusion makes a Gemm of a product
# that could be an integer kernel, WeightBiasQuantization quantizes weights that stay in float.
_HARMFUL = ["MatMulAddFusion", "WeightBiasQuantization"]


def sample_inputs(
    sample: Sample, names: Sequence[str], state: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return the inputs that a sample gives to a model, without the state.

    Raises:
        DataError: The sample lacks one (E267).
    """
    tensors = sample.tensors()
    missing = [name for name in names if name not in tensors and name not in state]
    if missing:
        raise DataError(
            f"calibration sample {sample.id!r} lacks the input {missing[0]!r}",
            code="E267",
            subject=sample.id,
            hint="Give every input of the model, constants included.",
        )
    return {name: tensors[name] for name in names if name in tensors and name not in state}


def zero_state(
    session: ort.InferenceSession,
    state: Sequence[tuple[str, str]],
    inputs: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return zeros for every state input.

    A named dynamic dim takes the size that the same name has in ``inputs``; others are 1.
    """
    described = {item.name: item for item in session.get_inputs()}
    sizes: dict[str, int] = {}
    for name, array in inputs.items():
        for dim, size in zip(described[name].shape, array.shape, strict=False):
            if isinstance(dim, str):
                sizes.setdefault(dim, size)
    zeros: dict[str, np.ndarray] = {}
    for name, _ in state:
        if name not in described:
            raise DataError(f"the model has no state input {name!r}", code="E267", subject=name)
        item = described[name]
        shape = [sizes.get(dim, 1) if isinstance(dim, str) else dim or 1 for dim in item.shape]
        dtype = np.float16 if "float16" in item.type else np.float32
        zeros[name] = np.zeros(shape, dtype)
    return zeros


def open_session(
    model: ir.Model | onnx.ModelProto, folder: Path, *, optimise: bool = True
) -> ort.InferenceSession:
    """Return a one-thread session of a model whose external data lies relative to ``folder``.

    One thread, so that the sums, and with them the table's bytes, do not depend on the machine's
    number of cores.

    Raises:
        BuildError: The runtime refuses the model (E270).
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder.resolve())
    )
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    try:
        return ort.InferenceSession(
            proto.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=_HARMFUL,
        )
    except Exception as error:  # the runtime raises many undocumented types
        raise BuildError(
            f"the runtime does not load the model: {error}",
            code="E270",
            hint="Run `edgedeploy inspect` on the model.",
        ) from error
