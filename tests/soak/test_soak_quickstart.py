"""The quickstart's model all the way to emulated arm64 devices, with Python and without.

Its text recogniser takes a second or more for one inference on an emulated processor.
"""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import yaml

from tests.device import labway
from tests.device.labapp import APP, Application
from tests.lab import capabilities
from tests.lab.device import write_inventory
from tests.lab.lab import Lab

ROOT = Path(__file__).parents[2]

SAMPLES = 2
"""Text lines that each device reads."""


def test_the_quickstart_on_arm64(tmp_path: Path) -> None:
    capabilities.require("lab")
    with Lab() as lab:
        pair = labway.arm64_pair(lab)
        app = Application(tmp_path / "app", write_inventory(tmp_path, pair))
        shutil.copytree(ROOT / "profiles", app.folder)
        profile = yaml.safe_load((app.folder / "quickstart.yaml").read_text())
        # As it is, but for another board, and by the name of the depot that the checks look into.
        profile |= {"name": APP, "targets": ["linux-arm64/ort"]}
        (app.folder / "app.yaml").write_text(yaml.safe_dump(profile, allow_unicode=True))
        built = app.run("build", limit_s=labway.LIMIT_S)
        assert built.status == 0, built.said
        labway.provision(app, pair)
        labway.stage(app, pair)
        labway.switch(app, pair)
        for device in pair:
            target = labway.bench(app, device, SAMPLES)
            gates = {gate["gate"]: gate["state"] for gate in target["gates"]}
            assert gates["metric_on_device"] == "passed"
            said = target["bench"]
            print(f"\n{date.today()}: quickstart on {device.name}, emulated: {said['runtime']}, ")
            print(f"{said['n']} inferences, {said['mean_ms']:.0f} ms; CER as here, {SAMPLES} lines")
