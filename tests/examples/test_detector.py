"""The detector: from a picture to boxes, here and on a device, and a colour order that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy.parity.metrics import Case, Options, make_metric
from edgedeploy.profile.types import MetricSpec
from tests.examples.test_examples import ROOT, Example, value
from tests.lab.device import write_inventory
from tests.lab.lab import Lab

pytestmark = pytest.mark.slow

TARGET = "linux-x86-64/ort"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The example on few pictures, built."""
    made = Example("detector", tmp_path_factory.mktemp("examples"))
    made.python("train.py", "--calibrate", "4", "--evaluate", "24")
    made.build()
    return made


def test_the_application_finds_what_the_build_scored(example: Example) -> None:
    """Its boxes are worth what the build says; int8 loses at most a point and does 80 % of it."""
    (model,) = json.loads((example.folder / "build/detector/build.json").read_text())["models"]
    targets = {target["target"]: target for target in model["targets"]}
    truth = json.loads((example.folder / "truth.json").read_text())
    files = sorted((example.folder / "images/evaluate").iterdir())
    assert set(targets) == {TARGET, "rpi4/ort", "intel-cpu/openvino"}
    for name, target in targets.items():
        assert target["chosen"] == "w8a8" and target["evaluation"]["delta"]["value"] > -0.01
        arithmetic = target["arithmetic"]
        assert arithmetic["integer_macs"] >= 0.8 * arithmetic["macs"] > 0
        if name == "rpi4/ort":
            continue  # the same artifact as for x86-64
        answers = example.app(name, files, "--score", "0.001")
        assert average_precision(answers, truth) == pytest.approx(value(target), abs=2e-3)


def test_a_device_finds_the_same_boxes(example: Example, lab: Lab, tmp_path: Path) -> None:
    """A picture goes in, the model runs on a device of the lab, boxes come out."""
    device = lab.device("amd64-python", runtime=True)
    inventory = write_inventory(tmp_path, [device])
    picture = min((example.folder / "images/evaluate").iterdir())
    here = tried(example, picture)
    there = tried(example, picture, "--devices", str(inventory), "--no-input", "-d", device.name)
    assert there["evidence"] == "device" and here["evidence"] == "host-runtime"
    assert len(here["answer"]["value"]) >= 2
    assert there["answer"] == here["answer"]


def tried(example: Example, picture: Path, *words: str) -> dict[str, Any]:
    """Return what the artifact of one target answers to a picture."""
    said = example.python(
        *("-m", "edgedeploy", "try", picture, "profile.yaml", "-t", TARGET, "--json"),
        *("--store", "store", *words),
        env={"PYTHONPATH": str(ROOT)},
    )
    (found,) = [row for row in json.loads(said)["try"]["rows"] if row["target"] == TARGET]
    return found


def test_colours_in_the_wrong_order_end_the_build(example: Example) -> None:
    """The digits are coloured, and the model was trained with red first."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "edgedeploy", "build", "profile.yaml", "--no-bench"),
            *("-o", "swapped", "--store", "store", "-t", TARGET, "--set", "quantize=none"),
            *("--set", "model.inputs.images.image.colour=bgr"),
        ],
        cwd=example.folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    assert "E840" in done.stderr and "`colour: rgb`" in done.stderr


def average_precision(answers: dict[str, list[str]], truth: dict) -> float:
    """Return the mean average precision of an application's lines, by the metric."""
    spec = MetricSpec(name="map", parameters={"space": "original"})
    metric = make_metric(Options(spec=spec, default_output="boxes"))
    records = []
    for image in truth["images"]:
        rows = [line.split() for line in answers[image["file_name"]]]
        boxes = np.array([[*row[2:], row[1], row[0]] for row in rows], np.float64).reshape(-1, 6)
        real = [
            {"box": item["bbox"], "class": item["category_id"]}
            for item in truth["annotations"]
            if item["image_id"] == image["id"]
        ]
        records.append(metric.score(Case(id="", outputs={"boxes": boxes[None]}, truth=real)))
    return metric.value(records)
