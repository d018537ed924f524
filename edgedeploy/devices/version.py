"""A version: the models and files that belong on a device together, and its manifest.

The manifest is canonical JSON; its SHA-256 is the version's name. One that comes from a device, or
from a stranger's file, is read as strictly as anything hostile: a path that leads out of the
version, two names that one file system may take for the same, sizes that do not add up, or any
field that does not belong there refuses the whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgedeploy import fileset
from edgedeploy.artifact import FileEntry
from edgedeploy.errors import DeviceError, IntegrityError
from edgedeploy.fileset import MAX_BYTES, MAX_PATH_BYTES, folders_of
from edgedeploy.gpu import EngineNeeds
from edgedeploy.manifest import canonical

SCHEMA = 1
MANIFEST = "manifest.json"
"""Name of the manifest in the version's folder; no file of a version may have it."""

MAX_MANIFEST_BYTES = 16 << 20
"""Also the limit of ``ondevice/layout.py``."""

SIGNED, ENVELOPE = "release/manifest.json", "release/manifest.dsse.json"
"""Where a version carries the manifest of its release, and the signatures; as
``ondevice/admission.py`` has it."""

_KINDS: tuple[Literal["development", "release"], ...] = ("development", "release")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_APP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionGolden:
    """Inputs and the outputs that they must give, to check a model on the device.

    Attributes:
        inputs, outputs: Folders in the version, each a tensor pack.
        cosine: Least cosine similarity of the outputs; None asks for no more than finite ones.
    """

    inputs: str
    outputs: str
    cosine: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionModel:
    """One model of a version.

    Attributes:
        name: In the profile, with its shape variant; its files lie below a folder of this name.
        target: ``board/runtime`` that it was built for.
        runtime: Family that loads it, such as ``ort``.
        entry: The file that the runtime opens, or the folder: a Core ML package is one.
        artifact: Digest of the tree in the store that the files came from; of the engine's files
            alone where the tree holds engines for several platforms.
        candidate: How its numbers are represented, such as ``w8a8``.
        options: Of the runtime, JSON data.
        golden: None where nothing is there to check it with.
        needs: What an engine asks of the device; None where it is none.
    """

    name: str
    target: str
    runtime: str
    entry: str
    artifact: str
    candidate: str
    options: Mapping[str, Any] = field(default_factory=dict)
    golden: VersionGolden | None = None
    needs: EngineNeeds | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the model as JSON data.

        A model that is no engine says nothing of needs: older edgedeploys read it, and its
        version keeps its name.
        """
        golden = self.golden and {
            "inputs": self.golden.inputs,
            "outputs": self.golden.outputs,
            "cosine": self.golden.cosine,
        }
        return {
            "name": self.name,
            "target": self.target,
            "runtime": self.runtime,
            "entry": self.entry,
            "artifact": self.artifact,
            "candidate": self.candidate,
            "options": dict(self.options),
            "golden": golden,
            **({} if self.needs is None else {"needs": self.needs.to_json()}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What a device runs at a time.

    Attributes:
        app: Name of the application, the profile's.
        board: Board that it was built for.
        models: In the order of the profile.
        files: Every file, sorted by path.
        kind: ``release`` for one that carries a signed manifest (:data:`SIGNED`).
    """

    app: str
    board: str
    models: tuple[VersionModel, ...]
    files: tuple[FileEntry, ...]
    kind: Literal["development", "release"] = "development"

    @property
    def manifest(self) -> bytes:
        """The canonical manifest."""
        return canonical(
            {
                "schema": SCHEMA,
                "app": self.app,
                "kind": self.kind,
                "board": self.board,
                "models": [model.to_json() for model in self.models],
                "files": [file.to_json() for file in self.files],
            }
        )

    @property
    def name(self) -> str:
        """SHA-256 of the manifest (64 hex digits)."""
        return hashlib.sha256(self.manifest).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, each content counted once."""
        return sum({file.sha256: file.size for file in self.files}.values())


def parse_version(content: bytes) -> Version:
    """Return the version that a manifest describes.

    Args:
        content: The manifest's bytes, from anywhere.

    Raises:
        IntegrityError: It is no manifest, or no safe one (E435).
        DeviceError: Its schema is another (E436).
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise _bad(f"it has {len(content)} bytes, more than {MAX_MANIFEST_BYTES}")
    try:
        data = json.loads(content)
        if isinstance(data, dict) and _is_int(data.get("schema")) and data["schema"] != SCHEMA:
            raise _other_schema(data["schema"])
        # Also refuses what a JSON reader lets pass: repeated keys, NaN, other white space.
        if canonical(data) != content:
            raise _bad("it is not in the canonical form")
    except (ValueError, RecursionError) as error:
        raise _bad("it is not JSON") from error
    root = _Fields(data, "the manifest", {"schema", "app", "kind", "board", "models", "files"})
    kind = root.kind()
    files = tuple(_file(item, f"files[{at}]") for at, item in enumerate(root.list("files")))
    check_files(files)
    folders = {folder for file in files for folder in folders_of(file.path)}
    known = {file.path for file in files}
    models = tuple(
        _model(item, f"models[{at}]", known, folders) for at, item in enumerate(root.list("models"))
    )
    if len({model.name for model in models}) != len(models):
        raise _bad("two models have the same name")
    app = root.text("app")
    if not _APP.fullmatch(app):
        raise _bad(f"`app` is {app!r:.60}")
    return Version(app=app, board=root.text("board"), models=models, files=files, kind=kind)


