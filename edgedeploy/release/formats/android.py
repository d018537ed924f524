"""Android: an archive (AAR) in a folder laid out as a Maven repository, for Gradle to point at."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgedeploy.errors import UsageError
from edgedeploy.release.archive import write_archive
from edgedeploy.release.bundle import ENVELOPE, MANIFEST, Release, ReleaseModel, ReleaseTarget
from edgedeploy.release.content import Content, bundled
from edgedeploy.release.formats import Format
from edgedeploy.release.formats.androidtext import (
    GROUP,
    consumer_rules,
    kotlin_source,
    manifest_xml,
    pom_xml,
    runtime_range,
)
from edgedeploy.release.identifiers import identifiers, words_of
from edgedeploy.release.interface import interface_of
from edgedeploy.release.java.classfile import class_file
from edgedeploy.release.java.pictures import picture_sources
from edgedeploy.release.java.ports import apart, carried
from edgedeploy.release.java.source import source_file
from edgedeploy.release.java.wrapper import Wrapped
from edgedeploy.release.opening import Bundle

_MAIN = "main"
_ID = re.compile(r"[A-Za-z0-9_.-]+")  # maven-model-builder, DefaultModelValidator
_SHARED = ("file", "labels", "licence", "sbom", "provenance")
"""Roles of the files that an app gets beside its models; golden samples stay in the bundle."""


class Android:
    """One AAR per target; an :class:`edgedeploy.release.formats.Format`."""

    name = "android"

    def suits(self, release: Release) -> tuple[ReleaseTarget, ...]:
        """Return the Android targets of ONNX Runtime."""
        return tuple(
            target
            for target in release.targets
            if target.os == "android" and target.runtime == "ort"
        )

    def write(self, bundle: Bundle, folder: Path) -> tuple[Path, ...]:
        """Write ``maven/``, a Maven repository, and sources that an app may add.

        Those lie in ``kotlin/``, and in ``java/`` where a model takes pictures.

        Raises:
            UsageError: A name, a version or a tensor has no form in this package (E760).
            OSError: The disk refuses.
        """
        release = bundle.release
        maven, kotlin, java = (folder / name for name in ("maven", "kotlin", "java"))
        for target in self.suits(release):
            wrapped = _wrapped(release, target)
            artifact = artifact_id(release, target)
            place = maven / GROUP / artifact / release.version
            place.mkdir(parents=True)
            stem = f"{artifact}-{release.version}"
            sources = {
                f"{described.name}.java": source_file(described).encode()
                for item in wrapped
                for described in item.classes
            }
            write_archive(place / f"{stem}.aar", _members(bundle, target, wrapped, folder))
            write_archive(place / f"{stem}-sources.jar", sources)
            (place / f"{stem}.pom").write_bytes(pom_xml(release, artifact, _runtimes(target)))
            for item in wrapped:
                goal = kotlin / f"{item.internal}Extensions.kt"
                goal.parent.mkdir(parents=True, exist_ok=True)
                goal.write_text(kotlin_source(item), encoding="utf-8", newline="\n")
            for path, text in picture_sources(wrapped).items():
                goal = java / path
                goal.parent.mkdir(parents=True, exist_ok=True)
                goal.write_text(text, encoding="utf-8", newline="\n")
            for file in sorted(place.iterdir()):
                _write_digests(file)
        return maven, kotlin, *([java] if java.is_dir() else [])


def artifact_id(release: Release, target: ReleaseTarget) -> str:
    """Return the Maven name of what a release holds for a target.

    Raises:
        UsageError: Maven takes no such name (E760).
    """
    board = target.target.partition("/")[0]
    found = f"{release.name}-{board}"
    if not _ID.fullmatch(found):
        raise _refused(
            f"{found!r} cannot be a Maven artifact id",
            "use letters, digits, dots, dashes and underscores in `name:`",
        )
    return found


def _runtimes(target: ReleaseTarget) -> str:
    try:
        return runtime_range(target.runtime_versions)
    except ValueError as error:
        raise _refused(
            f"{target.target} runs on ONNX Runtime {target.runtime_versions}: {error}",
            "give its runtime a range such as >=1.17",
        ) from error


def _refused(what: str, hint: str) -> UsageError:
    return UsageError(
        f"no package of the format android: {what}", code="E760", subject="android", hint=hint
    )


def _wrapped(release: Release, target: ReleaseTarget) -> tuple[Wrapped, ...]:
    """Return what the wrappers of a target's models are made of, in the release's order."""
    said = {model.name: _class_words(release, model) for model in target.models}
    asked = [text for words in said.values() for text in (words, apart(words, "outputs"))]
    names = identifiers(asked, "pascal", "java", kind="model")
    return tuple(
        Wrapped(
            package=_package(release, target),
            name=names[said[model.name]],
            outputs_name=names[apart(said[model.name], "outputs")],
            interface=interface_of(model),
            about=f"{model.name} of {release.name} {release.version} for {target.target}, "
            f"{model.candidate}.",
            asset=_asset(release, _checked(release, target, model).entry),
            labels=None
            if model.labels is None
            else (_asset(release, model.labels), release.file(model.labels).size),
            entries=_entries(model.options),
        )
        for model in target.models
    )


def _class_words(release: Release, model: ReleaseModel) -> str:
    return release.name if model.name == _MAIN else f"{release.name} {model.name}"


def _package(release: Release, target: ReleaseTarget) -> str:
    """Return the internal name of a target's Java package: lower case, no word of the language."""
    board = target.target.partition("/")[0]
    joined = ["".join(words_of(text)) for text in (release.name, board)]
    parts = [identifiers([part], "camel", "java", kind="app")[part].lower() for part in joined]
    return "/".join([GROUP, *parts])


