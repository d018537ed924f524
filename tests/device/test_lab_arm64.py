"""A model built here, put on an emulated arm64 device and run there by ONNX Runtime for aarch64.

What is right on this processor can be wrong on that one: an `.ort` file optimised for x86 does not
load, other kernels round otherwise. No time is asserted: it would be the emulator's.
"""

import json
from pathlib import Path

import pytest

from tests.device import labapp
from tests.device.labapp import Application, check_clean, depot
from tests.lab import capabilities
from tests.lab.device import LabDevice, write_inventory
from tests.lab.lab import Lab

pytestmark = pytest.mark.slow

PROFILE = f"""\
edgedeploy: 1
name: {labapp.APP}
model: {{source: model.onnx}}
data:
  calibrate: {{source: "data.py:samples", parameters: {{seed: 1}}}}
  evaluate: {{source: "data.py:samples", parameters: {{seed: 2}}}}
quantize: w8a8
gates: {{cosine: 0.98}}
targets: [linux-arm64/ort]
"""

DATA = """\
import numpy as np

def samples(seed):
    source = np.random.default_rng(seed)
    for _ in range(8):
        yield {"x": source.normal(size=(1, 3, 16, 16)).astype(np.float32)}
"""


@pytest.fixture(scope="module")
def device(lab: Lab) -> LabDevice:
    """An arm64 device whose Python has ONNX Runtime."""
    capabilities.require("arm64")
    return lab.device("arm64-python", runtime=True)


@pytest.fixture(scope="module")
def app(device: LabDevice, tmp_path_factory: pytest.TempPathFactory) -> Application:
    """A quantized network, built."""
    folder = tmp_path_factory.mktemp("arm64")
    made = Application(folder / "app", write_inventory(folder, [device]))
    made.folder.mkdir()
    labapp.write_model(made.folder / "model.onnx")
    (made.folder / "data.py").write_text(DATA)
    (made.folder / "app.yaml").write_text(PROFILE)
    made.build()
    return made


def active(device: LabDevice) -> Path:
    """Return the folder of the version that the device runs."""
    return depot(device) / (depot(device) / "current").readlink()


def test_it_is_active_once_it_answers_there_as_it_did_here(
    app: Application, device: LabDevice
) -> None:
    """`activate` runs the golden samples on the device before it confirms."""
    pushed = app.push(device)
    assert pushed.status == 0, pushed.said
    assert not (depot(device) / "current").is_symlink(), "a push activates nothing"
    done = app.run("activate", *app.on(device), limit_s=240)
    assert done.status == 0, done.said
    check_clean(device)
    manifest = json.loads((active(device) / "manifest.json").read_bytes())
    (model,) = manifest["models"]
    assert manifest["board"] == "linux-arm64" and model["golden"] is not None


def test_one_that_answers_otherwise_there_is_rolled_back(
    app: Application, device: LabDevice
) -> None:
    """A stand-in for the runtime answers nonsense on the device alone: the version before stays."""
    before = active(device)
    (app.folder / "app.yaml").write_text(PROFILE.replace("w8a8", "none"))
    app.build()
    assert app.push(device).status == 0
    package = "/usr/local/lib/python*/dist-packages/onnxruntime"
    spoil = (
        f"for p in {package}/capi/onnxruntime_inference_collection.py; do"
        " printf '\\n_run = InferenceSession.run\\n"
        "InferenceSession.run = lambda *a, **k: [-x for x in _run(*a, **k)]\\n' >> $p; done"
    )
    device.run_inside(["sh", "-c", spoil])
    done = app.run("activate", *app.on(device), limit_s=240)
    assert done.status == 1, done.said
    assert active(device) == before
    check_clean(device)
