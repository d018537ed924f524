"""Options of the backend: those that change an engine.

Which have an effect, and which need a GPU, was found by building with each setting of the builder
of TensorRT for RTX 1.7.1; ``targets/runtimes/tensorrt-rtx.yaml`` says of the others why they are
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedeploy.backends.base import checked_options
from edgedeploy.backends.trt.written import written_bytes, written_sizes

KNOWN: Mapping[str, Any] = {
    "buckets": ("apart", "profiles"),
    "opt": "",
    "tf32": False,
    "weight_streaming": False,
    "workspace": "",
    "layer_details": False,
}
"""Option -> allowed values, the default first; or a default of the type that it must have."""

WORDS: Mapping[str, str] = {
    "buckets": "apart (default): an artifact for each bucket of a dim; profiles: one engine with "
    "an optimisation profile for each",
    "opt": "size within its range that kernels are tuned for, by dim, such as `x[3]=320, n=1` "
    "(default: the middle)",
    "tf32": "float32 products may round their inputs to 10 bits (default false)",
    "weight_streaming": "weights may stay in host memory when the engine runs (default false)",
    "workspace": "most scratch memory of a kernel on the GPU, such as 1 GiB (default: any)",
    "layer_details": "keep in the engine what an inspector shows of its layers (default false)",
}
"""Option -> what it means and its default."""

_FLAGS = {"tf32": "TF32", "weight_streaming": "WEIGHT_STREAMING"}


def chosen_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options with those of a profile laid over the defaults.

    Returns:
        As :data:`KNOWN`, but ``opt`` as sizes by dim and ``workspace`` in bytes, None for any.

    Raises:
        BuildError: An option that does not exist, or a value that is none (E310).
    """
    chosen = checked_options(options, KNOWN)
    chosen["opt"] = written_sizes(chosen["opt"])
    chosen["workspace"] = written_bytes("workspace", chosen["workspace"])
    return chosen


def flags(chosen: Mapping[str, Any]) -> list[str]:
    """Return the flags of the builder that chosen options set."""
    return [flag for name, flag in _FLAGS.items() if chosen[name]]
