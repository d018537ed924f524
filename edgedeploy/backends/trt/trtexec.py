"""Command lines of trtexec, made of the table of options alone.

How types of the graph are held, by release: 11 knows nothing else; 10 is told ``--stronglyTyped``;
8.6, and DLA cores before 11, have no strong typing: see :func:`_weak_types`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgedeploy.backends.trt.options import Version, argument, parse_version, text
from edgedeploy.errors import BuildError

MIB = 1 << 20
HARDWARE = "hardware_compatible"

_STRONG_ONLY = frozenset({"bfloat16", "float8e4m3fn", "float8e5m2", "int4", "uint4", "float4e2m1"})
"""Types of ONNX that no flag of a release without strong typing stands for."""

_WORDS = {"float16": "fp16", "float32": "fp32"}
_MOST_LETTERS = 100_000
"""Linux takes arguments of 131072 bytes at most (MAX_ARG_STRLEN)."""


def build_command(
    version: str,
    recipe: Mapping[str, Any],
    *,
    trtexec: str = "trtexec",
    model: str,
    engine: str,
    timing_cache: str | None = None,
    layers: str | None = None,
    verbose: bool = True,
) -> list[str]:
    """Return the command that builds an engine.

    Args:
        version: TensorRT of the device, such as ``10.3.0``.
        recipe: What ``program/recipe.json`` says.
        trtexec: Path of the program on the device.
        model: Path of ``model.onnx`` there; its weights lie beside it.
        engine: Path of the engine that is written.
        timing_cache: Path of the timings that are read and written; None: none are kept.
        layers: Path of the JSON of layers that is written; None: none is.
        verbose: Whether the log tells of every layer: that is what progress is read from.

    Returns:
        Program and arguments, not quoted for a shell.

    Raises:
        BuildError: The release lacks what an option needs (E336), is of no known line (E337), or
            the program and an option exclude one another (E338).
    """
    release = parse_version(version)
    options = recipe["options"]
    command = [
        trtexec,
        argument("--onnx", release, model),
        argument("--saveEngine", release, engine),
        *_types(release, recipe),
        *_profiles(release, recipe["profiles"]),
        *_limits(release, options),
        *_portable(release, options),
        *dla_arguments(release, options),
    ]
    if not options["timing_cache"]:
        command.append(argument("--noBuilderCache", release, needed_by="timing_cache"))
    elif timing_cache is not None:
        command.append(argument("--timingCacheFile", release, timing_cache))
    command.append(argument("--profilingVerbosity", release, "detailed"))
    if layers is not None:
        command.append(argument("--exportLayerInfo", release, layers))
    if verbose:
        command.append(argument("--verbose", release))
    command.append(argument("--skipInference", release))
    return command


def bench_command(
    version: str,
    recipe: Mapping[str, Any],
    *,
    trtexec: str = "trtexec",
    engine: str,
    shapes: Mapping[str, Sequence[int]],
    warm_up_ms: int,
    duration_s: int,
    iterations: int,
    profile: int = 0,
    transfers: bool = True,
    cuda_graph: bool = False,
    spin_wait: bool = False,
    inputs: Mapping[str, str] | None = None,
    times: str | None = None,
    outputs: str | None = None,
    layer_times: str | None = None,
) -> list[str]:
    """Return the command that runs an engine and writes what it measured.

    11.0 turned the defaults of transfers, CUDA graph and waiting round; here the arguments mean
    the same for every release.

    Args:
        version: TensorRT of the device.
        recipe: What the engine was built by.
        trtexec: Path of the program on the device.
        engine: Path of the engine.
        shapes: Size of each input with open dims.
        warm_up_ms: Milliseconds that do not count.
        duration_s: Shortest time, in seconds.
        iterations: Fewest inferences.
        profile: Number of the optimisation profile.
        transfers: Whether copies from and to the host belong to an inference.
        cuda_graph: Whether an inference is launched as one CUDA graph.
        spin_wait: Whether the host waits actively.
        inputs: Raw file (C order, host byte order) by input; None: random numbers.
        times: JSON file for the time of each inference.
        outputs: JSON file for the outputs of the last inference.
        layer_times: JSON file for times of layers, taken in a run of their own.

    Raises:
        BuildError: As :func:`build_command`.
    """
    release = parse_version(version)
    options = recipe["options"]
    command = [trtexec, argument("--loadEngine", release, engine)]
    if options["version_compatible"]:
        command.append(argument("--versionCompatible", release))
    command += dla_arguments(release, options)
    if shapes:
        command.append(argument("--shapes", release, _shapes(shapes)))
    if profile:
        command.append(argument("--useProfile", release, profile, needed_by="several profiles"))
    if inputs:
        files = ",".join(f"{_name(name)}:{_path(file)}" for name, file in inputs.items())
        command.append(argument("--loadInputs", release, files))
    command += [
        argument("--warmUp", release, warm_up_ms),
        argument("--duration", release, duration_s),
        argument("--iterations", release, iterations),
    ]
    before = release < (11, 0)
    for wanted, usual, flag in (
        (transfers, before, "--includeDataTransfers" if not before else "--noDataTransfers"),
        (cuda_graph, not before, "--useCudaGraph" if before else "--noCudaGraph"),
        (spin_wait, not before, "--useSpinWait" if before else "--noSpinWait"),
    ):
        if wanted != usual:
            command.append(argument(flag, release))
    for flag, file in (
        ("--exportTimes", times),
        ("--exportOutput", outputs),
        ("--exportProfile", layer_times),
    ):
        if file is not None:
            command.append(argument(flag, release, file))
    if layer_times is not None and before:
        command.append(argument("--separateProfileRun", release))
    return command


def dla_arguments(release: Version, options: Mapping[str, Any]) -> list[str]:
    """Return the arguments for a DLA core, none where none is asked for (E336)."""
    if options["dla"] is None:
        return []
    found = [argument("--useDLACore", release, options["dla"], needed_by="dla")]
    if options["dla_fallback"]:
        found.append(argument("--allowGPUFallback", release, needed_by="dla_fallback"))
    return found


def is_strongly_typed(release: Version, options: Mapping[str, Any]) -> bool:
    """Return whether types of the graph hold as they are where a release builds it.

    DLA cores take strongly typed networks from 11 on.
    Source: TensorRT documentation 11.4.1, "Strongly Typed Networks for DLA".
    """
    return release >= (11, 0) or (release >= (10, 0) and options["dla"] is None)


def _types(release: Version, recipe: Mapping[str, Any]) -> list[str]:
    """Return the arguments that make the types of the graph hold."""
    options = recipe["options"]
    found = [] if options["tf32"] else [argument("--noTF32", release, needed_by="tf32")]
    if not is_strongly_typed(release, options):
        return found + _weak_types(release, recipe)
    if release < (11, 0):
        found.append(argument("--stronglyTyped", release))
    return found


def _weak_types(release: Version, recipe: Mapping[str, Any]) -> list[str]:
    """Return the flags that hold the types of the graph as far as weak typing can.

    A graph of float32 gets none: nothing else is allowed then. float16 is allowed where the graph
    has it; ``--precisionConstraints=obey`` with a type for every layer then says which of them
    compute in which: TensorRT keeps to it or fails. int8 stays where QuantizeLinear and
    DequantizeLinear put it; a type for the layers between would contradict that, hence not with
    float16. What weak typing leaves open: the type in which a layer hands on its output, which may
    be wider.

    Source: NVIDIA TensorRT 8.6 documentation, "Reduced Precision", "Explicit Quantization".
    """
    types = set(recipe["precision"])
    others = sorted(types & _STRONG_ONLY)
    if {"int8", "float16"} <= types:
        others = ["int8 together with float16"]
    if others:
        raise BuildError(
            f"TensorRT {text(release)} cannot hold {', '.join(others)}: it has no strong typing"
            + (" on DLA cores" if release >= (10, 0) else ""),
            code="E336",
            subject=", ".join(others),
            hint="use another `quantize:`, or a device with TensorRT 10 or later",
        )
    found = []
    if "int8" in types:
        found.append(argument("--int8", release))
    if "float16" in types:
        found.append(argument("--fp16", release))
        found.append(argument("--precisionConstraints", release, "obey"))
        found.append(argument("--layerPrecisions", release, _layer_types(recipe["layers"])))
    return found


def _layer_types(layers: Mapping[str, Any]) -> str:
    """Return the type of every layer, ``*`` first: a later entry wins over an earlier one."""
    entries = [f"*:{_WORDS[layers['default']]}"]
    entries += [f"{_name(name)}:{_WORDS[kind]}" for name, kind in layers["exceptions"].items()]
    spec = ",".join(entries)
    if len(spec.encode()) > _MOST_LETTERS:
        raise BuildError(
            f"{len(layers['exceptions'])} layers keep another type than the rest: too many for "
            "the command line of a TensorRT without strong typing",
            code="E338",
            subject="keep_float",
            hint="keep fewer nodes in float, or use a device with TensorRT 10 or later",
        )
    return spec


def _profiles(release: Version, profiles: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the sizes of every optimisation profile, none for a model without open dims."""
    found: list[str] = []
    for number, profile in enumerate(profiles):
        if len(profiles) > 1:
            found.append(argument("--profile", release, number, needed_by="several profiles"))
        for flag, end in (("--minShapes", "min"), ("--optShapes", "opt"), ("--maxShapes", "max")):
            sizes = {name: limits[end] for name, limits in profile.items()}
            found.append(argument(flag, release, _shapes(sizes)))
    return found


