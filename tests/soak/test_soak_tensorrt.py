"""The long form of the kills of builds of engines: hundreds, and links that only fall silent."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.device.engine_kills import KINDS, Kind, Target
from tests.lab.lab import Lab
from tests.lab.tensorrt.machines import MACHINES
from tests.lab.tensorrt.playing import lab_device

PARTS = 5
KILLS = 40
SILENCES = 4
SEED = 20261128


@pytest.mark.parametrize("part", range(PARTS))
def test_device_and_store_survive_kills_of_a_build(lab: Lab, tmp_path: Path, part: int) -> None:
    kinds: tuple[Kind, ...] = (*(KINDS * (KILLS // len(KINDS))), *(("silence",) * SILENCES))
    machine = MACHINES["orin-trt10.3"]
    device = lab_device(lab, machine, f"part-{part}")
    target = Target(device, machine, "jetson-orin-nano", tmp_path / "project", SEED + part)
    try:
        for kind in kinds:
            target.kill_one(kind)
    finally:
        target.close()
        print(f"\n{date.today()}: builds of engines, {dict(sorted(target.counts.items()))}")
