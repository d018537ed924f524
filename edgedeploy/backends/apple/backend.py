"""The ``apple`` backend: Core ML packages (ML Programs), from float, fp16 or QDQ models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedeploy.backends import FAMILIES
from edgedeploy.backends.apple.interface import INTERFACE, Interface, Wishes
from edgedeploy.backends.base import (
    Arithmetic,
    Backend,
    CompiledFile,
    CompileReport,
    LayerTime,
    NodePlacement,
    Placement,
    ProviderPlacement,
    Ranges,
    Words,
    checked_options,
)
from edgedeploy.backends.inputs import Inputs
from edgedeploy.errors import BuildError

if TYPE_CHECKING:
    from edgedeploy.mil.program import Program
    from edgedeploy.runner import Runner

SHOWN_FINDINGS = 5

_OPTIONS: Mapping[str, Any] = {
    "precision": ("float32", "float16"),
    "shapes": ("range", "enumerated"),
    "images": False,
    "classifier": False,
    "stateful": False,
    "keep_float": [],
    "keep_float_ops": [],
    "compress": ("none", "int8", "int4", "palette-8", "palette-6", "palette-4", "palette-2"),
}


class CoreMl:
    """Core ML; an :class:`edgedeploy.backends.base.Backend`."""

    name = "apple"
    version = 1
    tools = FAMILIES["coreml"].tools
    reads = FAMILIES["coreml"].reads
    options: Mapping[str, str] = {
        "precision": "float32 (default) or float16: what the program computes in",
        "shapes": "range (default) or enumerated: how the sizes of open dims are told",
        "images": "inputs that the profile describes as images take pixels (default false)",
        "classifier": "the first output answers with a class by name (default false)",
        "stateful": "Core ML keeps the profile's state between predictions (default false)",
        "keep_float": "nodes (names or glob patterns) that compute in float32 (default none)",
        "keep_float_ops": "operators that compute in float32 (default none)",
        "compress": "none (default), int8, int4, palette-8, -6, -4 or -2: smaller weights",
    }

    def preflight(self, model: Path, fields: Mapping[str, Any]) -> Placement:
        """Return which nodes Core ML can express; which unit runs them, only a device knows."""
        import onnx_ir as ir

        from edgedeploy.backends.apple.translate import translate

        source = ir.load(model)
        try:
            translate(source, ios=deployment_target(fields))
        except BuildError as error:
            return _placement(source, {str(item.subject): item for item in error.diagnostics})
        return _placement(source, {})

    def compile(
        self,
        model: Path,
        folder: Path,
        options: Mapping[str, Any],
        fields: Mapping[str, Any],
        *,
        ranges: Ranges | None = None,
        words: Words | None = None,
    ) -> CompileReport:
        """Write the package, and what its inputs and outputs are in the ONNX model.

        The same inputs give the same bytes, whatever the process or folder.

        Raises:
            BuildError: An option that does not exist (E310); nodes, inputs or outputs that cannot
                be expressed (E340, E341), as an image, state or class (E344, E346, E347), or of
                open sizes (E348); or coremltools refuses the whole (E342).
        """
        import onnx_ir as ir

        from edgedeploy.backends.apple.canonical import canonicalise
        from edgedeploy.backends.apple.keep import Keep
        from edgedeploy.backends.apple.package import PACKAGE, save
        from edgedeploy.backends.apple.refine import build_precise
        from edgedeploy.backends.apple.runner import CoreMlRunner
        from edgedeploy.backends.apple.translate import translate

        chosen = checked_options(options, _OPTIONS)
        told = words or Words()
        ios = deployment_target(fields)

        def build(place: Path, precision: str, kept: Collection[str]) -> None:
            translation = translate(
                ir.load(model),
                ios=ios,
                wishes=_wishes(chosen, told),
                keep=Keep(nodes=chosen["keep_float"], ops=chosen["keep_float_ops"]),
            )
            package = save(
                translation,
                place,
                precision=precision,
                keep=kept,
                ranges=ranges,
                listed=_listed(told) if chosen["shapes"] == "enumerated" else {},
                compress=chosen["compress"],
            )
            canonicalise(package, told)
            translation.interface.write(place)

        refinement = build_precise(build, folder, chosen["precision"], told.samples)
        interface = Interface.read(folder)
        with CoreMlRunner(folder) as runner:
            program = runner.program
        return CompileReport(
            entry=PACKAGE,
            files=(
                *_files(folder, folder / PACKAGE),
                CompiledFile(path=INTERFACE, role="interface"),
            ),
            notes=(*_notes(interface), *refinement.notes(), *_lint(program)),
            metadata={
                "format": "mlpackage",
                "ios": ios,
                "opset": program.opset,
                "precision": chosen["precision"],
                "float32_operations": list(refinement.kept),
                "operations": _kinds(program),
            },
        )

    def runner(
        self, folder: Path, *, threads: int = 1, options: Mapping[str, Any] | None = None
    ) -> Runner:
        """Return the package, interpreted; on a Mac, run by Core ML.

        Args:
            folder: What a compile wrote.
            threads: Not used: neither has threads of its own to set.
            options: Not used: all of them are in the package.

        Raises:
            BuildError: It does not load (E317), or has operations that are not known (E361).
        """
        from edgedeploy.backends.apple.runner import CoreMlRunner

        return CoreMlRunner(folder)

    def layer_times(
        self,
        folder: Path,
        inputs: Inputs,
        *,
        threads: int = 1,
        repeats: int = 10,
        options: Mapping[str, Any] | None = None,
    ) -> list[LayerTime]:
        """Refuse: Core ML tells times to its own tools alone, and an interpreter's say nothing.

        Raises:
            BuildError: Always (E343).
        """
        raise BuildError(
            "the layers of a Core ML package can be timed by Apple's tools alone",
            code="E343",
            hint="open the package in Xcode on a Mac and make a performance report",
        )

    def arithmetic(
        self, folder: Path, inputs: Inputs, *, options: Mapping[str, Any] | None = None
    ) -> Arithmetic:
        """Return which layers the program states on integers.

        Raises:
            BuildError: It does not load (E317) or run (E331-E333, E362).
        """
        from edgedeploy.backends.apple.arithmetic import arithmetic

        return arithmetic(folder, inputs)


def deployment_target(fields: Mapping[str, Any]) -> int:
    """Return the major version of iOS whose programs the board's system runs: 16, 17 or 18.

    macOS 13, 14 and 15 came with iOS 16, 17 and 18; both count alike from 26 on.
    """
    version = int(fields["board.os_version"])
    if fields["board.os"] == "macos" and version < 26:
        version += 3
    return min(version, 18)


def _wishes(chosen: Mapping[str, Any], words: Words) -> Wishes:
    if chosen["classifier"] and not words.classes:
        raise BuildError(
            "`classifier` is on, and the profile names no classes",
            code="E347",
            subject="classifier",
            hint="name a file with one class per line: `model: {classes: classes.txt}`",
        )
    return Wishes(
        images=words.images if chosen["images"] else {},
        states=words.state if chosen["stateful"] else (),
        classes=words.classes if chosen["classifier"] else (),
    )


def _listed(words: Words) -> dict[str, Sequence[int]]:
    """Return all sizes of dims that have few: buckets, and ranges with a step."""
    found: dict[str, Sequence[int]] = {}
    for name, dim in words.dims.items():
        if dim.buckets:
            found[name] = dim.buckets
        elif dim.low is not None and dim.high is not None:
            found[name] = range(dim.low, dim.high + 1, dim.step)
    return found


def _placement(source: Any, refused: Mapping[str, Any]) -> Placement:
    nodes = tuple(
        NodePlacement(
            node=node.name or "",
            op=f"{node.domain or 'ai.onnx'}:{node.op_type}",
            supported=node.name not in refused,
            reason=refused[node.name].message if node.name in refused else None,
        )
        for node in source.graph
    )
    note = "not judged: which unit runs an operation is decided on the device"
    units = ProviderPlacement(
        provider="CPU, GPU or Neural Engine",
        judged=False,
        partitions=None,
        nodes=(),
        source="none",
        notes=(note,),
    )
    whole = ProviderPlacement(
        provider="Core ML",
        judged=True,
        partitions=1,
        nodes=nodes,
        source="the translation itself",
    )
    return Placement(providers=(whole, units), diagnostics=tuple(refused.values()))


def _files(folder: Path, package: Path) -> Iterator[CompiledFile]:
    """Yield the files of the package, the model first."""
    inside = (path for path in package.rglob("*") if path.is_file())
    for path in sorted(inside, key=lambda item: (item.suffix != ".mlmodel", item.as_posix())):
        yield CompiledFile(
            path=path.relative_to(folder).as_posix(),
            role="weights" if path.suffix == ".bin" else "model",
        )


def _notes(interface: Interface) -> Iterator[str]:
    renamed = [f"{port.onnx_name} is {port.name}" for port in interface.renamed()]
    if renamed:
        yield f"names that Core ML cannot have were changed: {', '.join(renamed)}"
    narrowed = {
        port.onnx_name: f"{port.onnx_dtype} as {port.dtype}"
        for port in (*interface.inputs, *interface.outputs)
        if port.onnx_dtype != port.dtype and port.kind == "array"
    }
    if narrowed:
        told = ", ".join(f"{name} ({what})" for name, what in narrowed.items())
        yield f"Core ML has fewer types: {told}"


def _lint(program: Program) -> Iterator[str]:
    """Yield what is known to go wrong on devices."""
    from edgedeploy.mil.rules import findings

    found = findings(program)
    for item in found[:SHOWN_FINDINGS]:
        yield f"may fail on a device: {item.subject}: {item.message} ({item.rule})"
    if len(found) > SHOWN_FINDINGS:
        yield f"may fail on a device: {len(found) - SHOWN_FINDINGS} more of this kind"


def _kinds(program: Program) -> dict[str, int]:
    from edgedeploy.mil.interpreter import operations

    found = Counter(item.kind for item in operations(program.body) if item.kind != "const")
    return dict(sorted(found.items()))


BACKEND: Backend = CoreMl()