def _limits(release: Version, options: Mapping[str, Any]) -> list[str]:
    found = []
    if options["workspace"] is not None:
        # Without a unit the number is MiB, to every release.
        size = f"workspace:{options['workspace'] // MIB}"
        found.append(argument("--memPoolSize", release, size, needed_by="workspace"))
    level = options["optimisation_level"]
    found.append(
        argument("--builderOptimizationLevel", release, level, needed_by="optimisation_level")
    )
    if options["sparsity"]:
        found.append(argument("--sparsity", release, "enable", needed_by="sparsity"))
    return found


def _portable(release: Version, options: Mapping[str, Any]) -> list[str]:
    found = []
    if options["refit"]:
        found.append(argument("--refit", release, needed_by="refit"))
    if options["version_compatible"]:
        found.append(argument("--versionCompatible", release, needed_by="version_compatible"))
    level = options["hardware_compatible"]
    if level == "ampere+":
        found.append(argument("--hardwareCompatibilityLevel", release, level, needed_by=HARDWARE))
    elif level != "none":
        flag = "--hardwareCompatibilityLevel=sameComputeCapability"
        found.append(argument(flag, release, needed_by=HARDWARE))
    return found


def _shapes(sizes: Mapping[str, Sequence[int]]) -> str:
    return ",".join(f"{_name(name)}:{'x'.join(map(str, size))}" for name, size in sizes.items())


def _name(name: str) -> str:
    """Return a name as trtexec takes it in its lists: the last ``:`` ends it, ``,`` the entry."""
    return _without(name, ",'*", "name")


def _path(path: str) -> str:
    return _without(path, ",:", "path")


def _without(given: str, letters: str, what: str) -> str:
    if not given or any(letter in given for letter in letters):
        raise BuildError(
            f"the command line of trtexec has no way to write the {what} {given!r}",
            code="E338",
            subject=given[:80],
            hint="give it a name of letters, digits, `_`, `.` and `/`",
        )
    return given
