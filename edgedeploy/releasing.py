"""From what a build accepted to a signed bundle."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgedeploy import __version__
from edgedeploy.config.bundled import is_bundled
from edgedeploy.deploy.contents import Built, ForRelease
from edgedeploy.describing import describe_files, describe_target, is_measured, labels_path
from edgedeploy.disk import disk_errors
from edgedeploy.errors import ProfileError, UsageError
from edgedeploy.events import EventLog
from edgedeploy.manifest import PART, sweep_parts, sync_folder, write_atomic
from edgedeploy.measured import Measured, Measurements, without_name, write_measurements
from edgedeploy.opening import Request
from edgedeploy.profile.types import Profile
from edgedeploy.release.archive import write_archive
from edgedeploy.release.believing import Believed, believed
from edgedeploy.release.bundle import (
    ENVELOPE,
    MANIFEST,
    SUMS,
    Release,
    ReleaseFile,
    Role,
    members_of,
    parse_release,
    sums,
)
from edgedeploy.release.checking import is_name
from edgedeploy.release.counters import (
    Counted,
    check_counted,
    counter_for,
    holding,
    keep_counted,
    read_counted,
)
from edgedeploy.release.delta import Delta, write_delta
from edgedeploy.release.keys import SigningKey, signing_key
from edgedeploy.release.licences import licence_part, licences, refuse_denied, text_path
from edgedeploy.release.opening import open_bundle
from edgedeploy.release.openssf import (
    ModelKey,
    model_signature,
    model_signature_path,
    read_model_key,
)
from edgedeploy.release.origin import PROVENANCE, Origin, provenance
from edgedeploy.release.packages import Package, formats_for, write_packages
from edgedeploy.release.packing import Codecs
from edgedeploy.release.sbom import SBOM, sbom
from edgedeploy.release.signing import envelope, sign
from edgedeploy.store import Store

MOST_TEXT_BYTES = 4 << 20
"""What a file of classes or the text of a licence may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOptions:
    """How a release is made.

    Attributes:
        output: Folder for results that the build was given; the bundle is written there too.
        store: The store that it was built with.
        key: File of the private key; where a command signs, of the public one.
        sign_command: Program and arguments of what signs instead of the file.
        counter: Of this release; None: the one that ``edgedeploy.releases`` says, or the next.
        unaccepted: Also take what a gate refused; the manifest says so.
        deny: SPDX licence ids that no part may need, beside those of the profile.
        formats: Of the packages that are written too, in ``packages/`` beside the bundle.
        delta_from: Bundle of an earlier version that a delta shall lead from.
        trust: Trust file whose keys may have signed that bundle, beside the key that signs this
            one; None: there is none.
        delta_codec: What readers of the delta have.
        openssf_key: File of a private elliptic curve key that signs for OpenSSF Model Signing too.
    """

    output: Path
    store: Path
    key: Path
    counter: int | None = None
    sign_command: tuple[str, ...] = ()
    unaccepted: bool = False
    deny: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    delta_from: Path | None = None
    trust: Path | None = None
    delta_codec: Codecs = "zstd"
    openssf_key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A release that was written: what it holds, where the bundle lies, and what else was made.

    Attributes:
        release: What it holds.
        path: The bundle.
        not_judged: Gates that nothing could judge, in words.
        packages: Made of it.
        delta: From an earlier version; None where none was asked for.
        model_signature: The file of a signature for OpenSSF Model Signing; None likewise.
    """

    release: Release
    path: Path
    not_judged: tuple[str, ...]
    packages: tuple[Package, ...]
    delta: Delta | None = None
    model_signature: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "name": self.release.name,
            "version": self.release.version,
            "counter": self.release.counter,
            "digest": self.release.digest,
            "path": str(self.path),
            "not_judged": list(self.not_judged),
            "unaccepted": list(self.release.unaccepted),
            "packages": [item.to_json() for item in self.packages],
            "delta": None if self.delta is None else self.delta.to_json(),
            "model_signature": None if self.model_signature is None else str(self.model_signature),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A release before it is signed.

    Attributes:
        release: What it says.
        places: Where the content of its files lies, or the content, by digest.
        measured: What was measured of its artifacts.
    """

    release: Release
    places: Mapping[str, Path | bytes]
    measured: tuple[Measured, ...] = ()


