"""Running OpenVINO IR artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.backends.inputs import Bounds, Inputs, checked_inputs
from edgedeploy.backends.ov.convert import MODEL
from edgedeploy.backends.ov.runtime import load_runtime
from edgedeploy.errors import BuildError
from edgedeploy.runner import Closing, Evidence
from edgedeploy.signature import Signature

SIGNATURE = "signature.json"
LONGEST_CHAIN = 64

_ELEMENTWISE_NAMES = (
    "Abs Add Ceiling Clamp Convert Divide Elu Equal Erf Exp Floor Gelu Greater GreaterEqual HSwish "
    "HardSigmoid Less LessEqual LogicalAnd LogicalNot LogicalOr Maximum Minimum Mish Mod Multiply "
    "Negative NotEqual PRelu Power Relu Round Select Sigmoid SoftPlus Sqrt SquaredDifference "
    "Subtract Swish Tanh"
)
_ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())


class OvRunner(Closing):
    """A compiled OpenVINO model; an :class:`edgedeploy.runner.Runner`.

    Args:
        folder: What a compile wrote.
        device: ``CPU``, ``GPU`` or ``NPU``.
        threads: Threads of the CPU plugin.
        precision: ``f32`` computes what the graph says; on some CPUs the default is bfloat16,
            which would be measured as an error of the artifact.
        count_time: Whether to record the time of every layer.

    Raises:
        BuildError: It does not load (E317), or the device is not in this machine (E324).
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "CPU",
        threads: int = 1,
        precision: str = "f32",
        count_time: bool = False,
    ) -> None:
        runtime = load_runtime()
        core = runtime.Core()
        if device not in core.available_devices:
            raise BuildError(
                f"this machine has no {device} that OpenVINO can use",
                code="E324",
                subject=device,
                hint=f"devices here: {', '.join(core.available_devices)}",
            )
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "PERF_COUNT": count_time,
        }
        if device == "CPU":
            config |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        try:
            told = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
            self._signature = Signature.from_json(told)
            model = core.read_model(str(folder / MODEL))
            bounds = {
                spec.name: _bounds(port)
                for spec, port in zip(self._signature.inputs, model.inputs, strict=True)
            }
            config |= fusion_limits(model, device)
            self._request: Any = core.compile_model(model, device, config).create_infer_request()
        except Exception as error:
            raise BuildError(
                f"OpenVINO does not load it: {' '.join(str(error).split())}",
                code="E317",
                subject=MODEL,
                hint="build the artifact again with the installed version",
            ) from error
        self._bounds: Mapping[str, Bounds] = {
            name: found for name, found in bounds.items() if found is not None
        }

    @property
    def signature(self) -> Signature:
        """The inputs and outputs by the names of the model that the artifact was built from."""
        return self._signature

    @property
    def evidence(self) -> Evidence:
        """The runtime itself, on this machine."""
        return "host-runtime"

    def run(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Return all outputs by name.

        Args:
            inputs: Arrays by input name, all of them.

        Raises:
            BuildError: The inputs do not fit (E331-E333), or the runtime failed (E330).
        """
        if self._request is None:
            raise BuildError("the runner is closed", code="E330")
        feed = checked_inputs(self._signature.inputs, inputs, self._bounds)
        try:
            # By position: a tensor may carry several names, and only ours are the model's.
            results = self._request.infer(dict(enumerate(feed.values())))
        except Exception as error:
            raise BuildError(
                f"OpenVINO failed while running: {' '.join(str(error).split())}",
                code="E330",
                hint="check that the values fit the model (indices in range, sizes that agree)",
            ) from error
        return {
            spec.name: np.array(results[index])
            for index, spec in enumerate(self._signature.outputs)
        }

    def profile(self) -> list[Any]:
        """Return OpenVINO's per-layer records of the last run (made with ``count_time``)."""
        return list(self._request.get_profiling_info())

    def executed(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Return of every node that the device executes its type, kernel and origin.

        The type is the plugin's own (``FullyConnected``), the kernel the implementation that it
        chose (``brgemm_avx512_I8``), the origin the names of the IR's operations in it.
        """
        found = []
        for node in self._request.get_compiled_model().get_runtime_model().get_ordered_ops():
            told = node.get_rt_info()
            kind, kernel, names = (
                told[key].astype(str) if key in told else ""
                for key in ("layerType", "primitiveType", "originalLayersNames")
            )
            found.append((kind, kernel, tuple(names.split(","))))
        return found

    def close(self) -> None:
        """Release the compiled model; calling it twice is allowed."""
        self._request = None


def fusion_limits(model: Any, device: str) -> dict[str, Any]:
    """Return what keeps the CPU plugin from fusing endless chains of element-wise nodes.

    It generates code for each chain, in more than quadratic time: 400 additions in a row take
    16 s and 20 000 never end, against 0.7 s and a minute without (measured, version 2026.4).
    """
    if device != "CPU":
        return {}
    lengths: dict[str, int] = {}
    for op in model.get_ordered_ops():
        if op.get_type_name() in _ELEMENTWISE:
            before = (lengths.get(source.get_node().get_name(), 0) for source in op.input_values())
            lengths[op.get_name()] = 1 + max(before, default=0)
    return {"SNIPPETS_MODE": "DISABLE"} if max(lengths.values(), default=0) > LONGEST_CHAIN else {}


def _bounds(port: Any) -> list[tuple[int, int | None]] | None:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    # OpenVINO writes "no limit" as -1.
    return [
        (dim.get_min_length(), None if dim.get_max_length() < 0 else dim.get_max_length())
        for dim in shape
    ]
