"""Running models with ONNX Runtime's CPU provider.

Imported by other Python environments with an older onnxruntime too: the standard library, NumPy
and onnxruntime only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.backends.inputs import Inputs, checked_inputs
from edgedeploy.errors import BuildError
from edgedeploy.runner import Closing, Evidence
from edgedeploy.signature import Signature, TensorSpec

ENTRY = "model.ort"

# Both keys together let the runtime use the weights in place in the mapped file; either alone
# does not (onnxruntime_session_options_config_keys.h).
MAPPED_KEYS: dict[str, str] = {
    "session.use_memory_mapped_ort_model": "1",
    "session.use_ort_model_bytes_for_initializers": "1",
}
REPLAY_KEYS: dict[str, str] = {"session.enable_saved_runtime_optimizations": "1"}

_DTYPES: dict[str, str] = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
    **{
        f"tensor({sign}int{bits})": f"{sign}int{bits}"
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}


def load_runtime() -> Any:
    """Return the onnxruntime module with its telemetry off.

    The wheels write into the temp and home folders otherwise; the variable is the only switch
    that acts before the library starts.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def session_options(threads: int, keys: Mapping[str, str]) -> Any:
    """Return onnxruntime session options: given threads, no spinning, errors by exception only."""
    options = load_runtime().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # A spinning pool burns the core that the caller's own work needs between two inferences.
    for key, value in {"session.intra_op.allow_spinning": "0", **keys}.items():
        options.add_session_config_entry(key, value)
    return options


class OrtRunner(Closing):
    """A session of ONNX Runtime; an :class:`edgedeploy.runner.Runner`.

    Args:
        model: A ``.ort`` or ``.onnx`` file.
        options: Session options, such as from :func:`session_options`.

    Raises:
        BuildError: The runtime does not load it (E317), or an input or output is no tensor (E318).
    """

    def __init__(self, model: Path, options: Any) -> None:
        runtime = load_runtime()
        try:
            self._session: Any = runtime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            told = " ".join(str(error).split()).replace(str(model), model.name)
            raise BuildError(
                f"onnxruntime {runtime.__version__} does not load it: {told}",
                code="E317",
                subject=model.name,
                hint="build it for the range of runtime versions that it is to run in",
            ) from error
        self._signature = Signature(
            inputs=tuple(_spec(item) for item in self._session.get_inputs()),
            outputs=tuple(_spec(item) for item in self._session.get_outputs()),
        )

    @property
    def signature(self) -> Signature:
        """The inputs and outputs as the artifact itself states them."""
        return self._signature

    @property
    def evidence(self) -> Evidence:
        """The runtime itself, on this machine."""
        return "host-runtime"

    def run(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Return all outputs by name.

        Args:
            inputs: Arrays by input name, all of them; a string tensor is an array of ``str``.

        Raises:
            BuildError: The inputs do not fit (E331-E333), or the runtime failed (E330).
        """
        if self._session is None:
            raise BuildError("the runner is closed", code="E330")
        feed = checked_inputs(self._signature.inputs, inputs)
        names = [spec.name for spec in self._signature.outputs]
        try:
            values = self._session.run(names, feed)
        except Exception as error:
            raise BuildError(
                f"onnxruntime failed while running: {' '.join(str(error).split())}",
                code="E330",
                hint="check that the values fit the model (indices in range, sizes that agree)",
            ) from error
        return dict(zip(names, values, strict=True))

    def end_profiling(self) -> Path:
        """Return the file with the profile of a session made with profiling enabled."""
        return Path(self._session.end_profiling())

    def close(self) -> None:
        """Release the session; calling it twice is allowed."""
        self._session = None


def _spec(item: Any) -> TensorSpec:
    if item.type not in _DTYPES:
        raise BuildError(
            f"{item.name!r} is a {item.type}, not a tensor",
            code="E318",
            subject=item.name,
            hint="name the tensors that you need under `outputs:` in the profile, or export the "
            "model without the conversion to maps or sequences (ZipMap)",
        )
    # The runtime writes an unnamed dynamic axis as None, '' or a negative size.
    dims = tuple(
        dim if isinstance(dim, str) and dim else dim if isinstance(dim, int) and dim >= 0 else None
        for dim in item.shape
    )
    return TensorSpec(name=item.name, dtype=_DTYPES[item.type], dims=dims)


def open_artifact(
    folder: Path,
    *,
    threads: int = 1,
    optimization_style: str = "fixed",
    profile_prefix: Path | None = None,
    prepack: bool = True,
) -> OrtRunner:
    """Return the ``.ort`` artifact in a folder, memory-mapped.

    Args:
        folder: What a compile wrote.
        threads: Intra-op threads.
        optimization_style: ``runtime`` replays the optimisations that were saved in the file.
        profile_prefix: Path prefix of a profile to record, or None.
        prepack: Whether kernels may keep weights in a layout of their own; a profile states the
            shapes of those alone that they leave as they are.

    Raises:
        BuildError: There is no artifact, or it does not load (E317).
    """
    model = folder / ENTRY
    if not model.is_file():
        raise BuildError(
            f"there is no {ENTRY} in the artifact",
            code="E317",
            subject=folder.name,
            hint="build the artifact again",
        )
    keys = {**MAPPED_KEYS, **(REPLAY_KEYS if optimization_style == "runtime" else {})}
    if not prepack:
        keys["session.disable_prepacking"] = "1"
    options = session_options(threads, keys)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    return OrtRunner(model, options)
