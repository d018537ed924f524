"""Every file and folder that a finished build depended on or wrote, for its snapshot."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from edgedeploy import toolchain
from edgedeploy.building import BuildResult, BuildRun
from edgedeploy.config.search import target_folders
from edgedeploy.errors import EdgedeployError
from edgedeploy.executor import Builder, FileRef, FilesRef
from edgedeploy.freshness import below
from edgedeploy.lockfile import NAME as LOCK_NAME
from edgedeploy.lockfile import read_lock
from edgedeploy.memory import Memory
from edgedeploy.needed import further
from edgedeploy.opening import Request, still_expands
from edgedeploy.plan import make_plan
from edgedeploy.records import record_folder
from edgedeploy.report.files import reports_stand
from edgedeploy.store import ActionRecord, Store


def footprint(request: Request, result: BuildResult, run: BuildRun, store: Store) -> list[Path]:
    """Return the places whose stat values must be unchanged for the build to be all hits."""
    folder = result.plan.profile.folder
    found = {request.profile, folder / "data.yaml", folder / LOCK_NAME, *below(result.folder)}
    for place in target_folders(option=request.target_path, project=folder):
        # As targets are looked for: a folder may be a link.
        found.update((place.path, *place.path.glob("*"), *place.path.glob("*/*.yaml")))
    found.update(below(toolchain.PACKAGE, (".py",)))
    found.update(Path(entry or ".") for entry in sys.path)
    found.update(_inputs(result))
    found.update(run.reads)
    for record in used_records(result, run.builder):
        for item in record.observed:
            found.update(Path(item[name]) for name in ("file", "folder") if name in item)
    for session, _ in run.bench.sessions:
        # A newer measurement appears as a new folder, with the first one its parent.
        found.update(record_folder(store, key) for key in session.all_keys())
    found.update(run.sites.folders)
    return sorted(path.absolute() for path in found)


def used_records(result: BuildResult, builder: Builder) -> list[ActionRecord]:
    """Return the records of all stages that the build found or ran."""
    found = (builder.known_record(node) for node in result.nodes())
    return [record for record in found if record is not None]


def confirmed(
    request: Request, result: BuildResult, run: BuildRun, store: Store, memory: Memory
) -> bool:
    """Look at everything once more, by content: is it what the build used and wrote?"""
    profile = result.plan.profile
    toolchain.forget()
    try:
        if not still_expands(request, memory) or not run.stands(result.outcomes):
            return False
        if result.keeps_lock and read_lock(profile.folder, profile.name) != result.lock:
            return False
        plan = make_plan(profile, result.plan.targets)
        again = {
            node.id: node
            for node in plan.nodes(further(result.outcomes, plan, result.combinations))
        }
        with Builder(store, profile.folder.absolute()) as builder:
            for node in result.nodes():
                used = run.builder.known_record(node)
                if used is not None and builder.hit(again[node.id]) != used:
                    return False
    except (EdgedeployError, KeyError):
        return False
    return reports_stand(result)


def _inputs(result: BuildResult) -> Iterator[Path]:
    """Yield the user's files that are inputs, and the folders in which new ones could appear."""
    folder = result.plan.profile.folder
    for node in result.nodes():
        if node.kind in ("samples", "feed"):
            # Subfolders that hold no sample yet, too; a data function is no folder.
            place = folder / node.params["data"]["source"]
            yield from (Path(base) for base, _, _ in os.walk(place))
        for ref in node.inputs.values():
            if isinstance(ref, FileRef):
                yield ref.path
            elif isinstance(ref, FilesRef):
                for name in ref.names:
                    path = ref.folder / name
                    yield path
                    parents = path.parents
                    yield from (place for place in parents if place.is_relative_to(ref.folder))
