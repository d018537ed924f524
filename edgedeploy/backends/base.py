"""What every backend offers, and the plain data that it answers with.

A backend turns an ONNX model in normal form into files that a runtime on the target loads. It
sees a target only through the fields that it lists in ``reads``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgedeploy.errors import BuildError, Diagnostic

if TYPE_CHECKING:
    from edgedeploy.backends.inputs import Inputs
    from edgedeploy.profile.types import DimSpec, ImagePreprocess
    from edgedeploy.runner import Runner


Ranges = Mapping[str, tuple[int, int]]
"""Dim name -> lowest and highest size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What the profile says of a model beside its graph, for formats that have a place for it.

    Attributes:
        author: Who made the model; empty where the profile does not say.
        licence: SPDX expression; as ``author``.
        version: Of what is shipped; as ``author``.
        source: SHA-256 of the model file that all began with, 64 hexadecimal digits.
        images: How image files become an input tensor, by the input's name.
        dims: What sizes a dim may take, by the name of a dim that the model leaves open.
        state: ``(state input, state output)`` names.
        classes: Of a classifier, in the order of its output.
        samples: Folder of a pack of typical inputs, for backends that try what they write.
    """

    author: str = ""
    licence: str = ""
    version: str = ""
    source: str = ""
    images: Mapping[str, ImagePreprocess] = field(default_factory=dict)
    dims: Mapping[str, DimSpec] = field(default_factory=dict)
    state: tuple[tuple[str, str], ...] = ()
    classes: tuple[str, ...] = ()
    samples: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlacement:
    """What a provider does with one node.

    Attributes:
        node: Node name in the graph; a node of a body is written ``outer/inner``.
        op: ``domain:OpType``; the standard domain is written ``ai.onnx``.
        supported: Whether the provider takes it.
        reason: Why not, or None.
    """

    node: str
    op: str
    supported: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPlacement:
    """What one execution provider (or device) takes of the graph.

    Attributes:
        provider: Name as its runtime spells it.
        judged: False where nothing here can tell; ``notes`` say why and ``nodes`` is empty.
        partitions: Into how many pieces the supported nodes fall; None when not judged.
        nodes: One entry per node in graph order.
        source: Where the knowledge comes from.
        notes: Limits of the judgement that were not checked per node.
    """

    provider: str
    judged: bool
    partitions: int | None
    nodes: tuple[NodePlacement, ...]
    source: str
    notes: tuple[str, ...] = ()

    @property
    def supported(self) -> int:
        """The number of nodes that the provider takes."""
        return sum(node.supported for node in self.nodes)

    def to_json(self) -> dict[str, Any]:
        """Return the placement as JSON data; only nodes that are not taken are listed."""
        return {
            "provider": self.provider,
            "judged": self.judged,
            "supported": self.supported if self.judged else None,
            "total": len(self.nodes) if self.judged else None,
            "partitions": self.partitions,
            "unsupported": [
                {"node": node.node, "op": node.op, "reason": node.reason}
                for node in self.nodes
                if not node.supported
            ],
            "source": self.source,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The answer of a preflight.

    Attributes:
        providers: One entry per provider or device, the one that always works first.
        diagnostics: Findings; an ``error`` among them means that :meth:`Backend.compile` refuses.
    """

    providers: tuple[ProviderPlacement, ...]
    diagnostics: tuple[Diagnostic, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the placement as JSON data."""
        return {
            "providers": [provider.to_json() for provider in self.providers],
            "diagnostics": [item.to_json() for item in self.diagnostics],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledFile:
    """One file that a compile wrote.

    Attributes:
        path: Relative to the folder that was compiled into, with ``/``.
        role: ``model``, ``weights``, ``program`` for the graph that an engine is built from,
            ``interface`` for what a runtime needs beside the model,
            ``signature``, ``operators``, ``build-command``, ``placement`` or ``blob``.
        release: False for a file that belongs to this machine only and never enters a release.
        tensors: Offset and length in bytes of every tensor in the file, ascending; empty where
            the format keeps no such places.
    """

    path: str
    role: str
    release: bool = True
    tensors: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileReport:
    """What a compile made.

    Attributes:
        entry: The file, or the folder of a package, that a runner opens, relative to the folder.
        files: All files, those of the entry first.
        notes: What a user should know about this artifact, one sentence each.
        metadata: JSON data: opset, kernel counts, precision, versions of the format.
    """

    entry: str
    files: tuple[CompiledFile, ...]
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """Mean wall time of one executed node.

    Attributes:
        name: Name in the artifact, or the runtime's own for a node it made.
        op: Operator or kernel type.
        provider: Execution provider, device or kernel implementation that ran it.
        mean_ms: Milliseconds per inference (all executions within one inference added).
    """

    name: str
    op: str
    provider: str
    mean_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutedLayer:
    """One node of multiply-adds as the runtime executes it.

    Attributes:
        name: Name in the artifact, or the runtime's own for a node it made.
        op: Operator or kernel type.
        integer: Whether the kernel multiplies integers; int8 weights that are made float first
            do not count.
        macs: Multiply-adds of one inference; None where its shapes were not to be had.
    """

    name: str
    op: str
    integer: bool
    macs: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """How much of an artifact the runtime really computes on integers.

    A quantized model whose operators the runtime cannot join into integer kernels loads and
    answers rightly, only slower than the float one: this is where that shows.

    Attributes:
        layers: Convolutions, matrix products and recurrent nodes, in order of execution.
        conversions: Nodes that only convert between float and integers.
        stated: Whether this is what the artifact states, as its runtime is not here to be asked.
    """

    layers: tuple[ExecutedLayer, ...]
    conversions: int
    stated: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return counts as JSON data; layers are listed only where they stayed in float."""
        integer = [layer for layer in self.layers if layer.integer]
        return {
            "layers": len(self.layers),
            "integer_layers": len(integer),
            "macs": sum(layer.macs or 0 for layer in self.layers),
            "integer_macs": sum(layer.macs or 0 for layer in integer),
            "uncounted_layers": sum(layer.macs is None for layer in self.layers),
            "conversions": self.conversions,
            "stated": self.stated,
            "float_layers": [
                {"name": layer.name, "op": layer.op, "macs": layer.macs}
                for layer in self.layers
                if not layer.integer
            ],
        }


class Backend(Protocol):
    """One family of runtimes.

    Attributes:
        name: Key in :data:`edgedeploy.backends.FAMILIES`.
        version: Raised whenever equal inputs give other bytes than before.
        tools: Names of the distributions whose versions decide what is written.
        reads: Dotted target fields that may be looked at.
        options: Option name -> what it means and its default, one sentence.
    """

    name: str
    version: int
    tools: tuple[str, ...]
    reads: tuple[str, ...]
    options: Mapping[str, str]

    def preflight(self, model: Path, fields: Mapping[str, Any]) -> Placement:
        """Return per node what each provider of the target would run.

        Args:
            model: ``model.onnx`` in normal form; weights are not read.
            fields: Target fields by dotted path, at least those in ``reads`` that are set.
        """

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
        """Write the artifact into the existing empty ``folder`` and nowhere else.

        Args:
            model: ``model.onnx`` in normal form.
            folder: Where to write.
            options: The backend's options.
            fields: Target fields by dotted path, at least those in ``reads`` that are set.
            ranges: Lowest and highest size by the name of a dim that the model leaves open.
            words: What else the profile says; given to families that want it (``wants_words``).

        Raises:
            BuildError: The model cannot be built for this target (E300-E349).
        """

    def runner(
        self, folder: Path, *, threads: int = 1, options: Mapping[str, Any] | None = None
    ) -> Runner:
        """Return the loaded artifact.

        Args:
            folder: What :meth:`compile` wrote.
            threads: Threads of the runtime.
            options: The options that it was compiled with.

        Raises:
            BuildError: It does not load (E317).
        """

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

        Args:
            folder: What :meth:`compile` wrote.
            inputs: One set of inputs.
            threads: Threads of the runtime.
            repeats: Counted inferences, at least 1; one more before them is not counted.
            options: The options that it was compiled with.

        Raises:
            BuildError: It does not load (E317) or run (E330-E333).
        """

    def arithmetic(
        self, folder: Path, inputs: Inputs, *, options: Mapping[str, Any] | None = None
    ) -> Arithmetic:
        """Return what the runtime computes on integers, from the graph that it executes.

        Args:
            folder: What :meth:`compile` wrote.
            inputs: One set of inputs; multiply-adds are counted for its sizes.
            options: The options that it was compiled with.

        Raises:
            BuildError: It does not load (E317) or run (E330-E333).
        """


def checked_options(options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``known`` with ``options`` laid over it.

    Args:
        options: What the profile asks for.
        known: Option name -> its allowed values (the first is the default), or a single default
            of the type that a value must have.

    Raises:
        BuildError: An option or a value that does not exist (E310).
    """
    found: dict[str, Any] = {}
    for name, allowed in known.items():
        default = allowed[0] if isinstance(allowed, tuple) else allowed
        value = options.get(name, default)
        fits = value in allowed if isinstance(allowed, tuple) else type(value) is type(default)
        if not fits:
            choice = (
                ", ".join(map(str, allowed))
                if isinstance(allowed, tuple)
                else (type(default).__name__)
            )
            raise BuildError(
                f"option {name} cannot be {value!r}",
                code="E310",
                subject=name,
                hint=f"use one of: {choice}",
            )
        found[name] = value
    for name in options:
        if name not in known:
            raise BuildError(
                f"there is no option {name!r} here",
                code="E310",
                subject=name,
                hint=f"known options: {', '.join(sorted(known))}",
            )
    return found
