"""The ``ortmobile`` backend: ``.ort`` artifacts for ONNX Runtime on phones and boards."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedeploy.backends import FAMILIES
from edgedeploy.backends.base import (
    Arithmetic,
    Backend,
    CompiledFile,
    CompileReport,
    LayerTime,
    Placement,
    Ranges,
    Words,
    checked_options,
)
from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.ortmobile import convert, layers, reduced
from edgedeploy.backends.ortmobile.arithmetic import arithmetic
from edgedeploy.backends.ortmobile.contrib import check_fused
from edgedeploy.backends.ortmobile.graph import GraphFacts, read_graph
from edgedeploy.backends.ortmobile.kernels import KernelRegistry, place_on_cpu
from edgedeploy.backends.ortmobile.mobile import place_on_mobile
from edgedeploy.backends.ortmobile.runner import ENTRY, OrtRunner, load_runtime, open_artifact
from edgedeploy.errors import BuildError, Diagnostic

PLACEMENT = "placement.json"
# First version with 8-bit MatMulNBits: https://github.com/microsoft/onnxruntime/pull/24384
_EIGHT_BIT_PRODUCTS = (1, 22)
# First version in which MatMulNBits takes a bias: 1.18.1 refuses it, 1.19.2 runs it.
# https://github.com/microsoft/onnxruntime/pull/20587
_PRODUCTS_WITH_BIAS = (1, 19)

_INT8_PREFIXES = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantize", "QAtten")

# ``fixed`` first: saved optimisations are replayed only where an app switches that on
# (session.enable_saved_runtime_optimizations), and without it the graph runs unfused. ``runtime``
# is for NNAPI and Core ML, which need the unfused graph to take their share of it.
_OPTIONS: Mapping[str, Any] = {
    "optimization_style": ("fixed", "runtime"),
    "target_platform": ("auto", "arm", "amd64"),
}
_ARM = ("arm64", "armv7", "armv6", "aarch64")


class OrtMobile:
    """ONNX Runtime Mobile; an :class:`edgedeploy.backends.base.Backend`."""

    name = "ortmobile"
    version = 1
    tools = FAMILIES["ort"].tools
    reads = FAMILIES["ort"].reads
    options: Mapping[str, str] = {
        "optimization_style": "fixed (default): fusions are baked in, best for CPU and XNNPACK; "
        "runtime: saved beside the plain graph, best for NNAPI and Core ML",
        "target_platform": "auto (default, from board.arch), arm or amd64: how signed int8 "
        "activations are handled",
    }

    def preflight(self, model: Path, fields: Mapping[str, Any]) -> Placement:
        """Return what the CPU, XNNPACK, NNAPI and Core ML providers take of the model.

        Raises:
            BuildError: The file is no ONNX model (E312).
        """
        return _preflight(read_graph(model), fields)

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
        """Write ``model.ort``, the operators config, the build command and the placement.

        The same inputs give the same bytes, whatever the process or folder.

        Raises:
            BuildError: An option that does not exist (E310), a model that the target's oldest
                runtime cannot run (E302-E305), that is too large (E314) or bound to this machine
                (E315), or an artifact that does not load (E317).
        """
        chosen = checked_options(options, _OPTIONS)
        convert.check_size(model)
        facts = read_graph(model)
        placement = _preflight(facts, fields)
        refused = [item for item in placement.diagnostics if item.severity == "error"]
        if refused:
            raise BuildError(refused)
        arm = chosen["target_platform"] == "arm" or (
            chosen["target_platform"] == "auto" and fields.get("board.arch") in _ARM
        )
        style = chosen["optimization_style"]
        with tempfile.TemporaryDirectory(dir=folder, prefix=".work-") as private:
            work = Path(private)
            written, skeletons = work / "written.ort", [work / "skeleton.ort"]
            quantized = any(node.op == "ai.onnx:DequantizeLinear" for node in facts.nodes)
            oldest = reduced.oldest_version(fields) or str(load_runtime().__version__)
            save = functools.partial(
                convert.save_optimised,
                model,
                written,
                arm=arm,
                quantized=quantized,
                too_new=_too_new(facts, oldest),
            )
            save(minimal="save" if style == "runtime" else None)
            made = convert.canonicalise(written, folder / ENTRY, skeletons[0])
            if not load_runtime().__version__.startswith(oldest):
                check_fused(made.kernels, (node.op for node in facts.nodes), oldest)
            if style == "runtime":
                # The device ends up with either graph, so the config must cover both.
                save(minimal="apply")
                skeletons.append(work / "skeleton_replayed.ort")
                convert.canonicalise(written, work / "replayed.ort", skeletons[1])
            config = reduced.required_operators(skeletons)
        domains = sorted({name.split(":")[0] for name in made.kernels})
        _write(folder / reduced.CONFIG, config)
        _write(
            folder / reduced.COMMAND,
            reduced.build_command(fields, domains, installed_version=load_runtime().__version__),
        )
        _write(folder / PLACEMENT, json.dumps(placement.to_json(), indent=1, sort_keys=True) + "\n")
        open_artifact(folder, optimization_style=style).close()
        return CompileReport(
            entry=ENTRY,
            files=(
                CompiledFile(path=ENTRY, role="model", tensors=made.tensors),
                CompiledFile(path=reduced.CONFIG, role="operators"),
                CompiledFile(path=reduced.COMMAND, role="build-command"),
                CompiledFile(path=PLACEMENT, role="placement"),
            ),
            notes=(
                *placement.providers[0].notes,
                *_replay_notes(made),
                *_range_notes(ranges or {}),
            ),
            metadata={
                "format": "ort",
                "opset": facts.opsets.get("ai.onnx"),
                "optimization_style": style,
                "target_platform": "arm" if arm else "amd64",
                "kernels": dict(made.kernels),
                "int8_kernels": _count_int8(made.kernels),
                "saved_optimizations": made.saved,
            },
        )

    def runner(
        self, folder: Path, *, threads: int = 1, options: Mapping[str, Any] | None = None
    ) -> OrtRunner:
        """Return the artifact, loaded memory-mapped.

        Raises:
            BuildError: It does not load (E317).
        """
        style = checked_options(options or {}, _OPTIONS)["optimization_style"]
        return open_artifact(folder, threads=threads, optimization_style=style)

    def layer_times(
        self,
        folder: Path,
        inputs: Inputs,
        *,
        threads: int = 1,
        repeats: int = 10,
        options: Mapping[str, Any] | None = None,
    ) -> list[LayerTime]:
        """Return the mean time of every executed node, in order of execution.

        Raises:
            BuildError: It does not load (E317) or run (E330-E333).
        """
        style = checked_options(options or {}, _OPTIONS)["optimization_style"]
        return layers.layer_times(
            folder, inputs, threads=threads, repeats=repeats, optimization_style=style
        )

    def arithmetic(
        self, folder: Path, inputs: Inputs, *, options: Mapping[str, Any] | None = None
    ) -> Arithmetic:
        """Return what the CPU provider computes on integers.

        Raises:
            BuildError: It does not load (E317) or run (E330-E333).
        """
        style = checked_options(options or {}, _OPTIONS)["optimization_style"]
        return arithmetic(folder, inputs, optimization_style=style)


def _range_notes(ranges: Ranges) -> list[str]:
    return [
        f"the dim {name!r} is left open: the format cannot hold {low}..{high}, the runtime takes "
        "any size"
        for name, (low, high) in ranges.items()
    ]


def _too_new(facts: GraphFacts, oldest: str) -> list[str]:
    """Return the optimisers that make what the oldest runtime in the field does not have."""
    version = tuple(map(int, oldest.split(".")[:2]))
    found = []
    if version < _PRODUCTS_WITH_BIAS:
        found.append(convert.JOINS_BIAS)
    # With quantized activations true integer products are made of int8 weights, at any version.
    integer = any(node.op == "ai.onnx:QuantizeLinear" for node in facts.nodes)
    if version < _EIGHT_BIT_PRODUCTS and not integer:
        found.append(convert.JOINS_WEIGHTS)
    return found


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _replay_notes(made: convert.CanonicalModel) -> tuple[str, ...]:
    if not made.left_out:
        return ()
    return (
        f"{made.left_out} saved optimisations are left out because not every runtime of the range "
        "can replay them; their nodes run unfused",
    )


def _count_int8(kernels: Mapping[str, int]) -> int:
    return sum(
        count for name, count in kernels.items() if name.split(":")[1].startswith(_INT8_PREFIXES)
    )


def _preflight(facts: GraphFacts, fields: Mapping[str, Any]) -> Placement:
    cpu = place_on_cpu(facts, KernelRegistry())
    diagnostics = _version_findings(facts, fields)
    for node in cpu.nodes:
        if not node.supported:
            unknown = node.reason == "the runtime does not know the operator"
            code = "E302" if unknown else "E303"
            diagnostics.append(
                Diagnostic(
                    code=code,
                    message=f"node {node.node!r} ({node.op}): {node.reason}",
                    subject=node.node,
                    hint=convert.HINTS[code],
                )
            )
    return Placement(providers=(cpu, *place_on_mobile(facts)), diagnostics=tuple(diagnostics))


def _version_findings(facts: GraphFacts, fields: Mapping[str, Any]) -> list[Diagnostic]:
    """Return what the target's oldest runtime is too old for."""
    oldest = reduced.oldest_version(fields) or "the oldest supported version"
    found = []
    for what, given, limit in (
        ("opset", facts.opsets.get("ai.onnx", 0), fields.get("runtime.opset")),
        ("IR version", facts.ir_version, fields.get("runtime.ir_version")),
    ):
        if limit is not None and given > int(limit):
            newest = _newest_operator(facts, int(limit)) if what == "opset" else None
            found.append(
                Diagnostic(
                    code="E304",
                    message=f"the model has {what} {given}; onnxruntime {oldest} knows {limit}",
                    subject=newest,
                    hint=f"name a runtime that knows {what} {given} in the target, or export anew",
                )
            )
    return found


def _newest_operator(facts: GraphFacts, limit: int) -> str | None:
    """Return the first node whose operator changed after ``limit``, if there is one."""
    registry = KernelRegistry()
    for node in facts.nodes:
        schema = registry.schema(node.op, facts.opsets.get("ai.onnx", 0))
        if node.op.startswith("ai.onnx:") and schema and schema.since_version > limit:
            return node.name
    return None


BACKEND: Backend = OrtMobile()
