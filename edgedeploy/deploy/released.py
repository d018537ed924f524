"""A signed release as versions: what of a bundle belongs on which device.

A version of a release holds the files of one target under the names that a build's version has, and
carries the signed manifest, by which the device checks every one of them. It follows from the
release, the target and, of engines, the one that the device loads: whoever pushes makes the same.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from edgedeploy.artifact import FileEntry, Segment
from edgedeploy.deploy.gpu import DeviceGpu, released_engine
from edgedeploy.deploy.push import Contents
from edgedeploy.devices.version import (
    ENVELOPE,
    SIGNED,
    Version,
    VersionGolden,
    VersionModel,
    check_files,
)
from edgedeploy.errors import UsageError
from edgedeploy.release import bundle
from edgedeploy.release.verifying import Verified, VerifyOptions, verify
from edgedeploy.target.library import TargetLibrary

if TYPE_CHECKING:
    from edgedeploy.devices.gpu_survey import GpuSurvey
    from edgedeploy.devices.inventory import Device
    from edgedeploy.release.bundle import Release, ReleaseFile, ReleaseModel, ReleaseTarget
    from edgedeploy.target.types import Target

_FOR_ALL = ("file", "labels", "licence")
"""Roles of files that are of no target, and travel to devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FromBundle:
    """Which release goes to devices.

    Attributes:
        path: The bundle.
        verify: Who is believed, and where what was taken is remembered. An older release is allowed
            on devices too where it is here.
        targets: Patterns; only these targets of it. Empty: all.
        target_path: Folders that targets are looked for in first.
    """

    path: Path
    verify: VerifyOptions
    targets: tuple[str, ...] = ()
    target_path: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledVersions:
    """A bundle that was verified, as versions for devices.

    Attributes:
        verified: What it is; extracted where its files are wanted.
        wanted: As it was asked for.
    """

    verified: Verified
    wanted: FromBundle
    _library: TargetLibrary = field(repr=False)

    @classmethod
    def opened(cls, wanted: FromBundle, folder: Path | None) -> BundledVersions:
        """Verify a bundle.

        Args:
            wanted: Which.
            folder: New folder that it is extracted into; None: nowhere, and nothing of it can be
                pushed.

        Raises:
            EdgedeployError: As :func:`edgedeploy.release.verifying.verify`.
        """
        found = verify(wanted.path, replace(wanted.verify, extract=folder))
        library = TargetLibrary(option=wanted.target_path)
        return cls(verified=found, wanted=wanted, _library=library)

    @property
    def app(self) -> str:
        """Name of the application: the release's."""
        return self.verified.release.name

    def target(self, device: Device) -> tuple[ReleaseTarget, Target]:
        """Return what the release holds for a device, and what is known of that target here.

        Raises:
            UsageError: The device says no board, or the release has no target or several for it
                (E775).
            ProfileError: The target is not known here (E139).
        """
        patterns = self.wanted.targets or ("*",)
        names = [
            target.target
            for target in self.verified.release.targets
            if any(fnmatchcase(target.target, pattern) for pattern in patterns)
        ]
        fitting = [name for name in names if name.partition("/")[0] == device.board]
        if len(fitting) != 1:
            raise _no_target(self.verified.release, device, names, fitting)
        return self.verified.release.target(fitting[0]), self._library.load(fitting[0])

    def contents(self, target: ReleaseTarget, survey: GpuSurvey | None) -> Contents:
        """Return the version for a device, with its files where the bundle was extracted.

        Args:
            target: One of the release's.
            survey: What the device loads engines with; None takes the first of several.

        Raises:
            DeviceError: The device loads none of the engines (E487).
            IntegrityError: The files cannot lie in one version (E435).
        """
        release = self.verified.release
        models, left_out = [], set[str]()
        for model in target.models:
            version, others = _model(model, target, survey)
            models.append(version)
            left_out |= others
        taken = dict(_taken(release, target.target, left_out))
        entries = [_entry(path, file) for path, file in taken.items()]
        signed = {SIGNED: release.manifest, ENVELOPE: self.verified.envelope}
        entries += [
            FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for path, data in signed.items()
        ]
        entries.sort(key=lambda entry: entry.path)
        check_files(entries)
        found: dict[str, Path] = {}
        folder = self.verified.folder
        if folder is not None:
            found = {file.sha256: folder / file.path for file in taken.values()}
            own = {SIGNED: bundle.MANIFEST, ENVELOPE: bundle.ENVELOPE}
            found |= {
                entry.sha256: folder / own[entry.path] for entry in entries if entry.path in own
            }
        return Contents(
            version=Version(
                app=release.name,
                board=target.target.partition("/")[0],
                models=tuple(models),
                files=tuple(entries),
                kind="release",
            ),
            places=found,
        )

    def for_device(self, device: Device, gpu: DeviceGpu) -> Contents:
        """Return the version for a connected device.

        Raises:
            EdgedeployError: As :meth:`target`, :meth:`contents` and
                :meth:`edgedeploy.deploy.gpu.DeviceGpu.check`.
        """
        released, target = self.target(device)
        contents = self.contents(released, gpu.for_target(target))
        gpu.check(contents.version)
        return contents


def _model(
    model: ReleaseModel, target: ReleaseTarget, survey: GpuSurvey | None
) -> tuple[VersionModel, set[str]]:
    """Return a model of a version, and the folders of engines that other devices load."""
    prefix = f"{target.target}/"
    said = model.golden
    golden = None
    if said is not None:
        golden = VersionGolden(
            inputs=said.inputs.removeprefix(prefix),
            outputs=said.outputs.removeprefix(prefix),
            cosine=said.cosine,
        )
    version = VersionModel(
        name=model.name,
        target=target.target,
        runtime=target.runtime,
        entry=model.entry.removeprefix(prefix),
        artifact=model.artifact,
        candidate=model.candidate,
        options=model.options,
        golden=golden,
    )
    if not model.engines:
        return version, set()
    engine = released_engine(model, survey)
    others = {posixpath.dirname(other.entry) for other in model.engines if other != engine}
    return (
        replace(
            version,
            entry=engine.entry.removeprefix(prefix),
            artifact=engine.artifact,
            needs=engine.needs,
        ),
        others,
    )


def _taken(release: Release, target: str, left_out: set[str]) -> Iterator[tuple[str, ReleaseFile]]:
    """Yield path in the version and file of what a target gets."""
    for file in release.files:
        if file.path.startswith(f"{target}/"):
            if not any(file.path.startswith(f"{folder}/") for folder in left_out):
                yield file.path.removeprefix(f"{target}/"), file
        elif file.role in _FOR_ALL:
            yield file.path, file


def _entry(path: str, file: ReleaseFile) -> FileEntry:
    return FileEntry(
        path=path,
        size=file.size,
        sha256=file.sha256,
        segments=tuple(
            Segment(offset=offset, length=length, sha256=sha256)
            for offset, length, sha256 in file.segments
        ),
    )


def _no_target(
    release: Release, device: Device, names: Sequence[str], fitting: Sequence[str]
) -> UsageError:
    which = f"{release.name} {release.version}"
    if device.board is None:
        message = f"devices.yaml does not say which board {device.name} is"
        hint = f"add `board:` to it; {which} has {', '.join(names) or 'no targets'}"
    elif fitting:
        message = f"{which} has several targets for {device.board}: {', '.join(fitting)}"
        hint = "choose one with -t"
    else:
        message = f"{which} has no target for {device.name}, which is a {device.board}"
        hint = f"get a release for it; this one has {', '.join(names) or 'no targets'}"
    return UsageError(message, code="E775", subject=device.name, hint=hint)
