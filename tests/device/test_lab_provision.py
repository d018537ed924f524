"""Runtimes put on devices of the lab, which reach no index: real wheels, with Python or not.

Those of arm64 devices are provisioned, and used, in ``test_lab_arm64.py``.
"""

from pathlib import Path

import numpy as np
import pytest

from edgedeploy.bench.job import BenchArtifact, BenchInputs, BenchJob, BenchPlan, OutputsJob
from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.deploy.fleet import Link
from edgedeploy.deploy.ondevice import make_onboard
from edgedeploy.deploy.provision import Wish, provision_device
from edgedeploy.devices.connect import connect
from edgedeploy.devices.inventory import load_inventory
from edgedeploy.devices.opening import open_depot
from edgedeploy.devices.runtimes import find_runtime
from edgedeploy.errors import DeviceError
from edgedeploy.remote import put_file
from tests.lab.device import write_inventory
from tests.lab.lab import Lab

PLAN = BenchPlan(warmup_max_s=1, window_s=0.02, min_s=0.2, min_count=16, max_s=60, layer_runs=1)

pytestmark = pytest.mark.slow


@pytest.fixture
def answers(tmp_path: Path) -> tuple[Path, Path, list[np.ndarray]]:
    """Return a model, inputs for it and what ONNX Runtime answers here."""
    import onnxruntime

    from tests.device import labapp

    model, pack = tmp_path / "model.onnx", tmp_path / "pack"
    labapp.write_model(model)
    pack.mkdir()
    source = np.random.default_rng(3)
    with PackWriter(pack) as writer:
        for number in range(3):
            x = source.normal(size=(1, 3, 16, 16)).astype(np.float32)
            writer.add(str(number), {"x": x})
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return model, pack, [session.run(None, item.tensors())[0] for item in PackReader(pack)]


@pytest.mark.parametrize("image", ["amd64-python", "amd64-minimal"])
def test_a_runtime_is_put_there_and_runs_models(
    lab: Lab, tmp_path: Path, answers: tuple[Path, Path, list[np.ndarray]], image: str
) -> None:
    """What it answers is what this machine answers; a second time there is nothing to do."""
    made = lab.device(image)
    try:
        inventory = load_inventory(write_inventory(tmp_path, [made]), tmp_path)
        (device,) = inventory.select([made.name])
        link = Link(made.name, lambda: connect(device))
        with pytest.raises(DeviceError) as error:
            find_runtime(link.remote, device.root, "ort")
        assert error.value.diagnostics[0].code == "E460"
        answer = provision_device(link, device, Wish(family="ort"), opener=open_depot)
        kind = image.partition("-")[2].replace("minimal", "native")
        assert (answer.already, answer.details["kind"]) == (False, kind)
        again = provision_device(link, device, Wish(family="ort"), opener=open_depot)
        assert (again.already, again.details["sent_bytes"]) == (True, 0)
        _runs(link, device.root, tmp_path, answers)
        link.close()
    finally:
        lab.remove(made)


def _runs(link: Link, root: str, here: Path, answers: tuple[Path, Path, list[np.ndarray]]) -> None:
    model, pack, wanted = answers
    remote, goal = link.remote, here / "goal"
    goal.mkdir()
    put_file(remote, model, "/home/edge/model.onnx")
    artifact = BenchArtifact(id="small", family="ort", path=Path("/home/edge/model.onnx"))
    onboard = make_onboard(remote, find_runtime(remote, root, "ort"), f"{root}/.scratch")
    onboard.outputs(artifact, OutputsJob(pack=pack, outputs=("y",)), goal)
    for sample, known in zip(PackReader(goal), wanted, strict=True):
        np.testing.assert_allclose(sample.tensors()["y"], known, rtol=1e-5, atol=1e-6)
    job = BenchJob(
        artifacts=(artifact,), inputs=BenchInputs(pack=pack), evidence="device", plan=PLAN
    )
    result = onboard.measure(job)
    assert result["ended"] == "complete" and result["artifacts"][0]["layers"]
    left = remote.run("ls -A ~; ls -A ~/.edgedeploy ~/.edgedeploy/.scratch; ls -A /tmp").stdout
    assert b".ses" not in left and b"run-" not in left and b".onnxruntime" not in left
