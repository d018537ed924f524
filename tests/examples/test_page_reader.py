"""The page reader: two models and a function from a picture to its text, here and on a device."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy import api
from edgedeploy.errors import ExitCode
from tests.device.bench_project import site_of
from tests.examples.test_examples import Example
from tests.lab.sshd import Sshd

pytestmark = pytest.mark.slow

SMALL = (
    "data.calibrate.parameters.pages=3",
    "data.evaluate.parameters.pages=6",
    "quantize={mode: auto, rounding: nearest}",  # second moments take half of the time
)
TARGET = "linux-x86-64/ort"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The example, built for one target on few pages."""
    made = Example("page-reader", tmp_path_factory.mktemp("examples"))
    options = [word for text in SMALL for word in ("--set", text)]
    made.python(
        "-m", "edgedeploy", "build", "profile.yaml", "--no-bench", "--store", "store",
        "-t", TARGET, *options,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    return made


def document(example: Example) -> dict[str, Any]:
    """Return what the last build found."""
    path = example.folder / "build/page-reader/build.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def distance(first: str, second: str) -> int:
    """Return the least number of edits between two texts, by the textbook's table."""
    table = np.zeros((len(first) + 1, len(second) + 1), int)
    table[:, 0], table[0] = range(len(first) + 1), range(len(second) + 1)
    for row, one in enumerate(first, 1):
        for column, other in enumerate(second, 1):
            above = min(table[row - 1, column], table[row, column - 1]) + 1
            table[row, column] = min(above, table[row - 1, column - 1] + (one != other))
    return int(table[-1, -1])


def test_both_models_on_integers_read_pages_as_well(example: Example) -> None:
    """Both are held together; at least 80 % of what each multiplies, it multiplies as integers."""
    found = document(example)
    (together,) = found["pipeline"]["targets"]
    assert together["verdict"] == "accepted"
    assert together["chosen"] == "detector w8a8, recogniser w8a8"
    assert found["pipeline"]["float"]["metric"]["value"] < 0.03
    assert together["evaluation"]["metric"]["value"] < 0.03
    for model in found["models"]:
        (target,) = model["targets"]
        arithmetic = target["arithmetic"]
        assert arithmetic["integer_macs"] >= 0.8 * arithmetic["macs"], model["name"]


def test_the_application_reads_what_the_build_says(example: Example) -> None:
    """From pictures to text with the same function: its page CER is the metric's."""
    example.python("pages.py", "pages", "6")
    pictures = sorted((example.folder / "pages").glob("*.png"))
    said = example.python("app.py", "build/page-reader", TARGET, *pictures)
    edits = letters = 0
    for picture in pictures:
        truth = picture.with_suffix(".txt").read_text(encoding="utf-8").rstrip("\n")
        prefix = f"{picture}: "
        lines = [line.removeprefix(prefix) for line in said.splitlines() if prefix in line]
        edits += distance(truth, "\n".join(lines))
        letters += len(truth)
    (together,) = document(example)["pipeline"]["targets"]
    assert edits / letters == pytest.approx(together["evaluation"]["metric"]["value"])


@pytest.fixture
def here(example: Example, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example's folder, and none of its modules left behind."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield example.folder


def test_a_device_reads_pages(here: Path, sshd: Sshd) -> None:
    """The models run there over SSH, the function here; the gate is judged by the device too."""
    device = sshd.device("reader-1", board="linux-x86-64", python=sys.executable)
    site = site_of(device, samples=3)
    request = api.Request(profile=here / "profile.yaml", sets=SMALL, targets=(TARGET,))
    options = api.BuildOptions(output=here / "build", store=here / "store", measure="known")
    try:
        result = api.build(request, options, sites=lambda plan: [site])
    finally:
        site.close()
    assert result.exit_code == ExitCode.DONE
    (together,) = result.combinations
    gates = {gate.gate: (gate.state, gate.evidence) for gate in together.gates}
    assert gates == {
        "metric": ("passed", "host-runtime"),
        "metric_on_device": ("passed", "device"),
    }


def test_a_page_is_tried_side_by_side(example: Example) -> None:
    """One picture of the evaluation, read by the float models and by the artifacts."""
    example.python("pages.py", "pages", "1")
    picture = example.folder / "pages/00.png"
    truth = picture.with_suffix(".txt").read_text(encoding="utf-8").rstrip("\n")
    request = api.Request(profile=example.folder / "profile.yaml", sets=SMALL, targets=(TARGET,))
    options = api.TryOptions(output=example.folder / "build", store=example.folder / "store")
    found = api.try_file(picture, request, options)
    assert found.exit_code == ExitCode.DONE
    assert [row.target for row in found.rows] == [None, TARGET]
    for row in found.rows:
        assert row.answer is not None
        (text,) = row.answer["value"]["text"]["texts"]
        assert distance(truth, text) <= 0.1 * len(truth)
