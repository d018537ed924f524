"""Options of the backend: those that change an engine, and why others are refused.

What has an effect, and what needs a GPU, was found by building with each setting of the builder of
TensorRT for RTX 1.7.1 (``tests/trt/test_rtx_options.py`` holds it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedeploy.backends.base import checked_options
from edgedeploy.errors import BuildError

OPTIONS: Mapping[str, Any] = {
    "engines": ("portable", "separate"),
    "buckets": ("apart", "profiles"),
    "opt": {},
    "tf32": False,
    "weight_streaming": False,
    "workspace_mib": 0,
    "layer_details": False,
}

MEANINGS: Mapping[str, str] = {
    "engines": "portable (default): one engine for all compute capabilities of the board; "
    "separate: one for each",
    "buckets": "apart (default): an artifact for each bucket of a dim; profiles: one engine with "
    "an optimisation profile for each",
    "opt": "dim name -> the size within its range that kernels are tuned for (default: the middle)",
    "tf32": "round the operands of float32 products to 10 bits, for speed (default false)",
    "weight_streaming": "allow weights to stay in host memory when the engine runs (default false)",
    "workspace_mib": "scratch memory on the GPU that a kernel may use, MiB (default 0: any)",
    "layer_details": "keep in the engine what an inspector shows of its layers (default false)",
}

_NO_EFFECT = "the engine is byte for byte the same at every setting: kernels are chosen on the GPU"
_NEEDS_GPU = "the builder needs a GPU for it, and engines are built without one"
_NOT_HERE = "TensorRT for RTX does not have it"

REFUSED: Mapping[str, str] = {
    "refit": _NEEDS_GPU,
    "strip_plan": _NEEDS_GPU,
    "version_compatible": "the lean runtime that it needs is not part of TensorRT for RTX",
    "hardware_compatible": _NOT_HERE + "; `engines: portable` is for several compute capabilities",
    "platform": "engines are built for Linux on x86-64, whatever runtime platform is asked for",
    "dla": _NOT_HERE + ": its GPUs have no DLA",
    "optimization_level": _NO_EFFECT,
    "aux_streams": _NO_EFFECT,
    "tactics": _NO_EFFECT,
    "timing_cache": _NO_EFFECT,
    "tiling": _NO_EFFECT,
    "sparsity": _NO_EFFECT,
}
"""Options that TensorRT has and this backend refuses, with the reason."""


def chosen_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options with those of a profile laid over the defaults.

    Raises:
        BuildError: An option that is refused, or does not exist, or a value that is none (E310).
    """
    for name in options:
        if name in REFUSED:
            raise BuildError(
                f"option {name} is not for TensorRT for RTX: {REFUSED[name]}",
                code="E310",
                subject=name,
                hint=f"leave it out; known options: {', '.join(sorted(OPTIONS))}",
            )
    chosen = checked_options(options, OPTIONS)
    if chosen["workspace_mib"] < 0:
        raise BuildError(
            f"option workspace_mib cannot be {chosen['workspace_mib']}",
            code="E310",
            subject="workspace_mib",
            hint="give MiB, or 0 for no limit",
        )
    return chosen


def flags(chosen: Mapping[str, Any]) -> list[str]:
    """Return the flags of the builder that chosen options set."""
    names = {"tf32": "TF32", "weight_streaming": "WEIGHT_STREAMING"}
    return [flag for name, flag in names.items() if chosen[name]]
