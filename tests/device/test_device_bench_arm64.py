"""Measuring on another processor: an arm64 device of the lab, which is emulated and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedeploy.devices.inventory import load_inventory
from edgedeploy.errors import ExitCode
from tests.device.bench_project import Project, gates, outcome, site_of, write_project
from tests.lab import capabilities
from tests.lab.device import write_inventory
from tests.lab.lab import Lab

pytestmark = pytest.mark.slow


def test_an_arm64_device_answers_alike_and_its_times_prove_nothing(
    lab: Lab, tmp_path: Path
) -> None:
    """The real aarch64 ONNX Runtime computes; only the processor is none."""
    capabilities.require("arm64")
    write_project(tmp_path / "project", "arm64")
    project = Project(tmp_path).only("eyes")
    device = lab.device("arm64-python", runtime=True)
    write_inventory(tmp_path, [device], {"board": "robot"})
    (unit,) = load_inventory(tmp_path / "devices.yaml", tmp_path).select([device.name])

    result = project.build(site_of(unit))
    assert result.exit_code == ExitCode.DONE, outcome(result).unmeasured
    found = gates(result)
    assert found["latency_p50"] == ("not_judged", "simulated")
    assert found["parity_on_device"] == ("passed", "simulated")
    assert found["metric_on_device"] == ("passed", "simulated")
    record = outcome(result).records["w8a8"]
    assert record["device"]["machine"] == "aarch64" and "qemu" in record["device"]["emulated"]
    report = (project.build_folder / "robot-eyes/report.txt").read_text()
    assert "emulated: qemu" in report and f"on {device.name}" in report
