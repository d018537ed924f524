"""Releases with engines for several platforms; their engines are bytes that nothing loads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgedeploy.gpu import EngineNeeds, GpuPlatform
from edgedeploy.release.archive import write_archive
from edgedeploy.release.bundle import (
    Release,
    ReleaseEngine,
    ReleaseFile,
    ReleaseModel,
    ReleaseTarget,
    Role,
)
from tests.unit.release import made
from tests.unit.release.described import described_model, described_release

TARGET = "nvidia-l4/tensorrt"
L4 = GpuPlatform(
    system="linux",
    arch="x86-64",
    gpu="NVIDIA L4",
    compute_capability="8.9",
    tensorrt="10.14.1",
    driver="580.65.06",
)
OLDER = replace(L4, tensorrt="10.13.3", driver="570.172.08")
OTHER = replace(L4, driver="590.44.01")


def content(model: str, platform: GpuPlatform) -> bytes:
    """Return what lies in the file of an engine."""
    return f"engine of {model}, {platform.in_words()}, {platform.driver}".encode() * 20


def engine_of(name: str, platform: GpuPlatform) -> ReleaseEngine:
    """Return what a release says of an engine."""
    return ReleaseEngine(
        entry=f"{TARGET}/{name}/engines/{platform.id}/model.engine",
        artifact="e" * 64,
        size_bytes=len(content(name, platform)),
        needs=EngineNeeds.of(platform),
        platform=platform,
    )


def model_of(name: str, platforms: Sequence[GpuPlatform]) -> ReleaseModel:
    """Return a model with an engine for each platform."""
    found = (engine_of(name, platform) for platform in platforms)
    engines = tuple(sorted(found, key=lambda engine: engine.entry))
    one = engines[0].entry if len(engines) == 1 else f"{TARGET}/{name}/engines"
    return described_model(name=name, entry=one, candidate="fp16", engines=engines)


def contents_of(models: Mapping[str, Sequence[GpuPlatform]]) -> dict[str, tuple[bytes, Role]]:
    """Return the files of models, by path."""
    found: dict[str, tuple[bytes, Role]] = {"files/words.txt": (b"ding", "file")}
    for name, platforms in models.items():
        for platform in platforms:
            engine = engine_of(name, platform)
            found[engine.entry] = content(name, platform), "model"
            found[f"{engine.folder}/engine.json"] = b'{"way":"trtexec"}', "interface"
    return found


def release_of(models: Mapping[str, Sequence[GpuPlatform]]) -> Release:
    """Return a release of models for one target, by the platforms of their engines."""
    target = ReleaseTarget(
        target=TARGET,
        os="linux",
        arch="x86-64",
        os_version=None,
        runtime="tensorrt",
        runtime_versions=">=8.6",
        compute_capabilities=("8.9",),
        models=tuple(model_of(name, platforms) for name, platforms in models.items()),
    )
    files = contents_of(models)
    return described_release(
        targets=(target,),
        files=tuple(
            ReleaseFile(
                path=path,
                size=len(files[path][0]),
                sha256=hashlib.sha256(files[path][0]).hexdigest(),
                role=files[path][1],
            )
            for path in sorted(files)
        ),
    )


def write(folder: Path, models: Mapping[str, Sequence[GpuPlatform]]) -> Path:
    """Write the bundle, signed by the first key of ``made``."""
    release = release_of(models)
    contents = {path: held for path, (held, _) in contents_of(models).items()}
    goal = folder / release.file_name
    write_archive(goal, made.members(release, contents))
    return goal
