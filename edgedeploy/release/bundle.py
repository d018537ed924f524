"""What a bundle holds, as its manifest says it; and a bundle that was opened.

A bundle is an archive (:mod:`edgedeploy.release.archive`) with ``manifest.json`` (canonical JSON),
``manifest.dsse.json`` (the signed envelope over the same bytes), ``SHA256SUMS`` for people, and the
files that the manifest lists. Files of equal content lie in it once, under the first of their
paths. Nothing in it depends on when, where or by whom it was made; what was measured varies from
run to run, and lies beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgedeploy.errors import IntegrityError
from edgedeploy.gpu import EngineNeeds, GpuPlatform
from edgedeploy.manifest import canonical
from edgedeploy.plaindata import from_plain, to_plain
from edgedeploy.release.checking import check_release
from edgedeploy.runner import Evidence

SCHEMA = 1
SUFFIX = ".edpkg"
MANIFEST = "manifest.json"
ENVELOPE = "manifest.dsse.json"
SUMS = "SHA256SUMS"
OWN = frozenset({MANIFEST, ENVELOPE, SUMS})
"""Members that no file of the manifest may be called."""

MOST_MANIFEST_BYTES = 16 << 20

Role = Literal[
    "model", "weights", "interface", "file", "golden", "labels", "licence", "sbom", "provenance"
]
"""What a file is there for; ``file``: one of the profile's ``files:``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFile:
    """A file of a release.

    Attributes:
        path: Relative POSIX path, unique also where case or accents are ignored.
        size: Bytes.
        sha256: 64 hexadecimal digits.
        role: What it is there for.
        segments: ``[offset, length, sha256]`` of its parts, in order and covering it; empty: one.
    """

    path: str
    size: int
    sha256: str
    role: Role
    segments: tuple[tuple[Any, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or output of a model.

    Attributes:
        name: In the graph.
        dtype: As NumPy names it.
        shape: A size, ``low..high`` or the name of an open dim per axis.
        image: Preprocessing of image files as the profile states it; None where it states none.
        audio: The same of sound.
        state: Name of the output that is fed back into this input at the next call.
    """

    name: str
    dtype: str
    shape: tuple[Any, ...]
    image: Mapping[str, Any] | None = None
    audio: Mapping[str, Any] | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with where it comes from; ``low`` and ``high`` bound it with 95 % confidence.

    Attributes:
        higher_is_better: False for error rates.
        fraction: Whether it lies in [0, 1] and is shown in per cent, its change in points.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    samples: int
    evidence: Evidence
    higher_is_better: bool = True
    fraction: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate's verdict.

    Attributes:
        gate: Its name, such as ``metric`` or ``latency_p50``.
        state: ``measured``: it is judged by measurements, which are never the same twice and stand
            with its verdict beside the bundle; one that refused, and was overruled, is ``refused``
            here too.
        limit: As printed; None where it has none.
        evidence: Where its figure comes from.
        reason: Why.
    """

    gate: str
    state: Literal["passed", "refused", "not judged", "measured"]
    limit: str | None
    evidence: Evidence
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Inputs and the outputs that they must give: folders of the release, tensor packs."""

    inputs: str
    outputs: str
    cosine: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    """How an app makes an answer of a model's outputs.

    Attributes:
        name: Of the decoder.
        output: What it reads.
        answer: Kind of the answer, such as ``text`` (:data:`edgedeploy.decode.AnswerKind`).
        parameters: Of the decoder, without names of classes and characters: those are the labels.
        steps: The same in words, one sentence per step, in order.
    """

    name: str
    output: str
    answer: str
    parameters: Mapping[str, Any]
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseEngine:
    """An engine of a model, which devices of some platforms load.

    Attributes:
        entry: The file that the runtime opens.
        artifact: Digest of the tree of its files in the store; a version that holds them says it.
        size_bytes: Of its files.
        needs: What it asks of a device.
        platform: What built it; None for what was built without a GPU.
    """

    entry: str
    artifact: str
    size_bytes: int
    needs: EngineNeeds
    platform: GpuPlatform | None

    @property
    def folder(self) -> str:
        """Folder of its files."""
        return self.entry.rpartition("/")[0]

    def in_words(self) -> str:
        """Return what built it, such as ``TensorRT 10.3.0 for Orin (SM87), driver 540.4``."""
        if self.platform is None:
            return self.needs.built()
        driver = self.platform.jetpack or (
            self.platform.driver and f"driver {self.platform.driver}"
        )
        return self.platform.in_words() + (f", {driver}" if driver else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseModel:
    """One model for one target.

    Attributes:
        name: In the profile, with its shape variant.
        entry: What the runtime opens: a file of the release, or a folder. Of several engines: the
            folder of them all, which nothing opens.
        candidate: How its numbers are represented, such as ``w8a8``.
        artifact: Digest of the artifact's tree in the store.
        inputs, outputs: In graph order.
        labels: File with the classes, or a recogniser's characters, in the order of the output;
            None without.
        options: Of the runtime.
        size_bytes: Of the files that the runtime loads; of several engines, those of the largest.
        figures: What the artifact is worth.
        gates: All that the profile sets.
        golden: None where nothing is there to check it with.
        engines: One per platform, sorted by entry: a device loads the one that suits it, in place
            of ``entry``. Empty for what is no engine.
        task: What it is for, as the profile names it; None where it does not.
        decode: How its outputs become an answer; None where the profile does not say.
    """

    name: str
    entry: str
    candidate: str
    artifact: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: str | None
    options: Mapping[str, Any]
    size_bytes: int
    figures: tuple[Figure, ...]
    gates: tuple[Gate, ...]
    golden: Golden | None
    engines: tuple[ReleaseEngine, ...] = ()
    task: str | None = None
    decode: Decode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePipeline:
    """What the models of a target are together: a function that an application may run.

    Attributes:
        function: ``path:name``; the path is a file of the release.
        files: Files of the release that the function needs, that one among them.
        requires: Version of every Python distribution that those files import, by name.
        size_bytes: Of the files that the runtime loads, of all models.
        figures: What the models are worth together.
        gates: The one on the combination, where the profile sets it.
    """

    function: str
    files: tuple[str, ...]
    requires: Mapping[str, str]
    size_bytes: int
    figures: tuple[Figure, ...]
    gates: tuple[Gate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTarget:
    """What a release holds for one target, and where it may run.

    Attributes:
        target: ``board/runtime``.
        os, arch: As targets name them.
        os_version: Oldest version of the system; None: any.
        runtime: Id of the runtime.
        runtime_versions: Such as ``>=1.17``.
        compute_capabilities: Of the GPUs that it is for; empty where that is no question.
        models: In the order of the profile.
        pipeline: What they are together; None where the profile has no function over them.
    """

    target: str
    os: str
    arch: str
    os_version: int | None
    runtime: str
    runtime_versions: str
    compute_capabilities: tuple[str, ...]
    models: tuple[ReleaseModel, ...]
    pipeline: ReleasePipeline | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """A licence that covers a part of the release: SPDX expression and file, if there is one."""

    part: str
    spdx: str
    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release.

    Attributes:
        name: The profile's.
        version: Of what is shipped.
        counter: Grows with every release of the name; a reader never goes back.
        created: From ``SOURCE_DATE_EPOCH``, ISO 8601 in UTC; None: no time was asked for.
        made_by: ``edgedeploy`` and its version.
        unaccepted: What a gate refused and ``--unaccepted`` let pass, in words.
        targets: Sorted by id.
        licences: Sorted by part.
        files: Sorted by path.
    """

    schema: int = SCHEMA
    name: str
    version: str
    counter: int
    created: str | None
    made_by: str
    unaccepted: tuple[str, ...]
    targets: tuple[ReleaseTarget, ...]
    licences: tuple[Licence, ...]
    files: tuple[ReleaseFile, ...] = field(default=())

    @property
    def manifest(self) -> bytes:
        """The canonical bytes that are signed."""
        return canonical(to_plain(self))

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest (64 hexadecimal digits): the release's identity."""
        return hashlib.sha256(self.manifest).hexdigest()

    @property
    def file_name(self) -> str:
        """Name of the bundle."""
        return f"{self.name}-{self.version}{SUFFIX}"

    def target(self, name: str) -> ReleaseTarget:
        """Return a target by id.

        Raises:
            KeyError: The release has none of that id.
        """
        for target in self.targets:
            if target.target == name:
                return target
        raise KeyError(name)

    def engines(self) -> Iterator[tuple[str, str, ReleaseEngine]]:
        """Yield every engine with the id of its target and the name of its model."""
        for target in self.targets:
            for model in target.models:
                for engine in model.engines:
                    yield target.target, model.name, engine

    def file(self, path: str) -> ReleaseFile:
        """Return a file by path.

        Raises:
            KeyError: There is none.
        """
        for file in self.files:
            if file.path == path:
                return file
        raise KeyError(path)

    def files_of(self, target: ReleaseTarget, model: ReleaseModel) -> tuple[ReleaseFile, ...]:
        """Return the files that a model's runtime loads on a target."""
        folder = f"{folder_of(target.target, model.name)}/"
        return tuple(
            file
            for file in self.files
            if file.path.startswith(folder) and file.role in ("model", "weights", "interface")
        )


def folder_of(target: str, model: str) -> str:
    """Return the folder of a model's artifact in a release, such as ``rpi5/ort/main``."""
    return f"{target}/{model}"


def members_of(files: Iterable[ReleaseFile]) -> dict[str, str]:
    """Return by digest the path under which the archive holds each content: the first."""
    found: dict[str, str] = {}
    for file in sorted(files, key=lambda file: file.path):
        found.setdefault(file.sha256, file.path)
    return found


def sums(files: Sequence[ReleaseFile]) -> bytes:
    """Return ``SHA256SUMS`` in the form that ``sha256sum -c`` reads, for an extracted release."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in files).encode()


def parse_release(content: bytes) -> Release:
    """Return the release that a manifest describes, if all of it can be so.

    Args:
        content: The manifest's bytes, from anywhere.

    Raises:
        IntegrityError: It is no manifest of this schema in the canonical form, or says what cannot
            be, such as a path that leads out (E734).
    """
    if len(content) > MOST_MANIFEST_BYTES:
        raise _bad(f"it has {len(content)} bytes, more than {MOST_MANIFEST_BYTES}")
    try:
        data = json.loads(content)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f"it is of another schema than {SCHEMA}")
        # Also refuses what a JSON reader lets pass: repeated keys, NaN, other white space.
        if canonical(data) != content:
            raise ValueError("it is not in the canonical form")
        release: Release = from_plain(Release, data, "manifest")
    except (ValueError, RecursionError) as error:
        raise _bad(str(error)) from error
    try:
        if release.manifest != content:
            raise ValueError("a number in it is of another kind than it should be")
        check_release(release, OWN)
    except ValueError as error:
        raise _bad(str(error)) from error
    return release


def _bad(why: str) -> IntegrityError:
    return IntegrityError(
        f"the manifest cannot be used: {why}",
        code="E734",
        hint="get the bundle again, or use the edgedeploy that made it",
    )