def release(request: Request, options: ReleaseOptions, events: EventLog) -> Released:
    """Write the last build of a profile as a signed bundle.

    Raises:
        EdgedeployError: As :class:`edgedeploy.deploy.contents.Built`, :func:`collect`,
            :func:`write_release`, :func:`edgedeploy.release.counters.keep_counted`,
            :func:`edgedeploy.release.packages.write_packages`,
            :func:`edgedeploy.release.keys.signing_key`,
            :func:`edgedeploy.release.openssf.read_model_key`,
            :func:`edgedeploy.release.believing.believed` and
            :func:`edgedeploy.release.delta.write_delta`.
        ToolError: The command that signs failed (E744).
        StoreError: The disk refuses (E601, E602).
    """
    key = signing_key(options.key, options.sign_command)
    model_key = None if options.openssf_key is None else read_model_key(options.openssf_key)
    released = ForRelease(unaccepted=options.unaccepted)
    own = {key.id: key.public}
    if options.delta_from is not None:
        _check_old(options.delta_from, believed((), options.trust, own))
    built = Built(request, options.output, Store(options.store, events), events, released)
    with _counting(built.plan.profile) as before:
        draft = collect(built, options, before)
        check_counted(before, draft.release)
        formats_for(draft.release, options.formats)  # refused before anything is written
        folder, delta = options.output / draft.release.name, None
        # What fails leaves no bundle that somebody signed, and may be released again with other
        # content: nothing has its name before all of it was made.
        with disk_errors("cannot write the bundle"), _unnamed(folder) as part:
            made = write_release(draft, part, key, model_key)
            write_measurements(measurements_of(draft), made, key)
            if options.delta_from is not None:
                with disk_errors("cannot write the delta"):
                    delta = write_delta(options.delta_from, made, part, options.delta_codec)
                delta = replace(delta, path=folder / delta.path.name)
            packages = write_packages(made, own, options.formats, folder / "packages")
            if not is_bundled(built.plan.profile.file):
                keep_counted(built.plan.profile.folder, draft.release)
            for file in sorted(part.iterdir()):
                file.replace(folder / file.name)
            sync_folder(folder)
    path = folder / made.name
    return Released(
        release=draft.release,
        path=path,
        not_judged=tuple(_not_judged(draft)),
        packages=packages,
        delta=delta,
        model_signature=None if model_key is None else model_signature_path(path),
    )


@contextmanager
def _unnamed(folder: Path) -> Iterator[Path]:
    """Give a folder inside of an existing one for what has no name yet; what stays in it goes."""
    sweep_parts(folder)
    part = folder / f"{PART}{os.getpid()}.{os.urandom(6).hex()}"
    part.mkdir(mode=0o700)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_old(old: Path, whom: Believed) -> None:
    """Let a bundle pass that deltas lead from: one that readers took, so somebody vouches for it.

    Raises:
        IntegrityError: As :func:`edgedeploy.release.opening.open_bundle`.
        StoreError: It cannot be read (E601, E602).
    """
    with (
        disk_errors("cannot read the old bundle"),
        open_bundle(old, whom.trusted, whom.revoked),
    ):
        pass  # opening is checking


@contextmanager
def _counting(profile: Profile) -> Iterator[tuple[Counted, ...]]:
    """Hold the counters of a profile's releases, and yield those that were made so far.

    A bundled profile lies among the program's files: nothing is written beside it.
    """
    if is_bundled(profile.file):
        yield ()
        return
    with ExitStack() as held:
        with disk_errors("cannot count the release"):
            held.enter_context(holding(profile.folder))
        yield read_counted(profile.folder, profile.name)


def collect(built: Built, options: ReleaseOptions, before: Sequence[Counted]) -> Draft:
    """Return the release of everything that the last build of a profile accepted.

    Args:
        built: The profile as it was last built.
        options: How the release is made.
        before: The releases of the profile so far.

    Raises:
        ProfileError: The profile states no version or one that is none (E737), its counter was
            given before (E749), a part has no licence (E756) or a wrong one (E757), or a file that
            it names cannot be taken along (E442).
        UsageError: SOURCE_DATE_EPOCH is no time (E100).
        RefusedError: A gate refused an artifact (E439), or a licence is denied (E758).
        BuildError: It is not built, or not as the profile now says (E438); or an engine of it is
            none, because something stood for the GPU (E759).
    """
    profile = built.plan.profile
    if profile.version is None:
        raise ProfileError(
            f"{profile.name} states no version, and a release has one",
            code="E737",
            subject=str(profile.file),
            hint='add `version: "1.0.0"` to the profile',
        )
    if not is_name(profile.version):
        raise ProfileError(
            f"no release can have the version {profile.version!r:.120}",
            code="E737",
            subject=str(profile.file),
            hint="write letters, digits and `._+~-`, a letter or digit first, 100 at most",
        )
    texts = dict(map(text_path, profile.release.texts))
    covered = licences(_parts(profile), texts)
    refuse_denied(covered, (*profile.release.deny, *options.deny))
    targets, files = [], dict[str, ReleaseFile]()
    places: dict[str, Path | bytes] = {}
    for name in sorted({item.use.target for item in built.plan.items}):
        items = [item for item in built.plan.items if item.use.target == name]
        taken = built.contents(name)
        targets.append(describe_target(built, items, taken))
        places |= taken.places
        files |= {file.path: file for file in describe_files(targets[-1], taken)}
    for path, role, content in _texts(built):
        _add(files, places, path, role, content)
    draft = Release(
        name=profile.name,
        version=profile.version,
        counter=counter_for(before, profile.version, options.counter),
        created=_created(),
        made_by=f"edgedeploy {__version__}",
        unaccepted=tuple(built.refusals()),
        targets=tuple(targets),
        licences=covered,
        files=tuple(files[path] for path in sorted(files)),
    )
    origin = _origin(built)
    _add(files, places, SBOM, "sbom", sbom(draft, origin))
    _add(files, places, PROVENANCE, "provenance", provenance(draft, origin))
    whole = replace(draft, files=tuple(files[path] for path in sorted(files)))
    return Draft(release=whole, places=places, measured=tuple(_measured(built)))


