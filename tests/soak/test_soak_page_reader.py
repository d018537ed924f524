"""The page reader on emulated arm64 devices of the lab, with Python and without."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.device import labway
from tests.device.labapp import APP, Application
from tests.lab.device import LabDevice, write_inventory
from tests.lab.lab import Lab

EXAMPLE = Path(__file__).parents[2] / "examples/page-reader"

pytestmark = pytest.mark.slow

Pair = tuple[LabDevice, LabDevice]


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Pair:
    """An arm64 device with Python and one without."""
    return labway.arm64_pair(lab)


@pytest.fixture(scope="module")
def app(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Application:
    """The example, for their board and on few pages; both devices can run its models."""
    folder = tmp_path_factory.mktemp("pages")
    inventory = write_inventory(folder, pair)
    made = Application(folder / "app", inventory, program="tests.device.shortly")
    made.folder.mkdir()
    for name in ("pages.py", "reading.py"):
        shutil.copy(EXAMPLE / name, made.folder / name)
    text = (EXAMPLE / "profile.yaml").read_text()
    for old, new in (
        ("name: page-reader", f"name: {APP}"),
        ("  - linux-x86-64/ort\n  - linux-x86-64/openvino\n", "  - linux-arm64/ort\n"),
        ("{pages: 16}", "{pages: 3}"),
        ("{pages: 32}", "{pages: 6}"),
        ("quantize: auto ", "quantize: {mode: auto, rounding: nearest} "),
    ):
        assert old in text
        text = text.replace(old, new)
    (made.folder / "app.yaml").write_text(text)
    made.build()
    labway.provision(made, pair)
    return made


@pytest.mark.parametrize("which", [0, 1], ids=["python", "minimal"])
def test_pages_are_read_there_as_well(app: Application, pair: Pair, which: int) -> None:
    """Two pages, both models on the device; what an emulator answers is marked as that."""
    words = [*app.on(pair[which]), "--parity", "2"]
    done = app.run("bench", *words, limit_s=labway.LIMIT_S)
    assert done.status == 0, done.said
    (target,) = done.document["build"]["pipeline"]["targets"]
    gates = {gate["gate"]: (gate["state"], gate["evidence"]) for gate in target["gates"]}
    assert gates == {
        "metric": ("passed", "host-runtime"),
        "metric_on_device": ("passed", "simulated"),
    }
    assert target["verdict"] == "accepted" and "asking detector samples" in done.said
