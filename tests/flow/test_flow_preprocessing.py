"""A wrong declaration from the command line: nothing is built of it, and the message ends it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import inked
import pytest
from PIL import Image
from running import edgedeploy

pytestmark = pytest.mark.slow

PROFILE = """\
edgedeploy: 1
name: inked
model:
  task: classify
  source: model.onnx
  inputs:
    x:
      image:
        size: [8, 8]
        colour: bgr
        scale: 1/255
        mean: [0.485, 0.456, 0.406]
        std: [0.229, 0.224, 0.225]
  data:
    evaluate: {source: images, labels: labels.csv}
quantize: none
targets: [linux-x86-64/ort]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A classifier of digits in red ink, declared as if it took blue first."""
    inked.write_model(tmp_path / "model.onnx")
    (tmp_path / "images").mkdir()
    pixels, truth = inked.pictures()
    with open(tmp_path / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        for number in range(inked.EVALUATED):
            Image.fromarray(pixels[number]).save(tmp_path / "images" / f"{number:03}.png")
            writer.writerow([f"{number:03}.png", truth[number]])
    (tmp_path / "inked.yaml").write_text(PROFILE)
    return tmp_path


def test_swapped_colours_end_the_build_and_what_it_says_mends_it(project: Path) -> None:
    store = {"cwd": project, "EDGEDEPLOY_STORE": str(project / "store")}
    built = edgedeploy("build", "inked.yaml", "--no-bench", **store)
    assert built.code == 2 and "E840" in built.err
    kinds = {path.stem for path in (project / "store").glob("trees/*/*/*.json")}
    assert {"evaluation", "signature"} <= kinds and "arithmetic" not in kinds

    told = re.search(r"write `colour: (\w+)` under `image`", built.err)
    assert told is not None, built.err
    text = PROFILE.replace("colour: bgr", f"colour: {told[1]}")
    (project / "inked.yaml").write_text(text)
    built = edgedeploy("build", "inked.yaml", "--no-bench", **store)
    assert built.code == 0, built.err
    (kept,) = (project / "store").glob("trees/*/*/preprocessing.json")
    assert {item["what"] for item in json.loads(kept.read_text())} >= {"with `colour: bgr`"}

    # What is not checked is not what it was made of: everything else is still up to date.
    (project / "inked.yaml").write_text(
        text.replace("        size", "        checked: false\n        size")
    )
    plan = edgedeploy("plan", "inked.yaml", "--json", **store).document["stages"]
    assert {stage["why"] for stage in plan} == {"hit"}
    assert "preprocessing" not in {stage["kind"] for stage in plan}


def test_what_is_baked_is_checked_as_it_is_declared(project: Path) -> None:
    """Samples are pixels then, and the model that is asked takes prepared pictures."""
    baked = PROFILE.replace(
        "        size:", "        bake: [uint8, mean, colour, layout]\n        size:"
    )
    (project / "inked.yaml").write_text(baked)
    store = {"cwd": project, "EDGEDEPLOY_STORE": str(project / "store")}
    built = edgedeploy("build", "inked.yaml", "--no-bench", **store)
    assert built.code == 2 and "E840" in built.err
    (project / "inked.yaml").write_text(baked.replace("colour: bgr", "colour: rgb"))
    built = edgedeploy("build", "inked.yaml", "--no-bench", **store)
    assert built.code == 0, built.err
