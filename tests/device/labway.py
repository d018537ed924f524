"""The whole way of a model to devices of the lab, through the command line."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.deploy.compiler import build_runner
from edgedeploy.devices.platform import DevicePlatform
from edgedeploy.errors import ToolError
from tests.device.labapp import APP, Application, Done, check_clean, depot
from tests.lab import capabilities
from tests.lab.device import LabDevice
from tests.lab.lab import Lab

LIMIT_S = 1800.0
"""Against hanging: an emulated processor shared with others is slow."""


def arm64_pair(lab: Lab) -> tuple[LabDevice, LabDevice]:
    """Return an arm64 device with Python and one without; neither has a runtime."""
    capabilities.require("arm64")
    minimal = DevicePlatform(machine="aarch64", libc="glibc", libc_version=(2, 36), python=None)
    try:
        build_runner(minimal)
    except ToolError as error:
        pytest.skip(f"needs a C compiler: {error}")
    return lab.device("arm64-python"), lab.device("arm64-minimal")


def on_devices(app: Application, verb: str, devices: Sequence[LabDevice], *words: str) -> Done:
    """Run a verb of ``edgedeploy devices`` for some devices, all at once."""
    command = [sys.executable, "-m", "edgedeploy", "devices", verb, "--json", "-j", "2"]
    done = subprocess.run(
        [*command, *app.on(*devices), *words], capture_output=True, text=True, timeout=LIMIT_S
    )
    document = json.loads(done.stdout) if done.stdout.strip() else {}
    return Done(done.returncode, document, done.stderr + done.stdout, 0.0)


def active(device: LabDevice) -> Path | None:
    """Return the folder of the version that the device runs, None when it runs none."""
    current = depot(device) / "current"
    return depot(device) / current.readlink() if current.is_symlink() else None


def provision(app: Application, devices: Sequence[LabDevice]) -> None:
    """Put ONNX Runtime on devices: wheels where there is Python, else the native runner."""
    done = on_devices(app, "provision", devices)
    assert done.status == 0, done.said
    for device in devices:
        kind = "python" if device.facts.kind == "python" else "native"
        assert done.row(device)["details"]["kind"] == kind


def stage(app: Application, devices: Sequence[LabDevice]) -> None:
    """Push to devices; what they run stays what it was."""
    before = [active(device) for device in devices]
    done = app.push(*devices, limit_s=LIMIT_S)
    assert done.status == 0, done.said
    assert [active(device) for device in devices] == before


def bench(app: Application, device: LabDevice, samples: int) -> dict[str, Any]:
    """Measure on an emulated device; return what the report says of the target.

    What it answers is held against the float model's answers here, by the gates; its times are
    shown, marked as emulated, and judge nothing.
    """
    before = active(device)
    done = app.run("bench", *app.on(device), "--parity", str(samples), limit_s=LIMIT_S)
    assert done.status == 0, done.said
    (model,) = done.document["build"]["models"]
    target: dict[str, Any] = model["targets"][0]
    said = target["bench"]
    assert (said["device"], said["emulated"], said["cpu"]) == (
        device.name,
        "qemu-user",
        "Cortex-A72",
    )
    assert said["evidence"] == "simulated" and said["n"] > 0
    gates = {gate["gate"]: gate["state"] for gate in target["gates"]}
    assert gates["parity_on_device"] == "passed", gates
    assert not [name for name, state in gates.items() if state == "refused"]
    report = (app.folder / "build" / APP / "report.txt").read_text()
    assert f"on {device.name}" in report and "emulated: qemu-user" in report
    assert f"asking {target['chosen']} samples" in done.said
    assert active(device) == before, "a measurement activates nothing"
    return target


def switch(app: Application, devices: Sequence[LabDevice]) -> list[Path]:
    """Activate what was built, after its golden samples ran there; return the active versions."""
    done = app.run("activate", *app.on(*devices), limit_s=LIMIT_S)
    assert done.status == 0, done.said
    found = []
    for device in devices:
        check_clean(device)
        now = active(device)
        assert now is not None
        found.append(now)
        manifest = json.loads((now / "manifest.json").read_bytes())
        assert manifest["board"] == "linux-arm64"
        assert all(model["golden"] is not None for model in manifest["models"])
    return found


def back(app: Application, devices: Sequence[LabDevice]) -> None:
    """Go back to the version before, and check every depot whole."""
    done = app.run("rollback", *app.on(*devices), limit_s=LIMIT_S)
    assert done.status == 0, done.said
    checked = on_devices(app, "fsck", devices)
    assert checked.status == 0, checked.said
    for device in devices:
        check_clean(device)
