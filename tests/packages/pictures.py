"""A release whose models take the pictures of the golden vectors, for the tests of packages."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from described import described_file, described_model, described_release, written_release
from made import KEY

from edgedeploy.release.bundle import ReleaseTarget, Tensor
from tests.golden.preprocess.make import VECTORS

CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))
TARGETS = (
    ("android-arm64/ort", "android", "arm64"),
    ("ios16/ort", "ios", "arm64"),
    ("linux-x86-64/ort", "linux", "x86-64"),
    ("web/ort", "web", "wasm"),
)


def model_name(case: dict[str, Any]) -> str:
    """Return what a case's model is called, the same in every language but for capitals."""
    return f"case{CASES.index(case)}"


def input_of(case: dict[str, Any]) -> Tensor:
    """Return the input of a case's model; its width is open unless the case has fixed it."""
    image, shape = case["image"], list(case["shape"])
    along = 3 if image["layout"] == "nchw" else 2
    shape[along] = case["fixed_width"] or image["width"] or "W"
    return Tensor(name="x", dtype=case["dtype"], shape=tuple(shape), image={**image, "bake": []})


def written(folder: Path) -> Path:
    """Write a bundle with a model per case for every target."""
    contents = {"files/words.txt": b"ding"}
    targets = []
    for target, system, arch in TARGETS:
        models = []
        for case in CASES:
            entry = f"{target}/{model_name(case)}/model.ort"
            contents[entry] = b"no model"
            models.append(
                described_model(name=model_name(case), entry=entry, inputs=(input_of(case),))
            )
        targets.append(
            ReleaseTarget(
                target=target,
                os=system,
                arch=arch,
                os_version={"android": 24, "ios": 16}.get(system),
                runtime="ort",
                runtime_versions=">=1.17",
                compute_capabilities=(),
                models=tuple(models),
            )
        )
    release = described_release(targets=tuple(targets))
    release_files = tuple(described_file(path, data) for path, data in sorted(contents.items()))
    assert {file.path for file in release_files} == set(contents)
    return written_release(folder, release, contents, KEY)


def pixels_of(case: dict[str, Any]) -> bytes:
    """Return the pixels of a case's picture."""
    return base64.b64decode(case["picture"]["base64"])


def expected() -> dict[str, list[Any]]:
    """Return shape and digest of every case's tensor by its model."""
    return {model_name(case): [case["shape"], case["sha256"]] for case in CASES}
