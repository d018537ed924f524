"""Engines measured by trtexec: with a stand-in for it that takes a release's options alone.

What it exports is made up by a rule (``tests/lab/tensorrt``): the rule gives the known answers.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import statistics
import subprocess
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.backends.trt.trtexec import bench_command
from edgedeploy.bench import trtexec_result
from edgedeploy.bench.job import (
    BenchArtifact,
    BenchInputs,
    BenchJob,
    BenchPlan,
    GeneratedTensor,
    OutputsJob,
)
from edgedeploy.bench.record import build_record
from edgedeploy.bench.trtexec import TrtexecOnboard
from edgedeploy.bench.trtexec_run import _HELD
from edgedeploy.data.pack import PackReader
from edgedeploy.deploy.ondevice import make_onboard
from edgedeploy.devices.local import LocalRemote
from edgedeploy.errors import DeviceError
from edgedeploy.parity.gates import _memory
from edgedeploy.remote import DeviceRuntime
from tests.lab.tensorrt.machines import MACHINES, change, install
from tests.unit.bench.gpu_stand_in import FLOAT, INT64, model_of, pack_of

PLAN = BenchPlan(
    warmup_max_s=1, window_s=1, min_s=0.1, min_count=100, max_s=60, layer_runs=3, min_repetitions=2
)
RUNS = 40
"""Of each run of the stand-in."""

INFER_MS = 1.5


class Device:
    """A machine with a stand-in trtexec, in a folder."""

    def __init__(self, root: Path, name: str) -> None:
        self.machine, self.root = MACHINES[name], root
        self.program = install(self.machine, root, str(root), run_s=0.01) / "trtexec"
        self.runtime = DeviceRuntime(
            family="tensorrt",
            kind="trtexec",
            version=self.machine.release,
            command=str(self.program),
            provisioned=None,
            simulated=True,
        )

    def onboard(self, **fields: Any) -> TrtexecOnboard:
        runtime = replace(self.runtime, **fields)
        found = make_onboard(LocalRemote("orin"), runtime, str(self.root / "scratch"))
        assert isinstance(found, TrtexecOnboard)
        return found

    def engine(self, name: str, model: bytes, **shapes: str) -> BenchArtifact:
        """Return an engine that the stand-in builds."""
        folder = self.root / name
        folder.mkdir()
        (folder / "m.onnx").write_bytes(model)
        path = folder / "model.engine"
        said = [f"--{which}Shapes={shape}" for which, shape in shapes.items()]
        words = [self.program, f"--onnx={folder / 'm.onnx'}", f"--saveEngine={path}", *said]
        subprocess.run(words, check=True, capture_output=True, timeout=60)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / "engine.json").write_text(json.dumps({"sha256": found, "simulated": True}))
        return BenchArtifact(id=name, family="tensorrt", path=path, sha256=found)


@pytest.fixture(params=["orin-trt8.6", "orin-trt10.3", "server-trt11.1"])
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    """Return a device of every line of TensorRT."""
    return Device(tmp_path / "device", request.param)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """Return a Jetson."""
    return Device(tmp_path / "device", "orin-trt10.3")


def relu(dims: list[Any]) -> bytes:
    from onnx import helper

    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return model_of(nodes, [("x", FLOAT, dims)], [("y", FLOAT, dims)])


def pack(folder: Path, *shapes: tuple[int, ...]) -> Path:
    source = np.random.default_rng(1)
    return pack_of(folder, *({"x": source.normal(size=s).astype(np.float32)} for s in shapes))


def code(error: pytest.ExceptionInfo[DeviceError]) -> str:
    return error.value.diagnostics[0].code


def made_up_ms(copies: float = 0.03) -> list[float]:
    """Return the stand-in's times: computing by its rule, and 3 % for the copies."""
    computing = [
        INFER_MS * (1 + (n * 7 % 5) / 100 + (0.2 if n % 10 == 9 else 0)) for n in range(RUNS)
    ]
    return [ms + INFER_MS * copies for ms in computing]


