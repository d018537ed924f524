"""A release against the last build of its profile, sample by sample: may the new one follow it?

The release's artifacts are run on the profile's present evaluation data, in workers, by the stage
that evaluated the build's own; the store keeps what they scored. Preprocessing and data are the
present ones, so a release that takes other inputs is refused; how outputs become answers is the
release's own.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.comparing import release_document, vouched
from edgedeploy.deploy.contents import Built
from edgedeploy.disk import disk_errors
from edgedeploy.errors import DataError, EdgedeployError, UsageError
from edgedeploy.events import EventLog
from edgedeploy.executor import Builder
from edgedeploy.measured import read_measurements
from edgedeploy.node import FileRef, FilesRef, Node, OutputRef
from edgedeploy.opening import Request
from edgedeploy.parity.paired import Paired
from edgedeploy.release.extracting import extract
from edgedeploy.release.opening import open_bundle
from edgedeploy.retraining.findings import Retrained, judge
from edgedeploy.retraining.rivals import Rivals, rivals_of
from edgedeploy.store import Store

_FORM = re.compile(rb"^edgedeploy:", re.MULTILINE)
_HEAD_BYTES = 1 << 16
"""How far into a file the key is looked for that makes it a profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainOptions:
    """How a release is held against the last build.

    Attributes:
        output: Folder for results that the build was given.
        store: The store that it was built with.
        keys: Files of public keys that are believed.
        trust: Trust file whose keys are believed too; None: there is none.
        slices: Columns of the labels, and functions (``file.py:function``) of a sample's name, by
            whose values samples are judged apart.
    """

    output: Path
    store: Path
    keys: tuple[Path, ...]
    trust: Path | None = None
    slices: tuple[str, ...] = ()


def compare_with_release(
    bundle: Path, request: Request, options: RetrainOptions, events: EventLog | None = None
) -> Retrained:
    """Run a release's artifacts on the present data, and pair them with the last build's.

    Args:
        bundle: What was shipped.
        request: The profile that was built since, with the options that it was built with.
        options: How.
        events: Where progress is told.

    Raises:
        UsageError: Nobody is believed, or the release is of another name (E763).
        IntegrityError: The bundle (E731 to E736) or its measurements (E762) are refused.
        ProfileError: A model of the release takes or gives something else than the present one
            (E856), or samples cannot be parted (E857).
        DataError: No model can be paired (E858), or a metric or slice cannot be used (E857).
        BuildError: The profile is not built (E438), or an artifact does not run.
        StoreError: A file cannot be read, or the disk refuses (E601, E602).
    """
    events = events or EventLog()
    store = Store(options.store, events)
    whom = vouched(options.keys, options.trust)
    with ExitStack() as stack:
        stack.enter_context(store.in_use())
        built = Built(request, options.output, store, events)
        stack.enter_context(disk_errors("cannot read the release"))
        opened = stack.enter_context(open_bundle(bundle, whom.trusted, whom.revoked))
        release = opened.release
        if release.name != built.app:
            raise UsageError(
                f"{release.name} is no release of the profile {built.app}",
                code="E763",
                subject=release.name,
                hint="give a release of this profile",
            )
        before = release_document(release, read_measurements(opened, whom.trusted))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgedeploy-")))
        extract(opened, folder / "release", lambda: None)
        rivals, not_paired = rivals_of(opened, built, folder / "release")
        builder = stack.enter_context(
            Builder(store, built.plan.profile.folder.absolute(), events=events)
        )
        found = _pair_all(builder, rivals, options.slices, built.plan.profile.folder)
    return judge(
        f"{release.name} {release.version}",
        before,
        built.document,
        [(rival.place, paired) for rival, paired in found],
        not_paired,
    )


def profile_at(path: Path) -> Path:
    """Return the profile that a path means: the file itself, or the only one of a folder.

    Raises:
        UsageError: The folder holds none, or several (E859).
        StoreError: It cannot be read (E602).
    """
    if not path.is_dir():
        return path
    with disk_errors("cannot look for the profile"):
        found = [
            file
            for file in sorted(path.iterdir())
            if file.suffix in (".yaml", ".yml") and file.is_file()
            if _FORM.search(file.read_bytes()[:_HEAD_BYTES])
        ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found)
    raise UsageError(
        f"the folder {path} holds {names or 'no profile'}",
        code="E859",
        subject=str(path),
        hint="name the profile's file",
    )


def _pair_all(
    builder: Builder, rivals: Sequence[Rivals], slices: tuple[str, ...], project: Path
) -> list[tuple[Rivals, Paired]]:
    """Return what the stages found of every pair; the first that fails ends it."""
    nodes = [_paired_node(rival, slices, project, len(rivals)) for rival in rivals]
    for outcome in builder.build_all(nodes):
        if isinstance(outcome, EdgedeployError):
            raise outcome
    found = []
    for rival, node in zip(rivals, nodes, strict=True):
        _, folder = builder.folder(node.output("paired"))
        data = json.loads((folder / "paired.json").read_text(encoding="utf-8"))
        found.append((rival, Paired.from_json(data)))
    return found


def _paired_node(rival: Rivals, slices: tuple[str, ...], project: Path, comparisons: int) -> Node:
    """Return the node that holds two artifacts, or combinations of them, against each other."""
    columns = [name for name in slices if ".py:" not in name]
    runs_code = len(columns) < len(slices) or rival.metric.runs_user_code
    inputs: dict[str, FileRef | FilesRef | OutputRef] = {
        **rival.reads,
        "before": rival.before.output("evaluation"),
        "after": rival.after.output("evaluation"),
        "samples": rival.samples.output("samples"),
    }
    if columns:
        inputs["labels"] = _label_file(rival, columns[0])
    return Node(
        id=f"{rival.after.id}.paired",
        kind="paired",
        params={
            "metric": rival.after.params["metric"],
            "decode": rival.after.params.get("decode"),
            "slices": list(slices),
            "comparisons": comparisons,
            "project": str(project.resolve()) if runs_code else None,
        },
        inputs=inputs,
    )


def _label_file(rival: Rivals, column: str) -> FileRef:
    """Return the table of labels of the samples.

    Raises:
        DataError: There is none (E857).
    """
    labels = rival.samples.inputs.get("labels")
    if isinstance(labels, FilesRef) and [name[-4:].lower() for name in labels.names] == [".csv"]:
        return FileRef(path=labels.folder / labels.names[0])
    raise DataError(
        f"the labels of {rival.place.model} are no table, and have no column {column!r}",
        code="E857",
        subject=column,
        hint="give `labels:` a CSV with that column, or a function: `--slices file.py:function`",
    )
