"""What runs engines on a device: its Python, else its trtexec, else nothing and the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgedeploy.bench.job import OutputsJob
from edgedeploy.data.pack import PackReader
from edgedeploy.deploy.ondevice import make_onboard
from edgedeploy.devices import gpu_facts
from edgedeploy.devices.gpu_parse import survey_of
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.runtimes import find_runtime
from edgedeploy.errors import DeviceError
from tests.lab.tensorrt.machines import MACHINES, install
from tests.unit.bench.gpu_stand_in import FLOAT, artifact, model_of, pack_of
from tests.unit.devices.test_gpu_facts import JETPACK_5, JETPACK_6, TRTEXEC


@pytest.mark.parametrize(
    ("said", "kind", "version", "command"),
    [
        (JETPACK_6, "python", "10.3.0", "env ORT_DISABLE_TELEMETRY=1 /usr/bin/python3"),
        (JETPACK_5, "trtexec", "8.6.2", TRTEXEC),
    ],
)
def test_python_goes_before_trtexec(
    said: Mapping[str, str],
    kind: str,
    version: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_facts, "probe_gpu", lambda remote, _: survey_of(remote.name, said))
    found = find_runtime(LocalRemote("orin"), "~/base", "tensorrt")
    assert (found.kind, found.version, found.command) == (kind, version, command)
    assert found.provisioned is None and not found.simulated


def test_a_jetson_without_tensorrt_gets_it_from_jetpack(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"python-trt": "", "trtexec": "", "dpkg": "", "header": ""}
    said = {**JETPACK_6, **nothing}
    monkeypatch.setattr(gpu_facts, "probe_gpu", lambda remote, _: survey_of(remote.name, said))
    with pytest.raises(DeviceError) as error:
        find_runtime(LocalRemote("orin"), "~/base", "tensorrt")
    assert error.value.diagnostics[0].code == "E486"
    assert "part of JetPack" in (error.value.diagnostics[0].hint or "")


def test_tensorrt_for_rtx_is_installed_by_hand() -> None:
    """The module lacks here, as on a device: what is said is no verb that would fail."""
    with pytest.raises(DeviceError) as error:
        find_runtime(LocalRemote("box"), "~/base", "tensorrt-rtx", sys.executable)
    assert error.value.diagnostics[0].code == "E460"
    assert "pip install tensorrt-rtx-cu13" in (error.value.diagnostics[0].hint or "")


def test_from_the_probe_to_the_answers_of_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in that is found by the real probe runs an engine, and says that it is none."""
    from onnx import helper

    folder = install(MACHINES["orin-trt10.3"], tmp_path, str(tmp_path), run_s=0.01)
    monkeypatch.setenv("PATH", f"{folder}:{tmp_path / 'usr/bin'}:{os.environ['PATH']}")
    remote = LocalRemote("orin")
    runtime = find_runtime(remote, str(tmp_path), "tensorrt")
    assert (runtime.kind, runtime.simulated) == ("trtexec", True)
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = tmp_path / "m.onnx"
    model.write_bytes(model_of(nodes, [("x", FLOAT, [3])], [("y", FLOAT, [3])]))
    built = tmp_path / "built"
    words = [folder / "trtexec", f"--onnx={model}", f"--saveEngine={built}"]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    given = artifact(tmp_path / "v", built.read_bytes())
    goal = tmp_path / "goal"
    goal.mkdir()
    pack = pack_of(tmp_path / "pack", {"x": np.zeros(3, np.float32)})
    onboard = make_onboard(remote, runtime, str(tmp_path / "scratch"))
    onboard.outputs(given, OutputsJob(pack=pack, outputs=("y",)), goal)
    (made,) = (sample.tensors()["y"].tolist() for sample in PackReader(goal))
    assert made == [0, 1 / 16, 2 / 16]  # the stand-in's own rule