def check_files(files: Iterable[FileEntry]) -> None:
    """Refuse files that cannot lie in one folder safely, on any file system.

    Raises:
        IntegrityError: A path leads out or is reserved, two paths are the same to some file
            system, one is a folder of another, one content has two sizes, they are not sorted, or
            they are too many or too large (E435).
    """
    try:
        fileset.check_files(files, (MANIFEST,))
    except fileset.UnsafeFilesError as error:
        raise _bad(str(error)) from error


class _Fields:
    """An object of the manifest whose fields are exactly these."""

    def __init__(self, data: Any, place: str, names: set[str], optional: str = "") -> None:
        if not isinstance(data, dict) or data.keys() - {optional} != names:
            raise _bad(f"{place} has missing or unknown fields")
        self._data = data
        self._place = place

    def any(self, name: str) -> Any:
        return self._data.get(name)

    def kind(self) -> Literal["development", "release"]:
        for kind in _KINDS:
            if self._data["kind"] == kind:
                return kind
        raise self._wrong("kind")

    def text(self, name: str) -> str:
        value = self._data[name]
        if not isinstance(value, str) or not 0 < len(value) <= MAX_PATH_BYTES:
            raise self._wrong(name)
        if not value.isprintable():
            raise self._wrong(name)
        return value

    def sha256(self, name: str) -> str:
        value = self._data[name]
        if not isinstance(value, str) or not _SHA256.fullmatch(value):
            raise self._wrong(name)
        return value

    def size(self, name: str) -> int:
        value = self._data[name]
        if not _is_int(value) or not 0 <= value <= MAX_BYTES:
            raise self._wrong(name)
        return int(value)

    def list(self, name: str) -> list[Any]:
        value = self._data[name]
        if not isinstance(value, list):
            raise self._wrong(name)
        return value

    def _wrong(self, name: str) -> IntegrityError:
        return _bad(f"`{name}` of {self._place} is {self._data[name]!r:.60}")


def _file(data: Any, place: str) -> FileEntry:
    fields = _Fields(data, place, {"path", "size", "sha256"}, optional="segments")
    path = fields.any("path")
    if not isinstance(path, str):
        raise _bad(f"`path` of {place} is no text")
    size = fields.size("size")
    fields.sha256("sha256")
    segments = fields.any("segments")
    if segments is not None:
        _check_segments(segments, size, place)
    return FileEntry.from_json(data)


def _check_segments(segments: Any, size: int, place: str) -> None:
    """Refuse segments that do not cover the file from its start to its end."""
    if not isinstance(segments, list) or not segments:
        raise _bad(f"`segments` of {place} is no list")
    at = 0
    for item in segments:
        if not isinstance(item, list) or len(item) != 3:
            raise _bad(f"a segment of {place} is not [offset, length, sha256]")
        offset, length, sha256 = item
        if not _is_int(offset) or not _is_int(length) or offset != at or length <= 0:
            raise _bad(f"the segments of {place} do not cover it")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise _bad(f"a segment of {place} has no digest")
        at += length
    if at != size:
        raise _bad(f"the segments of {place} do not cover it")


def _model(data: Any, place: str, files: set[str], folders: set[str]) -> VersionModel:
    names = {"name", "target", "runtime", "entry", "artifact", "candidate", "options", "golden"}
    fields = _Fields(data, place, names, optional="needs")
    name, entry, options = fields.text("name"), fields.text("entry"), fields.any("options")
    if entry not in files | folders or not entry.startswith(f"{name}/"):
        raise _bad(f"`entry` of {place} is neither a file nor a folder of that model")
    if not isinstance(options, dict):
        raise _bad(f"`options` of {place} is no object")
    golden = fields.any("golden")
    return VersionModel(
        name=name,
        target=fields.text("target"),
        runtime=fields.text("runtime"),
        entry=entry,
        artifact=fields.sha256("artifact"),
        candidate=fields.text("candidate"),
        options=options,
        golden=None if golden is None else _golden(golden, f"`golden` of {place}", folders),
        needs=_needs(data, place),
    )


def _needs(data: Any, place: str) -> EngineNeeds | None:
    if "needs" not in data:
        return None
    try:
        return EngineNeeds.from_json(data["needs"])
    except ValueError as error:
        raise _bad(f"`needs` of {place}: {error}") from error


def _golden(data: Any, place: str, folders: set[str]) -> VersionGolden:
    fields = _Fields(data, place, {"inputs", "outputs", "cosine"})
    inputs, outputs, cosine = fields.text("inputs"), fields.text("outputs"), fields.any("cosine")
    if not {inputs, outputs} <= folders:
        raise _bad(f"{place} names a folder that holds no file")
    # Not an integer: the version made of it would have another manifest.
    if cosine is not None and not (isinstance(cosine, float) and abs(cosine) <= 1):
        raise _bad(f"`cosine` of {place} is {cosine!r:.60}")
    return VersionGolden(inputs=inputs, outputs=outputs, cosine=cosine)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bad(why: str) -> IntegrityError:
    return IntegrityError(
        f"this is no manifest of a version: {why}",
        code="E435",
        hint="remove that version (`edgedeploy devices fsck --repair`) and push again",
    )


def _other_schema(found: int) -> DeviceError:
    return DeviceError(
        f"the manifest has schema {found}, this edgedeploy reads {SCHEMA}",
        code="E436",
        hint="use the edgedeploy that pushed the version, or push the version again",
    )
