"""What is to be done: one stage with its parameters and inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """A file of the user's that is an input."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesRef:
    """Several files of the user's that are one input; the stage gets ``folder``.

    Attributes:
        folder: What the names are relative to.
        names: Relative POSIX paths, in reading order (the order is part of the input).
    """

    folder: Path
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRef:
    """An output of another node that is an input."""

    node: Node
    output: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """One stage to be done.

    Attributes:
        id: Name for people and events, such as ``main.calibrate``; unique in a plan.
        kind: Stage kind.
        params: Parameters, JSON data.
        inputs: What it takes, by input name.
        fields: Values of the target fields that the stage may see; others are not there.
        tools, code: What the key depends on besides what the kind declares (a backend's).
    """

    id: str
    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, FileRef | FilesRef | OutputRef] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    code: tuple[str, ...] = ()

    def output(self, name: str) -> OutputRef:
        """Return a reference to one of this node's outputs."""
        return OutputRef(node=self, output=name)


def keyed_paths(node: Node, inputs: Mapping[str, Path]) -> Iterator[Path]:
    """Yield the files and folders that are the inputs of a node.

    Args:
        node: The node.
        inputs: Where its inputs lie, by name.
    """
    for name, ref in node.inputs.items():
        if isinstance(ref, FilesRef):
            # Not the folder: other files in it, such as modules of the user's, are no input.
            yield from (ref.folder / part for part in ref.names)
        else:
            yield inputs[name]


def input_size(ref: FileRef | FilesRef | OutputRef, path: Path) -> int:
    """Return the bytes of an input that lies at ``path``."""
    if isinstance(ref, FilesRef):
        return sum((path / name).stat().st_size for name in ref.names)
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
