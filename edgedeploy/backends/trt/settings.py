"""The options of a profile for TensorRT, checked before any device is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgedeploy.backends.base import checked_options
from edgedeploy.backends.trt.option_table import RELEASES
from edgedeploy.backends.trt.options import TrtOption, Version, missing, table
from edgedeploy.backends.trt.trtexec import HARDWARE, MIB
from edgedeploy.backends.trt.written import written_bytes, written_sizes
from edgedeploy.errors import BuildError

KNOWN: Mapping[str, Any] = {
    "compile_on": ("device", "local"),
    "buckets": ("apart", "profiles"),
    "opt": "",
    "workspace": "",
    "dla": -1,
    "dla_fallback": False,
    "sparsity": False,
    "refit": False,
    "version_compatible": False,
    HARDWARE: ("none", "ampere+", "same-compute-capability"),
    "optimisation_level": 3,
    "timing_cache": True,
    "tf32": False,
}
"""Option -> allowed values, the default first; or a default of the type that it must have."""

WORDS: Mapping[str, str] = {
    "compile_on": "device (default) or local: where engines are built; local needs a GPU here",
    "buckets": "apart (default): an engine for each bucket of a dim; profiles: one engine with an "
    "optimisation profile for each",
    "opt": "size within its range that kernels are tuned for, by dim, such as `x[3]=320, n=1` "
    "(default: the middle)",
    "workspace": "most memory of a kernel while building, such as 1 GiB (default: all there is)",
    "dla": "number of the DLA core that layers run on (default -1: none)",
    "dla_fallback": "layers that the DLA does not take run on the GPU (default false: an error)",
    "sparsity": "use kernels for weights with 2:4 sparsity (default false)",
    "refit": "weights can be replaced in the engine (default false)",
    "version_compatible": "later releases of TensorRT load the engine (default false)",
    HARDWARE: "none (default), ampere+ or same-compute-capability: other GPUs that load it",
    "optimisation_level": "0 to 5 (default 3): how long the builder searches",
    "timing_cache": "keep timings on the device for later builds (default true)",
    "tf32": "float32 products may round their inputs to 10 bits (default false)",
}
"""Option -> what it means and its default."""

_FLAGS = {
    "dla": "--useDLACore",
    "dla_fallback": "--allowGPUFallback",
    "sparsity": "--sparsity",
    "refit": "--refit",
    "version_compatible": "--versionCompatible",
    HARDWARE: "--hardwareCompatibilityLevel",
    "workspace": "--memPoolSize",
}
_LEVELS = range(6)
_JETSON = frozenset({"7.2", "8.7", "10.1", "11.0"})
"""Compute capabilities of Xavier, Orin and Thor (two names of one). Source: CUDA GPUs page."""

_RANGE = re.compile(r">=([0-9.]+)(?:,<([0-9.]+))?")


def settings(options: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options, with their defaults, in the form that a recipe keeps.

    Args:
        options: What the profile asks for.
        fields: ``board.gpu`` and ``runtime.versions`` of the target, where set.

    Returns:
        As :data:`KNOWN`, but ``opt`` as sizes by dim, ``workspace`` in bytes and ``dla`` a core;
        None where not set.

    Raises:
        BuildError: An option or value that does not exist (E310), that no release within the
            target's versions has (E336), or that does not fit the board (E338).
    """
    found = checked_options(options, KNOWN)
    found["opt"] = written_sizes(found["opt"])
    found["dla"] = None if found["dla"] < 0 else found["dla"]
    found["workspace"] = _workspace(found["workspace"])
    if found["optimisation_level"] not in _LEVELS:
        raise BuildError(
            f"option optimisation_level cannot be {found['optimisation_level']!r}",
            code="E310",
            subject="optimisation_level",
            hint="use one of: 0, 1, 2, 3, 4, 5",
        )
    _check_versions(found, fields.get("runtime.versions") or ">=8.6")
    _check_board(found, fields.get("board.gpu") or {})
    return found


def check_types(options: Mapping[str, Any], types: tuple[str, ...]) -> None:
    """Refuse a DLA core for a graph of float32.

    Source: TensorRT documentation 11.3, "Building and Launching the Loadable": DLA runs networks
    in FP16 and INT8.

    Raises:
        BuildError: It is one (E338).
    """
    if options["dla"] is not None and not {"float16", "int8"} & set(types):
        raise _unfit(
            "dla",
            "a DLA core computes in float16 or int8, and this model is float32",
            "set `quantize: fp16`, or leave `dla` out",
        )


def _workspace(words: str) -> int | None:
    """Return the limit in bytes, whole MiB: trtexec counts in them."""
    size = written_bytes("workspace", words)
    if size is None:
        return None
    if size < MIB:
        raise _unfit("workspace", f"a workspace of {words} is less than 1 MiB", "write `1 GiB`")
    return size - size % MIB


def _check_versions(options: Mapping[str, Any], versions: str) -> None:
    """Refuse an option that works in no release that the target allows."""
    for name, flag in _FLAGS.items():
        # DLA core 0 is asked for: it equals False, and is not.
        if options[name] is None or options[name] is False or options[name] == "none":
            continue
        row = table()[flag]
        if name == HARDWARE and options[name] != "ampere+":
            row = table()[f"{flag}=sameComputeCapability"]
        if not any(row.is_effective(release) for release in _within(versions, row)):
            raise missing(row, _within(versions, row)[0], name)


def _within(versions: str, row: TrtOption) -> list[Version]:
    """Return the releases of a range; the range itself where none of the table is within."""
    match = _RANGE.fullmatch(versions)
    low = _numbers(match.group(1)) if match else RELEASES[0]
    high = _numbers(match.group(2)) if match and match.group(2) else None
    found = [item for item in RELEASES if low <= item and (high is None or item < high)]
    return found or [low]


def _numbers(written: str) -> Version:
    return tuple(int(part) for part in written.split("."))


def _check_board(options: Mapping[str, Any], gpu: Mapping[str, Any]) -> None:
    capabilities = gpu.get("compute_capabilities") or []
    cores = gpu.get("dla_cores") or 0
    if options["dla"] is not None and options["dla"] >= cores:
        there = f"{cores} DLA core{'s' if cores != 1 else ''}"
        raise _unfit(
            "dla",
            f"the board has {there if cores else 'no DLA core'}, and core {options['dla']} is "
            "asked for",
            f"use a core from 0 to {cores - 1}" if cores else "leave `dla` out",
        )
    if options["dla_fallback"] and options["dla"] is None:
        raise _unfit("dla_fallback", "there is no `dla` to fall back from", "set `dla: 0`, or not")
    old = [item for item in capabilities if _numbers(item) < (8, 0)]
    for name in ("sparsity", HARDWARE):
        if options[name] in (False, "none", "same-compute-capability") or not old:
            continue
        raise _unfit(
            name,
            f"{name} needs compute capability 8.0, and the board has {', '.join(old)}",
            f"leave `{name}` out",
        )
    if options[HARDWARE] == "ampere+" and (jetson := sorted(_JETSON & set(capabilities))):
        raise _unfit(
            HARDWARE,
            f"JetPack makes no engines for other GPUs (compute capability {', '.join(jetson)})",
            f"leave `{HARDWARE}` out; every device of another kind builds its own engine",
        )


def _unfit(name: str, message: str, hint: str) -> BuildError:
    return BuildError(message, code="E338", subject=name, hint=hint)
