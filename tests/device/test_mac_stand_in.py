"""`bench -d` and `push` for a Mac, the whole way: built, staged, run there, judged, reported.

The Mac is this machine with a stand-in for coremltools, written from its documentation, and facts
composed from Apple's manuals. No Mac ran any of this.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgedeploy.deploy import bench
from edgedeploy.devices.facts import DeviceFacts
from edgedeploy.devices.inventory import Device
from edgedeploy.errors import ExitCode
from tests.device import bench_project
from tests.device.bench_project import DATA, Project, gates, outcome, site_of
from tests.device.labapp import write_model

pytestmark = pytest.mark.slow

STAND_IN = Path(__file__).parents[1] / "stubs" / "mac"
PROFILE = """\
edgedeploy: 1
name: robot-eyes
models:
  eyes: {source: model.onnx, metric: agreement}
data:
  calibrate: {source: "data.py:samples", parameters: {seed: 1, count: 4}}
  evaluate: {source: "data.py:samples", parameters: {seed: 2, count: 8}}
gates: {metric: -30 pt, latency: {p50: 50 ms}}
bench: {compute_units: CPU_AND_NE}
targets: {macos14/coreml: {quantize: fp16}}
"""
MAC = DeviceFacts(
    system="darwin",
    distribution="macOS 14.5",
    arch="arm64",
    cpu="Apple M2",
    board="Mac14,2",
    soc="Apple M2",
    runtimes={"coremltools": "9.0"},
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("mac"))
    folder = project.profile.parent
    folder.mkdir()
    write_model(folder / "model.onnx")
    (folder / "data.py").write_text(DATA)
    project.profile.write_text(PROFILE)
    return project


@pytest.fixture
def mini(tmp_path: Path) -> Device:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={STAND_IN} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return Device(
        name="mini",
        kind="local",
        board="macos14",
        python=str(python),
        root=str(tmp_path / "depots"),
    )


def test_stand_in_mac_is_measured_asked_and_told(
    project: Project, mini: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "present_facts", lambda *_: MAC)
    monkeypatch.setattr(bench_project, "PLAN", replace(bench_project.PLAN, layer_runs=1))
    result = project.build(site_of(mini))
    assert not outcome(result).unmeasured, outcome(result).unmeasured
    found = gates(result)
    assert found["latency_p50"] == ("passed", "device")
    assert found["parity_on_device"] == ("passed", "device")
    assert found["metric_on_device"][1] == "device"
    assert found["metric"][1] == "interpreted", "what was computed here stays what it was"
    document = json.loads((project.build_folder / "robot-eyes/build.json").read_text())
    (target,) = document["models"][0]["targets"]
    assert target["layers"] == []
    assert target["units"]["units"] == "CPU_AND_NE"
    assert {item["preferred"] for item in target["units"]["operations"]} == {
        "CPU",
        "Neural Engine",
    }
    text = (project.build_folder / "robot-eyes/report.txt").read_text()
    assert "Neural Engine (" in text and "of the estimated cost" in text
    page = (project.build_folder / "robot-eyes/report.html").read_text()
    assert "which is no measurement" in page and "Time per layer" not in page


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"system": "linux"}, "E477"),
        ({"arch": "x86-64"}, "E477"),
        ({"distribution": "macOS 13.6"}, "E491"),
    ],
)
def test_what_is_no_such_mac_is_not_measured(
    facts: dict[str, str], code: str, project: Project, mini: Device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    other = DeviceFacts.from_json({**MAC.to_json(), **facts})
    monkeypatch.setattr(bench, "present_facts", lambda *_: other)
    result = project.build(site_of(mini))
    assert result.exit_code == ExitCode.DEVICE
    assert {item.code for item in outcome(result).unmeasured} == {code}
