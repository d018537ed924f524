"""Releases that nobody built, for tests of what is said of one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgedeploy.release.bundle import (
    Figure,
    Gate,
    Licence,
    Release,
    ReleaseFile,
    ReleaseModel,
    ReleaseTarget,
    Tensor,
)
from edgedeploy.release.keys import SigningKey
from edgedeploy.release.origin import Origin
from edgedeploy.releasing import Draft, write_release

ORIGIN = Origin(
    profile="a" * 64,
    models={"main": "b" * 64},
    authors={"main": "The model's authors"},
    data={"main.samples.evaluate": "c" * 64},
    tools={"onnxruntime": "1.32.0", "python": "3.11", "ml_dtypes": "0.5.3+local"},
)
METRIC = Gate(gate="metric", state="passed", limit="-1 pt", evidence="host-runtime", reason="")
SIZE = Gate(gate="size", state="passed", limit="<= 4000 B", evidence="host-runtime", reason="")
TOP1 = Figure(name="top1", value=0.9, low=0.88, high=0.92, samples=500, evidence="host-runtime")


def described_model(**changes: Any) -> ReleaseModel:
    """Return a model of one input and one output, with any field changed."""
    model = ReleaseModel(
        name="main",
        entry="rpi5/ort/main/model.ort",
        candidate="w8a8",
        artifact="d" * 64,
        inputs=(Tensor(name="x", dtype="float32", shape=(1, 3, 48, "160..960")),),
        outputs=(Tensor(name="y", dtype="float32", shape=(1, "any")),),
        labels=None,
        options={},
        size_bytes=5,
        figures=(replace(TOP1, fraction=True),),
        gates=(METRIC, SIZE),
        golden=None,
    )
    return replace(model, **changes)


def described_release(*models: ReleaseModel, **changes: Any) -> Release:
    """Return a release of models for one target, with any field changed."""
    target = ReleaseTarget(
        target="rpi5/ort",
        os="linux",
        arch="arm64",
        os_version=None,
        runtime="ort",
        runtime_versions=">=1.17",
        compute_capabilities=(),
        models=models or (described_model(),),
    )
    release = Release(
        name="doorbell",
        version="1.2.0",
        counter=3,
        created=None,
        made_by="edgedeploy 0.1.0",
        unaccepted=(),
        targets=(target,),
        licences=(Licence(part="model main", spdx="Apache-2.0", file=None),),
        files=(
            described_file("files/words.txt", b"ding", role="file"),
            described_file("rpi5/ort/main/model.ort", b"model"),
        ),
    )
    return replace(release, **changes)


def described_file(path: str, content: bytes, role: Any = "model") -> ReleaseFile:
    """Return what a release says of a file of some content."""
    sha256 = hashlib.sha256(content).hexdigest()
    return ReleaseFile(path=path, size=len(content), sha256=sha256, role=role)


def written_release(
    folder: Path, release: Release, contents: Mapping[str, bytes], key: SigningKey
) -> Path:
    """Write the bundle of a release, its files being those of ``contents``, and return its path."""
    files = tuple(described_file(path, contents[path]) for path in sorted(contents))
    release = replace(release, files=files)
    by_digest = {file.sha256: contents[file.path] for file in files}
    folder.mkdir(exist_ok=True)
    return write_release(Draft(release=release, places=by_digest), folder, key)
