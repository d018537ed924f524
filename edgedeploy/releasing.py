"""From what a build accepted to a signed bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgedeploy import __version__
from edgedeploy.artifact import FileEntry
from edgedeploy.deploy.contents import FILES, GOLDEN, Built
from edgedeploy.deploy.push import Contents
from edgedeploy.devices.version import VersionModel
from edgedeploy.disk import disk_errors
from edgedeploy.errors import ProfileError
from edgedeploy.events import EventLog
from edgedeploy.opening import Request
from edgedeploy.plan import Item
from edgedeploy.profile.expand import model_to_data
from edgedeploy.release.archive import write_archive
from edgedeploy.release.bundle import (
    ENVELOPE,
    MANIFEST,
    SUMS,
    Figure,
    Gate,
    Golden,
    Release,
    ReleaseFile,
    ReleaseModel,
    ReleaseTarget,
    Role,
    Tensor,
    folder_of,
    members_of,
    parse_release,
    sums,
)
from edgedeploy.release.keys import SigningKey, read_signing_key
from edgedeploy.release.packages import Package, formats_for, write_packages
from edgedeploy.release.signing import envelope, sign
from edgedeploy.report.document import ModelReport, TargetReport
from edgedeploy.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOptions:
    """How a release is made.

    Attributes:
        output: Folder for results that the build was given; the bundle is written there too.
        store: The store that it was built with.
        key: File of the private key.
        counter: Of this release.
        formats: Of the packages that are written too, in ``packages/`` beside the bundle.
    """

    output: Path
    store: Path
    key: Path
    counter: int
    formats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A release that was written: what it holds, where the bundle lies, and its packages."""

    release: Release
    path: Path
    packages: tuple[Package, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "name": self.release.name,
            "version": self.release.version,
            "counter": self.release.counter,
            "digest": self.release.digest,
            "path": str(self.path),
            "packages": [item.to_json() for item in self.packages],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A release before it is signed: what it says, and where its files lie by digest."""

    release: Release
    places: Mapping[str, Path]


def release(request: Request, options: ReleaseOptions, events: EventLog) -> Released:
    """Write the last build of a profile as a signed bundle.

    Raises:
        EdgedeployError: As :func:`collect`, :func:`write_release`,
            :func:`edgedeploy.release.packages.write_packages` and
            :func:`edgedeploy.release.keys.read_signing_key`.
        StoreError: The disk refuses (E601, E602).
    """
    key = read_signing_key(options.key)
    built = Built(request, options.output, Store(options.store, events), events)
    draft = collect(built, options.counter)
    formats_for(draft.release, options.formats)  # refused before anything is written
    folder = options.output / draft.release.name
    with disk_errors("cannot write the bundle"):
        path = write_release(draft, folder, key)
    packages = write_packages(path, {key.id: key.public}, options.formats, folder / "packages")
    return Released(release=draft.release, path=path, packages=packages)


def collect(built: Built, counter: int) -> Draft:
    """Return the release of everything that the last build of a profile accepted.

    Args:
        built: The profile as it was last built.
        counter: Of this release.

    Raises:
        ProfileError: The profile states no version (E737), or a file of `files:` cannot be taken
            along (E442).
        RefusedError: A gate refused an artifact (E439).
        BuildError: It is not built, or not as the profile now says (E438).
    """
    profile = built.plan.profile
    if profile.version is None:
        raise ProfileError(
            f"{profile.name} states no version, and a release has one",
            code="E737",
            subject=str(profile.file),
            hint='add `version: "1.0.0"` to the profile',
        )
    targets, files = [], dict[str, ReleaseFile]()
    places: dict[str, Path] = {}
    for name in sorted({item.use.target for item in built.plan.items}):
        items = [item for item in built.plan.items if item.use.target == name]
        contents = built.contents(name)
        targets.append(_target(built, items, contents))
        places |= contents.places
        files |= {file.path: file for file in _files(name, contents)}
    release = Release(
        name=profile.name,
        version=profile.version,
        counter=counter,
        created=_created(),
        made_by=f"edgedeploy {__version__}",
        unaccepted=(),
        targets=tuple(targets),
        licences=(),
        files=tuple(files[path] for path in sorted(files)),
    )
    return Draft(release=release, places=places)


def write_release(draft: Draft, folder: Path, key: SigningKey) -> Path:
    """Write the signed bundle of a draft into a folder and return its path.

    Args:
        draft: What is released.
        folder: Existing folder.
        key: Signs.

    Raises:
        IntegrityError: What signs gave no signature of the key (E733), or what is released cannot
            be (E734).
        OSError: The disk refuses; no bundle is left behind.
    """
    release = draft.release
    manifest = release.manifest
    parse_release(manifest)  # nothing is signed that a reader would refuse
    members: dict[str, Path | bytes] = {
        path: draft.places[sha256] for sha256, path in members_of(release.files).items()
    }
    members[MANIFEST] = manifest
    members[ENVELOPE] = envelope(manifest, [sign(manifest, key.public, key.sign)])
    members[SUMS] = sums(release.files)
    goal = folder / release.file_name
    write_archive(goal, members)
    return goal


def _created() -> str | None:
    """Return the time that SOURCE_DATE_EPOCH names. Source: reproducible-builds.org, its spec."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text.isdecimal():
        return None
    return datetime.fromtimestamp(int(text), UTC).isoformat(timespec="seconds")


def _target(built: Built, items: Sequence[Item], contents: Contents) -> ReleaseTarget:
    target = items[0].target
    gpu = target.get("board.gpu") or {}
    by_name = {model.name: model for model in contents.version.models}
    return ReleaseTarget(
        target=target.id,
        os=str(target.get("board.os")),
        arch=str(target.get("board.arch")),
        os_version=target.get("board.os_version"),
        runtime=target.runtime,
        runtime_versions=str(target.get("runtime.versions")),
        compute_capabilities=tuple(gpu.get("compute_capabilities", ())),
        models=tuple(_model(built, item, by_name[item.shared.name]) for item in items),
    )


def _model(built: Built, item: Item, model: VersionModel) -> ReleaseModel:
    about, report = built.report(item)
    target, name = item.use.target, item.shared.name
    golden = model.golden
    return ReleaseModel(
        name=name,
        entry=f"{target}/{model.entry}",
        candidate=model.candidate,
        artifact=model.artifact,
        inputs=tuple(_inputs(item, about)),
        outputs=tuple(
            Tensor(name=spec["name"], dtype=spec["dtype"], shape=_shape(item, spec["dims"]))
            for spec in about.signature["outputs"]
        ),
        labels=None,
        options=model.options,
        size_bytes=report.size_bytes or 0,
        figures=tuple(_figures(report)),
        gates=tuple(
            Gate(
                gate=gate.gate,
                state=gate.state,
                limit=gate.limit,
                evidence=gate.evidence,
                reason=gate.reason,
            )
            for gate in report.gates
        ),
        golden=None
        if golden is None
        else Golden(
            inputs=f"{target}/{golden.inputs}",
            outputs=f"{target}/{golden.outputs}",
            cosine=golden.cosine,
        ),
    )


def _inputs(item: Item, about: ModelReport) -> Iterator[Tensor]:
    words = model_to_data(item.shared.model)
    fed = {pair.input: pair.output for pair in item.shared.model.state}
    for spec in about.signature["inputs"]:
        said = words["inputs"].get(spec["name"]) or {}
        yield Tensor(
            name=spec["name"],
            dtype=spec["dtype"],
            shape=_shape(item, spec["dims"]),
            image=said.get("image"),
            audio=said.get("audio"),
            state=fed.get(spec["name"]),
        )


def _shape(item: Item, dims: Sequence[int | str | None]) -> tuple[int | str, ...]:
    """Return sizes, ranges and names of dims, as a reader without the profile needs them."""
    known = item.shared.model.dims
    return tuple(
        f"{known[dim].low}..{known[dim].high}"
        if isinstance(dim, str) and dim in known and known[dim].low
        else dim
        if dim is not None
        else "any"
        for dim in dims
    )


def _figures(report: TargetReport) -> Iterator[Figure]:
    found = report.evaluation
    if found is None:
        return
    if found.metric is not None:
        yield Figure(
            name=found.metric.name,
            value=found.metric.value,
            low=found.metric.low,
            high=found.metric.high,
            samples=found.metric.n,
            evidence=found.evidence,
        )
    for parity in found.parity:
        yield Figure(
            name=f"cosine {parity.output}",
            value=parity.stats.get("cosine"),
            low=None,
            high=None,
            samples=found.n,
            evidence=found.evidence,
        )


def _files(target: str, contents: Contents) -> Iterator[ReleaseFile]:
    entries = {model.name: model.entry for model in contents.version.models}
    for file in contents.version.files:
        first = file.path.partition("/")[0]
        if first == FILES:
            yield _file(file, file.path, "file")
        elif first == GOLDEN:
            yield _file(file, f"{target}/{file.path}", "golden")
        else:
            path = folder_of(target, file.path)
            yield _file(file, path, _role(file.path, entries[first]))


def _role(path: str, entry: str) -> Role:
    if path == entry or path.startswith(f"{entry}/"):
        return "model"
    return "interface" if path.endswith(".json") else "weights"


def _file(file: FileEntry, path: str, role: Role) -> ReleaseFile:
    moved = replace(file, path=path)
    return ReleaseFile(
        path=moved.path,
        size=moved.size,
        sha256=moved.sha256,
        role=role,
        segments=tuple((part.offset, part.length, part.sha256) for part in moved.segments),
    )
