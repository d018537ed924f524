"""The ``apple`` backend: Core ML packages (ML Programs), from float, fp16 or QDQ models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedeploy.backends import FAMILIES
from edgedeploy.backends.apple.interface import INTERFACE
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

PLACEMENT = "placement.json"

_OPTIONS: Mapping[str, Any] = {"precision": ("float32", "float16"), "compress": ("none",)}


class CoreMl:
    """Core ML; an :class:`edgedeploy.backends.base.Backend`."""

    name = "apple"
    version = 1
    tools = FAMILIES["coreml"].tools
    reads = FAMILIES["coreml"].reads
    options: Mapping[str, str] = {
        "precision": "float32 (default) or float16: what the program computes in",
        "compress": "none (default)",
    }

    def preflight(self, model: Path, fields: Mapping[str, Any]) -> Placement:
        """Return which nodes Core ML can express."""
        from edgedeploy.backends.apple.translate import translate

        source = _load(model)
        refused: dict[str, str] = {}
        diagnostics: tuple[Any, ...] = ()
        try:
            translate(source, ios=deployment_target(fields))
        except BuildError as error:
            diagnostics = error.diagnostics
            refused = {str(item.subject): item.message for item in diagnostics}
        nodes = tuple(
            NodePlacement(
                node=node.name or "",
                op=f"{node.domain or 'ai.onnx'}:{node.op_type}",
                supported=node.name not in refused,
                reason=refused.get(node.name or ""),
            )
            for node in source.graph
        )
        return Placement(
            providers=(
                ProviderPlacement(
                    provider="Core ML",
                    judged=True,
                    partitions=1,
                    nodes=nodes,
                    source="the translation itself",
                    notes=("which unit runs an operation is decided on the device",),
                ),
            ),
            diagnostics=diagnostics,
        )

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
        """Write the package, what its inputs and outputs are, and the placement.

        Raises:
            BuildError: An option that does not exist (E310), nodes, inputs or outputs that cannot
                be expressed (E340, E341), or coremltools refuses the whole (E342).
        """
        from edgedeploy.backends.apple.package import PACKAGE, save
        from edgedeploy.backends.apple.runner import CoreMlRunner
        from edgedeploy.backends.apple.translate import translate

        chosen = checked_options(options, _OPTIONS)
        ios = deployment_target(fields)
        translation = translate(_load(model), ios=ios)
        package = save(translation, folder, precision=chosen["precision"], ranges=ranges)
        translation.interface.write(folder)
        CoreMlRunner(folder).close()
        inside = sorted(path for path in package.rglob("*") if path.is_file())
        files = [
            CompiledFile(
                path=path.relative_to(folder).as_posix(),
                role="weights" if path.suffix == ".bin" else "model",
            )
            for path in inside
        ]
        return CompileReport(
            entry=PACKAGE,
            files=(*files, CompiledFile(path=INTERFACE, role="signature")),
            metadata={"format": "mlpackage", "ios": ios, "precision": chosen["precision"]},
        )

    def runner(
        self, folder: Path, *, threads: int = 1, options: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the package in our interpreter.

        Raises:
            BuildError: It does not load (E317).
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
        """Refuse: the times of an interpreter say nothing of Core ML.

        Raises:
            BuildError: Always (E343).
        """
        raise BuildError(
            "the layers of a Core ML package can be timed on a Mac or a device only",
            code="E343",
            hint="measure it with Xcode's performance report",
        )

    def arithmetic(
        self, folder: Path, inputs: Inputs, *, options: Mapping[str, Any] | None = None
    ) -> Arithmetic:
        """Return which layers the program states on integers."""
        return Arithmetic(layers=(), conversions=0)


def deployment_target(fields: Mapping[str, Any]) -> int:
    """Return the major version of iOS whose programs the board's system runs."""
    version = int(fields["board.os_version"])
    if fields["board.os"] == "macos" and version < 26:  # macOS 13 came with iOS 16
        version += 3
    return min(version, 18)


def _load(model: Path) -> Any:
    import onnx_ir as ir

    return ir.load(model)


def _write_json(path: Path, data: Any) -> None:
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


BACKEND: Backend = CoreMl()
