"""What surrounds one run of a stage: its job, its output folders, and keeping those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedeploy.artifact import Tree, UnfitTreeError
from edgedeploy.disk import disk_errors
from edgedeploy.errors import BuildError, ModelError
from edgedeploy.node import Node, input_size, keyed_paths
from edgedeploy.stage import stage_kind
from edgedeploy.store import Store
from edgedeploy.worker.launch import Job


def output_folders(node: Node, folder: Path) -> dict[str, Path]:
    """Make and return an empty folder for each output of a node.

    Raises:
        StoreError: The disk is full or refuses (E601, E602).
    """
    outputs = {name: folder / "out" / name for name in stage_kind(node.kind).outputs}
    with disk_errors("cannot write to the store"):
        for path in outputs.values():
            path.mkdir(parents=True)
    return outputs


def job_of(
    node: Node,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    folder: Path,
    project: Path,
    guards: tuple[int, ...],
) -> Job:
    """Return the worker job of a node, with limits by the size of its inputs.

    Raises:
        ModelError: A file of the user's cannot be read (E188).
    """
    limits = stage_kind(node.kind).limits
    try:
        size_bytes = sum(map(input_size, node.inputs.values(), inputs.values()))
    except OSError as error:
        raise unreadable(error) from error
    return Job(
        node=node.id,
        kind=node.kind,
        params=node.params,
        inputs=inputs,
        outputs=outputs,
        fields=node.fields,
        limits=limits.for_inputs(size_bytes),
        project=project,
        folder=folder,
        keyed=tuple(keyed_paths(node, inputs)),
        guards=guards,
    )


def take(
    store: Store, node: Node, outputs: Mapping[str, Path], segments: Mapping[str, Any]
) -> dict[str, Tree]:
    """Take a stage's output folders into the store.

    Raises:
        BuildError: The stage wrote what cannot be kept (E387).
        StoreError: The disk is full or refuses (E601, E602).
    """
    trees = {}
    for name, path in outputs.items():
        cuts = {
            file.partition("/")[2]: [(int(start), int(length)) for start, length in parts]
            for file, parts in segments.items()
            if file.partition("/")[0] == name
        }
        try:
            trees[name] = store.add_tree(path, cuts)
        except UnfitTreeError as error:
            raise BuildError(
                f"stage {node.id} wrote what cannot be kept in output {name}: {error}",
                code="E387",
                subject=node.id,
                hint="a stage must write plain files and folders only",
            ) from error
    return trees


def unreadable(error: OSError) -> ModelError:
    """Return the failure for a file of the user's that cannot be read."""
    return ModelError(
        f"cannot read {error.filename}: {error.strerror}",
        code="E188",
        subject=str(error.filename),
        hint="check the path in the profile",
    )
