"""The detector on an emulated arm64 device of the lab, which has Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device import labway
from tests.device.labapp import APP, Application
from tests.lab.device import LabDevice, write_inventory
from tests.lab.lab import Lab

EXAMPLE = Path(__file__).parents[2] / "examples/detector"

pytestmark = pytest.mark.slow

Pair = tuple[LabDevice, LabDevice]


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Pair:
    """An arm64 device with Python and one without."""
    return labway.arm64_pair(lab)


@pytest.fixture(scope="module")
def app(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Application:
    """The example, for their board and on few pictures; both devices can run its model."""
    folder = tmp_path_factory.mktemp("detector")
    inventory = write_inventory(folder, pair)
    made = Application(folder / "app", inventory, program="tests.device.shortly")
    made.folder.mkdir()
    for file in (*EXAMPLE.glob("*.py"), *EXAMPLE.glob("*.npz")):
        shutil.copy(file, made.folder / file.name)
    words = ("train.py", "--calibrate", "4", "--evaluate", "6")
    subprocess.run([sys.executable, *words], cwd=made.folder, check=True)
    text = (EXAMPLE / "profile.yaml").read_text()
    for old, new in (
        ("name: detector", f"name: {APP}"),
        ("  linux-x86-64/ort:\n  rpi4/ort:\n  intel-cpu/openvino:\n", "  linux-arm64/ort:\n"),
    ):
        assert old in text
        text = text.replace(old, new)
    (made.folder / "app.yaml").write_text(text)
    made.build()
    labway.provision(made, pair)
    return made


def test_digits_are_found_there_as_well(app: Application, pair: Pair) -> None:
    """Two pictures, the model on the device; what an emulator answers is marked as that."""
    words = [*app.on(pair[0]), "--parity", "2"]
    done = app.run("bench", *words, limit_s=labway.LIMIT_S)
    assert done.status == 0, done.said
    (model,) = done.document["build"]["models"]
    (target,) = model["targets"]
    gates = {gate["gate"]: (gate["state"], gate["evidence"]) for gate in target["gates"]}
    assert gates["metric"] == ("passed", "host-runtime")
    assert gates["metric_on_device"] == ("passed", "simulated")
    assert target["verdict"] == "accepted" and target["chosen"] == "w8a8"