def _asset(release: Release, path: str) -> str:
    """Return where a file of the release lies below ``assets/``."""
    return f"{GROUP}/{release.name}/{path}"


def _entries(options: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in options.get("config", {}).items()}


def _checked(release: Release, target: ReleaseTarget, model: ReleaseModel) -> ReleaseModel:
    """Return a model that a wrapper can load and feed."""
    if [file for file in release.files_of(target, model) if file.role == "weights"]:
        raise _refused(
            f"{model.name} keeps weights in files of their own, which a mapped model cannot have",
            "build it for a target whose artifact is one .ort file",
        )
    for tensor in (*model.inputs, *model.outputs):
        if not carried(tensor.dtype):
            raise _refused(
                f"{tensor.name!r} of {model.name} is {tensor.dtype}, which the Java interface of "
                "ONNX Runtime does not carry",
                "convert it to a signed or a floating-point type in the model",
            )
    return model


def _members(
    bundle: Bundle, target: ReleaseTarget, wrapped: tuple[Wrapped, ...], scratch: Path
) -> dict[str, Content]:
    """Return the members of an AAR. Source: developer.android.com, "Anatomy of an AAR file"."""
    release = bundle.release
    place = scratch / "classes.jar"
    classes = {
        f"{described.name}.class": class_file(described)
        for item in wrapped
        for described in item.classes
    }
    write_archive(place, classes)
    try:
        jar = place.read_bytes()
    finally:
        place.unlink()
    members: dict[str, Content] = {
        "AndroidManifest.xml": manifest_xml(_package(release, target), target),
        "R.txt": b"",
        "classes.jar": jar,
        "proguard.txt": consumer_rules(),
        f"assets/{_asset(release, MANIFEST)}": release.manifest,
        f"assets/{_asset(release, ENVELOPE)}": bundle.envelope,
    }
    for path in _held(release, target):
        members[f"assets/{_asset(release, path)}"] = bundled(bundle, path)
    return members


def _held(release: Release, target: ReleaseTarget) -> Iterator[str]:
    """Yield the files of a release that an app for a target needs."""
    folder = f"{target.target}/"
    for file in release.files:
        if file.role in _SHARED or (file.role == "model" and file.path.startswith(folder)):
            yield file.path


def _write_digests(file: Path) -> None:
    """Write the digests that readers of Maven repositories look for, SHA-1 among them."""
    content = file.read_bytes()
    for name in ("sha1", "sha256"):
        digest = hashlib.new(name, content, usedforsecurity=False).hexdigest()
        file.with_name(f"{file.name}.{name}").write_text(digest)


FORMAT: Format = Android()