def test_a_whole_measurement_has_the_times_that_trtexec_exports(
    device: Device, tmp_path: Path
) -> None:
    job = BenchJob(
        artifacts=(device.engine("float", relu([2, 3])), device.engine("fp16", relu([2, 3]))),
        inputs=BenchInputs(pack=pack(tmp_path / "pack", (2, 3), (2, 3))),
        baseline="float",
        evidence="device",
        plan=PLAN,
    )
    seen: list[Any] = []
    result = device.onboard().measure(job, on_progress=lambda event: seen.append(event["event"]))
    assert {"phase", "warm", "progress"} == set(seen)
    windows = [window["artifact"] for window in result["windows"]]
    assert sorted(windows) == ["float"] * 4 + ["fp16"] * 4
    assert windows[:4] == windows[3::-1]  # forward, then backward
    record = build_record(job, job.artifacts[1], result, "2026-01-01T00:00:00+00:00", tmp_path)
    assert record["evidence"] == "simulated"
    assert record["latency"]["n"] == 4 * RUNS
    assert record["latency"]["mean_ms"] == pytest.approx(statistics.mean(made_up_ms()), rel=1e-4)
    assert record["device_ms"] == pytest.approx(
        {
            "upload_ms": INFER_MS / 50,
            "compute_ms": statistics.mean(made_up_ms()) - 0.03 * INFER_MS,
            "download_ms": INFER_MS / 100,
        },
        rel=1e-4,
    )
    assert [layer["mean_ms"] for layer in record["layers"]] == [INFER_MS]
    assert record["conditions"]["clock"].startswith("events of the GPU")
    # What trtexec does not tell is not made up.
    assert record["load_ms"] == {"cold": None, "warm": 10.0}
    assert record["first_inference_ms"] is None and record["memory"]["peak_bytes"] is None
    assert _memory(1, {**record, "evidence": "device"}, False).state == "not_judged"
    assert record["energy"]["why_not"] == "beside trtexec no power is read"


def test_outputs_come_with_shape_and_type(each: Device, tmp_path: Path) -> None:
    """The stand-in writes 0, 1/16 ... 1, again and again, whatever it is fed."""
    artifact = each.engine("fp16", relu(["n", 3]), min="x:1x3", opt="x:2x3", max="x:4x3")
    goal = tmp_path / "goal"
    goal.mkdir()
    asked = OutputsJob(pack=pack(tmp_path / "pack", (2, 3), (4, 3)), outputs=("y",))
    times = each.onboard().outputs(artifact, asked, goal)
    made = [sample.tensors()["y"] for sample in PackReader(goal)]
    assert [(value.shape, value.dtype.name) for value in made] == [
        ((2, 3), "float32"),
        ((4, 3), "float32"),
    ]
    np.testing.assert_array_equal(made[1].reshape(-1), np.arange(12, dtype=np.float32) / 16)
    # The one of 11.1 leaves copies out, whatever it is told.
    last_ms = made_up_ms(0 if each.machine.number >= 110000 else 0.03)[RUNS - 1]
    assert times == (round(last_ms * 1e6),) * 2


def test_nothing_stays_on_the_device(device: Device, tmp_path: Path) -> None:
    artifact = device.engine("fp16", relu([2]))
    (tmp_path / "goal").mkdir()
    asked = OutputsJob(pack=pack(tmp_path / "pack", (2,)), outputs=("y",))
    device.onboard().outputs(artifact, asked, tmp_path / "goal")
    assert list((device.root / "scratch").iterdir()) == []


def refused(
    device: Device, artifact: BenchArtifact, where: Path, asked: OutputsJob, **fields: Any
) -> pytest.ExceptionInfo[DeviceError]:
    where.mkdir(exist_ok=True)
    with pytest.raises(DeviceError) as error:
        device.onboard(**fields).outputs(artifact, asked, where)
    assert list((device.root / "scratch").iterdir()) == []
    return error


def test_another_engine_than_the_jobs_is_never_given_to_trtexec(
    device: Device, tmp_path: Path
) -> None:
    """A trtexec that would be run leaves a file; it does not."""
    artifact = device.engine("fp16", relu([2]))
    artifact.path.write_bytes(artifact.path.read_bytes() + b"\n")
    ran = tmp_path / "ran"
    device.program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    asked = OutputsJob(pack=pack(tmp_path / "pack", (2,)), outputs=("y",))
    for one in (artifact, replace(artifact, sha256=None)):
        error = refused(device, one, tmp_path / "goal", asked)
        assert code(error) == "E493" and "was not loaded" in str(error.value)
    assert not ran.exists()


def test_a_stand_ins_engine_is_never_given_to_a_real_trtexec(
    device: Device, tmp_path: Path
) -> None:
    artifact = device.engine("fp16", relu([2]))
    asked = OutputsJob(pack=pack(tmp_path / "pack", (2,)), outputs=("y",))
    error = refused(device, artifact, tmp_path / "goal", asked, simulated=False)
    assert code(error) == "E493" and "made by a stand-in" in str(error.value)


