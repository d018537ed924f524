"""What a manifest says must be possible: names, paths, and what points at them.

It is signed by somebody who is believed, and read all the same as if it were not: a publisher's
mistake, or a stolen key, must not write outside of a folder.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from edgedeploy.fileset import check_files, folders_of
from edgedeploy.gpu import EngineNeeds
from edgedeploy.release.picture import picture_of
from edgedeploy.release.verify_file import MOST_COUNTER

if TYPE_CHECKING:
    from edgedeploy.release.bundle import Release, ReleaseFile, ReleaseModel

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,99}")
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORD = 100
"""Letters of a name of a GPU, or of a version."""


def is_name(text: str) -> bool:
    """Return whether text can be the name or the version of a release."""
    return _NAME.fullmatch(text) is not None


def check_release(release: Release, reserved: Collection[str]) -> None:
    """Refuse a release that says what cannot be.

    Args:
        release: As read.
        reserved: Names of files that none of the release's may have.

    Raises:
        ValueError: A name cannot be a file's, the counter is none, a text has more than one line, a
            file is refused by :func:`edgedeploy.fileset.check_files`, or something points at a file
            that is not there.
    """
    for name, text in (("name", release.name), ("version", release.version)):
        if not is_name(text):
            raise ValueError(f"its {name} is {text!r:.60}: letters, digits and . _ + ~ - make one")
    if not 1 <= release.counter <= MOST_COUNTER:
        raise ValueError(f"its counter is {release.counter}")
    _check_texts(release)
    for file in release.files:
        _check_file(file)
    check_files(release.files, reserved, once=False)
    files = {file.path for file in release.files}
    folders = {folder for path in files for folder in folders_of(path)}
    for licence in release.licences:
        if licence.file is not None and licence.file not in files:
            raise ValueError(f"there is no licence file {licence.file!r:.120}")
    names = [target.target for target in release.targets]
    if names != sorted(set(names)):
        raise ValueError("its targets are not sorted, or one is there twice")
    for target in release.targets:
        if len({model.name for model in target.models}) != len(target.models):
            raise ValueError(f"two models for {target.target!r:.60} have the same name")
        for model in target.models:
            _check_model(model, files, folders)
            _check_engines(model, files)
        pipeline = target.pipeline
        if pipeline is not None:
            needed = {pipeline.function.rpartition(":")[0], *pipeline.files}
            if not needed <= files:
                raise ValueError(f"files of {pipeline.function!r:.120} are not there")


def _check_texts(release: Release) -> None:
    """Refuse what would be something else in the metadata of a package: a second line there."""
    texts = [release.made_by]
    for licence in release.licences:
        texts += [licence.part, licence.spdx]
    for target in release.targets:
        if not _TARGET.fullmatch(target.target):
            raise ValueError(f"{target.target!r:.60} is no target: it is written board/runtime")
        texts += [target.os, target.arch, target.runtime, target.runtime_versions]
        texts += [model.candidate for model in target.models]
        if target.pipeline is not None:
            texts += [target.pipeline.function, *target.pipeline.requires]
            texts += target.pipeline.requires.values()
    for text in texts:
        if not text.isprintable():
            raise ValueError(f"the text {text!r:.60} is not one printable line")


def _check_file(file: ReleaseFile) -> None:
    if file.size < 0 or not _SHA256.fullmatch(file.sha256):
        raise ValueError(f"the size or the digest of {file.path!r:.120} is none")
    at = 0
    for part in file.segments:
        if len(part) != 3 or not all(type(number) is int for number in part[:2]):
            raise ValueError(f"a segment of {file.path!r:.120} is not [offset, length, sha256]")
        offset, length, sha256 = part
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise ValueError(f"a segment of {file.path!r:.120} has no digest")
        if offset != at or length <= 0:
            raise ValueError(f"the segments of {file.path!r:.120} do not cover it")
        at += length
    if file.segments and at != file.size:
        raise ValueError(f"the segments of {file.path!r:.120} do not cover it")


def _check_model(model: ReleaseModel, files: set[str], folders: set[str]) -> None:
    """Refuse what a model points at and the release does not hold."""
    if model.entry not in files | folders:
        raise ValueError(f"there is no {model.entry!r:.120}, the entry of {model.name!r:.60}")
    if model.labels is not None and model.labels not in files:
        raise ValueError(f"there is no file of labels {model.labels!r:.120}")
    decode = model.decode
    if decode is not None and decode.output not in {tensor.name for tensor in model.outputs}:
        raise ValueError(f"there is no output {decode.output!r:.60}, which is decoded")
    for tensor in model.inputs:
        picture_of(tensor)  # refuses what makes no sense
    golden = model.golden
    if golden is not None and not {golden.inputs, golden.outputs} <= folders:
        raise ValueError(f"the golden samples of {model.name!r:.60} are not there")


def _check_engines(model: ReleaseModel, files: set[str]) -> None:
    """Refuse engines that are not there, are no platforms', or among which nothing chooses."""
    entries = [engine.entry for engine in model.engines]
    if entries != sorted(set(entries)) or not set(entries) <= files:
        raise ValueError(f"the engines of {model.name!r:.60} are not there, sorted, each once")
    alone = entries == [model.entry]
    if entries and not alone:
        if len(entries) < 2 or not all(entry.startswith(f"{model.entry}/") for entry in entries):
            raise ValueError(f"the engines of {model.name!r:.60} are not below its entry")
        if len({engine.platform for engine in model.engines} - {None}) < len(entries):
            raise ValueError(f"two engines of {model.name!r:.60} are of one platform, or of none")
    for engine in model.engines:
        EngineNeeds.from_json(engine.needs.to_json())
        platform = engine.platform
        for text in () if platform is None else platform.to_json().values():
            if isinstance(text, str) and not (len(text) <= _WORD and text.isprintable()):
                raise ValueError(f"the platform of an engine of {model.name!r:.60} is none")
