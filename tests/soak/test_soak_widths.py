"""A text recogniser at several widths, as buckets and as a range, on lines of all widths."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.device.labapp import Application

ROOT = Path(__file__).parents[2]
SIZES = (192, 320)

LINES = f"""
import numpy as np
import quickstart_lines

def _lines(lines, count):
    taken = dict.fromkeys({SIZES}, 0)
    for number, (inputs, text) in enumerate(lines):
        used = np.flatnonzero(inputs["x"][0].any(axis=(0, 1)))[-1] + 1
        size = next(size for size in {SIZES} if used <= size)
        if taken[size] < count:
            taken[size] += 1
            cut = np.ascontiguousarray(inputs["x"][..., :size])
            yield {{"x": cut}}, text, f"{{size}}-{{number}}"

def calibration():
    return _lines(quickstart_lines.calibration(), 16)

def evaluation():
    return _lines(quickstart_lines.evaluation(), 32)
"""


@pytest.mark.parametrize("width", [list(SIZES), "192..320/64"], ids=["buckets", "range"])
def test_a_recogniser_reads_lines_of_every_width(width: Any, tmp_path: Path) -> None:
    """CER of `auto` int8 stays within the gate's point at each, and all widths are evaluated."""
    app = Application(tmp_path / "app", tmp_path)
    shutil.copytree(ROOT / "profiles", app.folder)
    profile = yaml.safe_load((app.folder / "quickstart.yaml").read_text())
    profile["model"]["inputs"] = {"x": {"shape": [1, 3, 48, width]}}
    profile["model"]["data"] = {
        "calibrate": "lines.py:calibration",
        "evaluate": "lines.py:evaluation",
    }
    (app.folder / "lines.py").write_text(LINES)
    (app.folder / "app.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    built = app.run("build", "--no-bench", limit_s=1800)
    assert built.status == 0, built.said
    asked = 0
    for model in built.document["build"]["models"]:
        for target in model["targets"]:
            found = target["evaluation"]
            assert target["verdict"] == "accepted" and target["chosen"].startswith("w8a8")
            assert found["metric"]["value"] - found["float_value"] < 0.01
            asked += found["n"]
            print(model["name"], target["target"], target["chosen"], found["n"], end=" ")
            print(f"CER {found['float_value']:.4f} -> {found['metric']['value']:.4f}")
    assert asked == 2 * 32 * len(SIZES)
