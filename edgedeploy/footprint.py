"""Every file and folder that a finished build depended on or wrote, for its snapshot."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from edgedeploy.building import BuildResult
from edgedeploy.config.search import target_folders
from edgedeploy.executor import Builder, FileRef, FilesRef
from edgedeploy.freshness import below
from edgedeploy.lockfile import NAME as LOCK_NAME
from edgedeploy.opening import Request
from edgedeploy.toolchain import PACKAGE


def footprint(request: Request, result: BuildResult, builder: Builder) -> list[Path]:
    """Return the places whose stat values must be unchanged for the build to be all hits."""
    folder = result.plan.profile.folder
    found = {request.profile, folder / "data.yaml", folder / LOCK_NAME, *below(result.folder)}
    for place in target_folders(option=request.target_path, project=folder):
        found.update(below(place.path, (".yaml",)))
    found.update(below(PACKAGE, (".py",)))
    found.update(Path(entry) for entry in sys.path if entry)
    found.update(_inputs(result))
    for node in result.plan.nodes():
        record = builder.known_record(node)
        for item in record.observed if record else ():
            found.update(Path(item[name]) for name in ("file", "folder") if name in item)
    for outcome in result.outcomes:
        # A newer measurement appears as a new folder beside the one that was read.
        found.update(Path(str(record["folder"])).parent for record in outcome.records.values())
    return sorted(path.absolute() for path in found)


def _inputs(result: BuildResult) -> Iterator[Path]:
    """Yield the user's files that are inputs, and the folders in which new ones could appear."""
    for node in result.plan.nodes():
        for ref in node.inputs.values():
            if isinstance(ref, FileRef):
                yield ref.path
            elif isinstance(ref, FilesRef):
                for name in ref.names:
                    path = ref.folder / name
                    yield path
                    parents = path.parents
                    yield from (place for place in parents if place.is_relative_to(ref.folder))