def measurements_of(draft: Draft) -> Measurements:
    """Return what was measured of a release, as it lies beside the bundle."""
    release = draft.release
    return Measurements(
        release=release.digest,
        name=release.name,
        version=release.version,
        measured=draft.measured,
    )


def _measured(built: Built) -> Iterator[Measured]:
    for item in sorted(built.plan.items, key=lambda item: item.use.target):
        model, report = built.report(item)
        yield Measured(
            model=model.name,
            target=report.target,
            artifact=report.artifact or "",
            bench=report.bench and without_name(report.bench),
            gates=tuple(gate for gate in report.gates if is_measured(gate.gate)),
        )


def _not_judged(draft: Draft) -> Iterator[str]:
    """Yield in words the gates of a release that nothing could judge."""
    for target in draft.release.targets:
        for model in target.models:
            for gate in model.gates:
                if gate.state == "not judged":
                    yield f"{model.name} on {target.target}: {gate.gate}: {gate.reason}"
    for item in draft.measured:
        for beside in item.gates:
            if beside.state == "not judged":
                yield f"{item.model} on {item.target}: {beside.gate}: {beside.reason}"


def write_release(
    draft: Draft, folder: Path, key: SigningKey, model_key: ModelKey | None = None
) -> Path:
    """Write the signed bundle of a draft into a folder and return its path.

    Args:
        draft: What is released.
        folder: Existing folder.
        key: Signs.
        model_key: Signs too, for OpenSSF Model Signing, in a file beside the bundle.

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
    signed = envelope(manifest, [sign(manifest, key.public, key.sign)])
    members[ENVELOPE] = signed
    members[SUMS] = sums(release.files)
    goal = folder / release.file_name
    write_archive(goal, members)
    if model_key is not None:
        write_atomic(model_signature_path(goal), model_signature(release, signed, model_key))
    return goal


def _created() -> str | None:
    """Return the time that SOURCE_DATE_EPOCH names. Source: reproducible-builds.org, its spec.

    Raises:
        UsageError: It names none (E100).
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    try:
        if not (text.isascii() and text.isdecimal()):
            raise ValueError("it is no number of seconds")
        return datetime.fromtimestamp(int(text), UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"SOURCE_DATE_EPOCH is {text!r:.60}, and no time that a release can have",
            code="E100",
            subject="SOURCE_DATE_EPOCH",
            hint="set it to the seconds since 1970, such as `git log -1 --format=%ct`, or unset it",
        ) from error


def _parts(profile: Profile) -> dict[str, str | None]:
    """Return the licence of every part of a release as the profile says it."""
    parts = {licence_part(name): model.licence for name, model in profile.models.items()}
    if profile.files or profile.pipeline is not None:
        parts["files"] = profile.release.files_licence
    return parts


def _texts(built: Built) -> Iterator[tuple[str, Role, bytes]]:
    """Yield path, role and content of classes, characters and licence texts.

    Raises:
        ProfileError: One cannot be read, is a link out of the profile's folder, is no text or too
            long (E442).
    """
    profile = built.plan.profile
    for item in {item.shared.model.name: item for item in built.plan.items}.values():
        model, decoder = item.shared.model, built.decoder(item)
        goal = labels_path(model, decoder)
        if goal is not None and model.classes is not None:
            yield goal, "labels", _text(profile.folder, model.classes)
        elif goal is not None and decoder is not None:
            yield goal, "labels", "".join(f"{label}\n" for label in decoder.labels).encode()
    for file in profile.release.texts:
        yield text_path(file)[1], "licence", _text(profile.folder, file)


def _text(folder: Path, name: str) -> bytes:
    place = folder / name
    try:
        if not place.resolve().is_relative_to(folder.resolve()):
            raise ValueError("it lies outside of the profile's folder")
        with open(place, "rb") as file:
            content = file.read(MOST_TEXT_BYTES + 1)
        if len(content) > MOST_TEXT_BYTES:
            raise ValueError(f"it has more than {MOST_TEXT_BYTES} bytes")
        content.decode()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ProfileError(
            f"{name} cannot be released: {why}",
            code="E442",
            subject=name,
            hint="name a UTF-8 text file beside the profile",
        ) from error
    return content


def _add(
    files: dict[str, ReleaseFile],
    places: dict[str, Path | bytes],
    path: str,
    role: Role,
    content: bytes,
) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    files[path] = ReleaseFile(path=path, size=len(content), sha256=sha256, role=role)
    places.setdefault(sha256, content)


def _origin(built: Built) -> Origin:
    lock, profile = built.lock(), built.plan.profile
    return Origin(
        profile=lock.expanded,
        models=lock.models,
        authors={name: model.author for name, model in profile.models.items() if model.author},
        data=lock.data,
        tools=lock.tools,
    )
