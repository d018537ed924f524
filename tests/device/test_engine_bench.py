"""Engines measured on a device of the lab over real SSH; a stand-in's trtexec makes the figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.device.test_tensorrt_device import ORIN, Project
from tests.lab import capabilities
from tests.lab.device import write_inventory
from tests.lab.lab import Lab
from tests.lab.tensorrt.playing import lab_device

pytestmark = pytest.mark.slow


def test_an_engine_is_measured_and_asked_where_it_was_built(lab: Lab, tmp_path: Path) -> None:
    """From the command line to the record: times of its trtexec, and nothing that it cannot tell.

    What it answers is made up, so that the gates of the device refuse it: exit status 1.
    """
    capabilities.require("cut")
    device = lab_device(lab, ORIN, "measured", build_s=0.1, run_s=0, infer_ms=100)
    project = Project(tmp_path / "project", "jetson-orin-nano")
    write_inventory(project.folder, [device], {"board": project.board})
    project.run("bench", "small.yaml", "-d", device.name, "--parity", "2", status=1)
    kept = (project.folder / "store/records").rglob("record.json")
    sessions = [json.loads(path.read_text()).get("artifacts", {}) for path in kept]
    found = [record for session in sessions for record in session.values()]
    assert [record["evidence"] for record in found] == ["simulated"]
    for record in found:
        assert record["device"]["runtime"]["kind"] == "trtexec"
        assert record["conditions"]["runtime_version"] == "10.3.0"
        assert record["latency"]["p50_ms"]["value"] == pytest.approx(105, rel=0.01)
        assert record["device_ms"]["compute_ms"] > record["device_ms"]["upload_ms"] > 0
        assert record["memory"]["peak_bytes"] is None
    assert "simulated" in (project.folder / "build/small/report.txt").read_text()
    assert not list((device.home / ".edgedeploy/.scratch").iterdir())
