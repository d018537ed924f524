"""Measuring on a device that has too little memory for one of two models."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.device import labapp
from tests.device.labapp import Application, depot
from tests.lab import capabilities
from tests.lab.device import LabDevice, write_inventory
from tests.lab.lab import Lab

pytestmark = pytest.mark.slow

MEMORY_BYTES = 256 << 20
HUNGRY_BYTES = 320 << 20

PROFILE = f"""\
edgedeploy: 1
name: {labapp.APP}
models:
  hungry: {{source: hungry.onnx}}
  small: {{source: model.onnx}}
data:
  evaluate: {{source: "data.py:samples"}}
quantize: none
bench: quick
targets: [linux-x86-64/ort]
"""

DATA = """\
import numpy as np

def samples():
    yield {"x": np.ones((1, 3, 16, 16), np.float32)}
"""


def write_hungry(path: Path) -> None:
    """Write a model of a few bytes that needs more than the device has when it runs."""
    many = numpy_helper.from_array(np.array([HUNGRY_BYTES // (768 * 4), 1, 1, 1]), "many")
    graph = helper.make_graph(
        [
            helper.make_node("Tile", ["x", "many"], ["a"]),
            helper.make_node("Sin", ["a"], ["b"]),
            helper.make_node("ReduceMax", ["b"], ["y"], keepdims=0),
        ],
        "hungry",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        [many],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


@pytest.fixture
def device(lab: Lab) -> Iterator[LabDevice]:
    """A device with Python and ONNX Runtime, all of whose processes together have little memory."""
    group = Path(f"/sys/fs/cgroup/memory/edlab-{os.urandom(4).hex()}")
    made = lab.device("amd64-python", runtime=True)
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(MEMORY_BYTES))
        for pid in made.network.pids():
            with contextlib.suppress(ProcessLookupError):  # it ended while starting up
                (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        pytest.skip("needs a cgroup")
    yield made
    lab.remove(made)
    deadline = time.monotonic() + 10
    while group.exists() and time.monotonic() < deadline:
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)


def test_what_is_killed_for_memory_fails_alone(device: LabDevice, tmp_path: Path) -> None:
    """Row 29: that model says so, the other is measured, and what the device runs stays."""
    capabilities.require("lab")
    healthy = {
        "health": {"command": "true"}
    }  # the golden samples need the memory that is not there
    inventory = write_inventory(tmp_path, [device], healthy)
    app = Application(tmp_path / "app", inventory, program="tests.device.shortly")
    app.folder.mkdir()
    write_hungry(app.folder / "hungry.onnx")
    labapp.write_model(app.folder / "model.onnx")
    (app.folder / "data.py").write_text(DATA)
    (app.folder / "app.yaml").write_text(PROFILE)
    assert app.run("build", "--no-bench").status == 0
    assert app.push(device).status == 0
    activated = app.run("activate", *app.on(device), "--no-golden")
    assert activated.status == 0, activated.said
    before = (depot(device) / "current").readlink()
    done = app.run("bench", *app.on(device), "--parity", "0")
    assert done.status == 4, done.said
    found = {model["name"]: model["targets"][0] for model in done.document["build"]["models"]}
    assert "E470" in labapp.codes(found["hungry"]) and "out of memory" in done.said
    assert found["small"]["bench"]["device"] == device.name
    assert found["hungry"]["bench"] is None
    assert (depot(device) / "current").readlink() == before
    labapp.check_depot(device)
    assert not list((device.home / ".edgedeploy/.scratch").iterdir())