def test_what_trtexec_says_of_an_engine_is_passed_on(device: Device, tmp_path: Path) -> None:
    artifact = device.engine("fp16", relu([2]))
    change(replace(device.machine, tag=11), device.root)
    asked = OutputsJob(pack=pack(tmp_path / "pack", (2,)), outputs=("y",))
    error = refused(device, artifact, tmp_path / "goal", asked)
    assert code(error) == "E495" and "Got invalid engine" in str(error.value)


def test_what_trtexec_cannot_do_is_said(tmp_path: Path) -> None:
    device = Device(tmp_path / "device", "orin-trt8.6")
    artifact = device.engine("fp16", relu([2]))
    large = pack_of(tmp_path / "large", {"x": np.array([2**31, 0])})
    asked = OutputsJob(pack=large, outputs=("y",))
    error = refused(device, artifact, tmp_path / "goal", asked)
    assert code(error) == "E495" and "a value that int32 has not" in str(error.value)
    state = replace(asked, state=(("h", "next"),))
    error = refused(device, artifact, tmp_path / "goal", state)
    assert code(error) == "E495" and "carries no state" in str(error.value)


def test_a_trtexec_that_is_gone(device: Device, tmp_path: Path) -> None:
    artifact = device.engine("fp16", relu([2]))
    device.program.unlink()
    asked = OutputsJob(pack=pack(tmp_path / "pack", (2,)), outputs=("y",))
    error = refused(device, artifact, tmp_path / "goal", asked)
    assert code(error) == "E475" and "JetPack" in (error.value.diagnostics[0].hint or "")


def test_a_run_that_hangs_ends_with_its_connection(device: Device, tmp_path: Path) -> None:
    """Nothing of it is left running, though it never writes to a closed pipe."""
    artifact = device.engine("fp16", relu([2]))
    pid = tmp_path / "pid"
    device.program.write_text(f"#!/bin/sh\necho $$ >{pid}\nexec sleep 600\n")
    asked = OutputsJob(pack=pack(tmp_path / "pack", (2,)), outputs=("y",), deadline_s=1.0)
    error = refused(device, artifact, tmp_path / "goal", asked)
    assert code(error) == "E472"
    gone = Path("/proc", pid.read_text().strip(), "cmdline")
    for _ in range(100):
        if not gone.exists() or not gone.read_bytes():
            return
        subprocess.run(["sleep", "0.1"], check=True)
    raise AssertionError("it still runs")


def test_trtexec_ends_when_its_input_does(tmp_path: Path) -> None:
    """A connection over SSH that is cut closes the input, and nothing else: that must do."""
    pid = tmp_path / "pid"
    hanging = f"sh -c {shlex.quote(f'echo $$ >{pid}; exec sleep 600')}"
    text = _HELD.format(folder=tmp_path, files="times.json", command=hanging)
    pipe = subprocess.PIPE
    with subprocess.Popen(["sh", "-c", text], stdin=pipe, stdout=pipe) as shell:
        for _ in range(200):
            if pid.exists() and pid.read_text().strip():
                break
            time.sleep(0.05)
        shell.stdin.close()  # type: ignore[union-attr]
        assert shell.wait(30) == 128 + 9
    assert not Path("/proc", pid.read_text().strip()).exists()


def test_int64_inputs_travel_as_the_engine_has_them(tmp_path: Path) -> None:
    """8.6 has int32 engines of int64 models; what trtexec reads is looked at."""
    from onnx import helper

    nodes = [helper.make_node("Identity", ["ids"], ["y"])]
    model = model_of(nodes, [("ids", INT64, [3])], [("y", INT64, [3])])
    for name, dtype in (("orin-trt8.6", "<i4"), ("orin-trt10.3", "<i8")):
        device = Device(tmp_path / name, name)
        artifact = device.engine("fp16", model)
        kept, real = tmp_path / f"{name}.raw", device.program.with_name("real")
        device.program.rename(real)
        device.program.write_text(
            "#!/bin/sh\nfor word; do case $word in --loadInputs=*) "
            f'cp "${{word##*:}}" {kept};; esac; done\nexec {real} "$@"\n'
        )
        device.program.chmod(0o755)
        given = pack_of(tmp_path / f"{name}.pack", {"ids": np.array([1, -2, 3])})
        goal = tmp_path / f"{name}.goal"
        goal.mkdir()
        asked = OutputsJob(pack=given, outputs=("y",), dtypes={"y": "float32"})
        device.onboard().outputs(artifact, asked, goal)
        assert np.frombuffer(kept.read_bytes(), dtype).tolist() == [1, -2, 3]


