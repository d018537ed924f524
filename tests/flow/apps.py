"""Two real profiles as app teams would release them: the quickstart's, and one for photos.

The quickstart is the profile that ships, with targets for phones and browsers besides its own. The
other finds lines of text that stand on their heads: trained weights, pictures that are prepared as
the profile says, two classes, pixels and classes of Core ML.
"""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFont
from running import ROOT, edgedeploy
from zoo import MODELS

from edgedeploy import api
from edgedeploy.data.pack import PackReader

CLASSES = ("upright", "upside down")
QUICKSTART = "linux-x86-64/ort, linux-x86-64/openvino, android-arm64/ort, ios17/ort, web/ort"
"""Targets of the quickstart's release: its own, and what the packages for apps need."""

# Fewer lines, and float, which needs no calibration: neither is the matter here.
SETS = (
    f"targets=[{QUICKSTART}]",
    "model.data={evaluate: {source: quickstart_lines.py:evaluation, samples: 2}}",
    "quantize=none",
)


@dataclass(frozen=True, kw_only=True)
class App:
    """A release, and what was made of it by the same command.

    Attributes:
        name: Of the release; also of modules, packages and namespaces.
        output: Name of the model's output in the graph.
        folder: Where the bundle lies.
        packages: What a user takes of each format.
        key: File of the public key.
    """

    name: str
    output: str
    folder: Path
    packages: dict[str, list[Path]]
    key: Path

    @cached_property
    def release(self) -> Path:
        """The folder that the bundle was extracted into, once it was verified."""
        goal = self.folder / "release"
        state = self.folder / "state/releases.json"
        api.verify(
            self.folder / f"{self.name}-1.0.0.edpkg",
            api.VerifyOptions(keys=(self.key,), state=state, extract=goal),
        )
        return goal

    def golden(self, target: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the first golden input of a target, and what its artifact answered in the build.

        Args:
            target: Such as ``web/ort``.
        """
        place = self.release / target / "golden/main"
        given, answered = (next(iter(PackReader(place / kind))) for kind in ("inputs", "outputs"))
        return given.tensors()["x"], answered.tensors()[self.output]

    def check(self, target: str, found: Any) -> None:
        """Hold what a package answered to the golden input against what the build answered."""
        _, wanted = self.golden(target)
        found = np.asarray(found, np.float32).reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5, err_msg=target)


def quickstart(folder: Path, key: Path, formats: str) -> App:
    """Build and release the profile that ships.

    Args:
        folder: For all of it.
        key: File of the private key.
        formats: Of the packages, separated by commas.
    """
    sets = [word for text in SETS for word in ("--set", text)]
    profile = ROOT / "profiles/quickstart.yaml"
    return _released("quickstart", "softmax_11.tmp_0", profile, sets, folder, key, formats)


def direction(folder: Path, key: Path, formats: str) -> App:
    """Build and release the profile for pictures; as :func:`quickstart`."""
    project = folder / "project"
    project.mkdir(parents=True)
    (project / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    _write_lines(project)
    picture = {"size": [48, 192], "fit": "pad", "colour": "bgr", "scale": "1/255"}
    said = {
        "edgedeploy": 1,
        "name": "direction",
        "version": "1.0.0",
        "model": {
            "source": MODELS["cls"]["source"],
            "licence": "Apache-2.0",
            "classes": "classes.txt",
            "inputs": {
                "x": {"shape": [1, 3, 48, 192], "image": {**picture, "mean": 0.5, "std": 0.5}}
            },
            "data": {"evaluate": {"source": "lines", "labels": "lines.csv"}},
            "metric": "top1",
        },
        "quantize": "none",
        "gates": {"metric": "-1 pt", "size": "1 MB"},
        "targets": {
            "linux-x86-64/ort": {},
            "android-arm64/ort": {},
            "ios17/coreml": {"options": {"images": True, "classifier": True}},
            "web/ort": {},
        },
    }
    profile = project / "direction.yaml"
    profile.write_text(yaml.safe_dump(said, sort_keys=False))
    output = "save_infer_model/scale_0.tmp_1"
    return _released("direction", output, profile, [], folder, key, formats)


def _write_lines(project: Path) -> None:
    """Write pictures of lines, every second one turned, and which is which."""
    source = random.Random(7)
    (project / "lines").mkdir()
    with open(project / "lines.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label"])
        for number in range(8):
            picture = Image.new("RGB", (192, 48), (240, 240, 230))
            text = f"Parcel {source.randint(100, 999)} by Friday"
            font = ImageFont.load_default(size=22)
            ImageDraw.Draw(picture).text((6, 10), text, (20, 20, 60), font=font)
            turned = number % 2
            picture.rotate(180 * turned).save(project / f"lines/{number}.png")
            rows.writerow([f"{number}.png", turned])


def _released(
    name: str,
    output: str,
    profile: Path,
    sets: list[str],
    folder: Path,
    key: Path,
    formats: str,
) -> App:
    out = folder / "out"
    words = [profile, "-o", out, "--store", folder / "store", *sets]
    built = edgedeploy("build", *words, "--no-bench", cwd=folder)
    assert built.code == 0, built.err
    done = edgedeploy("release", *words, "--key", key, "--format", formats, "--json", cwd=folder)
    assert done.code == 0, done.err
    written = done.document["release"]["packages"]
    return App(
        name=name,
        output=output,
        folder=out / name,
        packages={item["format"]: [Path(path) for path in item["paths"]] for item in written},
        key=key.with_name(f"{key.name}.pub"),
    )
