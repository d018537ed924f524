"""The stage protocol: what a stage kind declares and what its function is given."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a worker may use before it is stopped.

    Attributes:
        memory_bytes: Data segment (RLIMIT_DATA) for a model of no size.
        memory_per_input_byte: Added for each byte of the stage's inputs.
        cpu_s: CPU time (RLIMIT_CPU).
        file_bytes: Largest file written (RLIMIT_FSIZE) for inputs of no size.
        file_per_input_byte: Added for each byte of the stage's inputs.
        deadline_s: Wall time, enforced from outside.
    """

    memory_bytes: int = 8 * GIB
    memory_per_input_byte: float = 8.0
    cpu_s: int = 3600
    file_bytes: int = 2 * GIB
    file_per_input_byte: float = 4.0
    deadline_s: float = 3600.0

    def for_inputs(self, size_bytes: int) -> dict[str, float]:
        """Return the limits of one run with inputs of ``size_bytes``, as JSON data."""
        return {
            "memory_bytes": int(self.memory_bytes + self.memory_per_input_byte * size_bytes),
            "cpu_s": self.cpu_s,
            "file_bytes": int(self.file_bytes + self.file_per_input_byte * size_bytes),
            "deadline_s": self.deadline_s,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a stage's function gets: everything it may depend on, and where its outputs go.

    Attributes:
        params: The node's parameters, JSON data.
        inputs: Path by input name: a folder (the tree of another stage's output) or a user file.
        outputs: Empty folder by output name.
        fields: The target fields it declared in ``reads``, by dotted path; others are not there.
        project: The user's project folder, for stages that run user code.
        progress: Call with ``(done, total, what)``.
        observe: Call before functions of the user's project are loaded: everything that they load
            or open from then on is recorded, and checked at the next build.
    """

    params: Mapping[str, Any]
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    fields: Mapping[str, Any]
    project: Path
    progress: Callable[[int, int, str], None]
    observe: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a stage's function returns besides the files it wrote.

    Attributes:
        summary: Small JSON data for reports; not an input of other stages.
        segments: ``output/relative/path`` -> cuts ``(offset, length)`` of that file.
        observed: Project files that were read while it ran and no input names.
    """

    summary: Mapping[str, Any] = field(default_factory=dict)
    segments: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    observed: Sequence[Path] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StageKind:
    """One kind of stage. A stage is pure: its outputs depend on what is declared here alone.

    Attributes:
        kind: Its name; it lives in ``steps/<kind>.py`` as ``STAGE``.
        run: The function, called in a worker process; it imports what is heavy itself. None for
            what is made outside of this machine's workers, such as an engine on a device: the
            builder's ``elsewhere`` has the function.
        outputs: Names of its outputs.
        tools: Distributions whose versions enter the key.
        code: Parts of edgedeploy whose source enters the key.
        reads: Target fields (dotted paths) it may see.
        limits: Resource limits of a run.
    """

    kind: str
    run: Callable[[Work], Made] | None
    outputs: tuple[str, ...]
    tools: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    limits: Limits = Limits()


def stage_kind(kind: str) -> StageKind:
    """Return the stage kind of that name, importing only its own file.

    Args:
        kind: A file of ``edgedeploy/steps/``, or the dotted name of a module outside.

    Raises:
        ModuleNotFoundError: There is none.
    """
    stage: StageKind = importlib.import_module(_module(kind)).STAGE
    return stage


def stage_file(kind: str) -> Path:
    """Return the source file of a stage kind."""
    return Path(str(importlib.import_module(_module(kind)).__file__))


def stage_root(kind: str) -> Path | None:
    """Return the folder from which a stage kind outside of edgedeploy is imported."""
    return stage_file(kind).parents[kind.count(".")] if "." in kind else None


def _module(kind: str) -> str:
    return kind if "." in kind else f"edgedeploy.steps.{kind}"