def test_generated_inputs_are_sent_as_well(device: Device, tmp_path: Path) -> None:
    zeros = (GeneratedTensor(name="x", dtype="float32", shape=(2,), low=0, high=0),)
    job = BenchJob(
        artifacts=(device.engine("fp16", relu([2])),),
        inputs=BenchInputs(generated=zeros),
        plan=replace(PLAN, layer_runs=0, min_count=10, min_s=0.01, min_repetitions=1),
    )
    result = device.onboard().measure(job)
    assert result["artifacts"][0]["layers"] == []


# -- what is read --------------------------------------------------------------------------------

EVENT = {
    "startH2dMs": 1.0,
    "endD2hMs": 4.0,
    "h2dMs": 0.5,
    "computeMs": 2.0,
    "d2hMs": 0.25,
    "latencyMs": 2.75,
}


def test_times_that_overlap_make_the_span_as_long_as_their_sum() -> None:
    found = trtexec_result.times(json.dumps([EVENT, EVENT]).encode())
    assert found.samples_ns == (2_750_000, 2_750_000)
    assert found.span_ns == 5_500_000  # though both lie within 3 ms


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"{}",
        b"[1]",
        b"[{}]",
        b'[{"latencyMs": NaN}]',
        json.dumps([{**EVENT, "latencyMs": -1}]).encode(),
        json.dumps([{**EVENT, "h2dMs": "0"}]).encode(),
        json.dumps([{**EVENT, "endD2hMs": 1e300}]).encode(),
        b"[" * 100_000,
    ],
)
def test_times_that_cannot_be(text: bytes) -> None:
    with pytest.raises(ValueError):
        trtexec_result.times(text)


def exported(values: str, dims: str = "2x2") -> bytes:
    """Return outputs in the form of sampleReporting.cpp."""
    name = '"name" : "nan:y"'
    return (
        f'[\n  {{ {name}\n  , "dimensions" : "{dims}"\n  , "values" : [ {values} ]\n  }}\n]\n'
    ).encode()


def test_floats_that_json_has_not_are_read() -> None:
    """A stream of C++ prints nan and inf; the name of a tensor is left alone."""
    text = exported("nan, -nan, inf, -inf")
    found = trtexec_result.outputs(text, {"nan:y": "float32"}, 1 << 20)["nan:y"]
    np.testing.assert_array_equal(
        found, np.array([[np.nan, np.nan], [np.inf, -np.inf]], np.float32)
    )


@given(st.lists(st.floats(-(2.0**90), 2.0**90), min_size=1, max_size=9))
def test_six_digits_come_through(values: list[float]) -> None:
    text = exported(", ".join(f"{value:g}" for value in values), str(len(values)))
    found = trtexec_result.outputs(text, {"nan:y": "float32"}, 1 << 20)["nan:y"]
    np.testing.assert_allclose(found, np.array(values, np.float32), rtol=5e-6, atol=1e-37)


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        (exported("1, 2, 3"), "float32"),  # one is missing
        (exported('1, 2, 3, "4"'), "float32"),
        (exported("1, 2, 3, 0.5"), "int64"),
        (exported("1, 2, 3, 256"), "uint8"),
        (exported("0, 1, 0, 2"), "bool"),
        (exported("1, 2, 3, 4", "4x"), "float32"),
        (exported("1", "1" + "x1" * 40), "float32"),
        (exported("", "999999999x999999999"), "float32"),
        (b"[]", "float32"),
    ],
)
def test_outputs_that_cannot_be(text: bytes, dtype: str) -> None:
    with pytest.raises(ValueError):
        trtexec_result.outputs(text, {"nan:y": dtype}, 1 << 20)


def test_outputs_are_limited() -> None:
    with pytest.raises(ValueError, match="too large"):
        trtexec_result.outputs(exported("1, 2, 3, 4"), {"nan:y": "float32"}, 15)


def test_settled_is_judged_as_the_loop_does() -> None:
    steady = [1000] * 50
    assert trtexec_result.settled(steady) == (True, [1000] * 5)
    assert not trtexec_result.settled([1000] * 40 + [1100] * 10)[0]
    assert not trtexec_result.settled([1000])[0]


def test_every_command_is_made_of_the_table_of_options() -> None:
    """The bench's own idea of a command is that of the backend: the names of arguments agree."""
    command = partial(
        bench_command,
        "10.3.0",
        {"options": {"version_compatible": False, "dla": None, "dla_fallback": False}},
    )
    words = command(
        engine="/e", shapes={"x": (2, 3)}, warm_up_ms=500, duration_s=3, iterations=4,
        spin_wait=True, inputs={"x": "/in"}, times="/t", outputs=None, layer_times=None,
    )  # fmt: skip
    assert "--shapes=x:2x3" in words and "--useSpinWait" in words and "--duration=3" in words
