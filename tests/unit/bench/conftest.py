"""A tiny real model, and a fake sysfs and procfs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a MatMul and a Relu: input ``x`` float32 [4, 16]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"], name="mm"),
            helper.make_node("Relu", ["y"], ["z"], name="act"),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 16])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [4, 16])],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 17)]
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


class FakeMachine:
    """A sysfs and procfs tree that a test writes."""

    def __init__(self, root: Path) -> None:
        self.sysfs, self.procfs = root / "sys", root / "proc"

    def write(self, path: str, text: str | int) -> None:
        """Write one file, such as ``sys/class/thermal/thermal_zone0/temp``."""
        file = self.sysfs.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    """Return a cool board with two CPUs at full clock."""
    fake = FakeMachine(tmp_path / "machine")
    for cpu in range(2):
        where = f"sys/devices/system/cpu/cpu{cpu}/"
        fake.write(where + "cpufreq/scaling_cur_freq", 1_800_000)
        fake.write(where + "cpufreq/scaling_max_freq", 1_800_000)
        fake.write(where + "cpufreq/scaling_governor", "performance")
        fake.write(where + "thermal_throttle/core_throttle_count", 7)
    fake.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    fake.write("sys/class/thermal/thermal_zone0/temp", 51_000)
    fake.write("sys/class/thermal/cooling_device0/type", "pwm-fan")
    fake.write("sys/class/thermal/cooling_device0/cur_state", 2)
    fake.write("sys/class/thermal/cooling_device1/type", "cpufreq-cpu0")
    fake.write("sys/class/thermal/cooling_device1/cur_state", 0)
    fake.write("sys/devices/platform/soc/soc:firmware/get_throttled", "50000")
    fake.write("proc/loadavg", "0.10 0.05 0.01 1/93 6035")
    fake.write("proc/stat", "cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 1 2 3")
    return fake
