"""Artifacts run on a device: real runs through a shell, and devices that die, hang and lie."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy.bench.job import (
    BenchArtifact,
    BenchInputs,
    BenchJob,
    BenchPlan,
    GeneratedTensor,
    OutputsJob,
)
from edgedeploy.bench.onboard import PythonOnboard, _event
from edgedeploy.bench.record import build_record
from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.devices.local import LocalRemote
from edgedeploy.errors import DeviceError
from edgedeploy.remote import DeviceRuntime

PLAN = BenchPlan(warmup_max_s=0.2, window_s=0.005, min_s=0.05, min_count=64, max_s=30, layer_runs=2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder of runs on the device."""
    return tmp_path / "device" / ".scratch"


def onboard(root: Path, command: str = shlex.quote(sys.executable)) -> PythonOnboard:
    runtime = DeviceRuntime(
        family="ort", kind="python", version="1.32.0", command=command, provisioned=None
    )
    return PythonOnboard(LocalRemote("robot"), runtime, str(root))


def artifact(model: Path, name: str = "w8a8") -> BenchArtifact:
    return BenchArtifact(id=name, family="ort", path=model)


def pack_of(folder: Path, count: int = 3) -> Path:
    source = np.random.default_rng(5)
    folder.mkdir()
    with PackWriter(folder) as writer:
        for number in range(count):
            x = source.normal(size=(4, 16)).astype(np.float32)
            writer.add(f"secret-{number}.png", {"x": x}, truth={"label": "cat"})
    return folder


def job_of(model: Path, pack: Path) -> BenchJob:
    return BenchJob(
        artifacts=(artifact(model, "float"), artifact(model)),
        inputs=BenchInputs(pack=pack, samples=2),
        baseline="float",
        plan=PLAN,
    )


def code(error: pytest.ExceptionInfo[DeviceError]) -> str:
    return error.value.diagnostics[0].code


def test_a_whole_measurement_makes_records(tiny_model: Path, root: Path, tmp_path: Path) -> None:
    job, seen = job_of(tiny_model, pack_of(tmp_path / "pack")), []
    result = onboard(root).measure(job, on_progress=lambda event: seen.append(event["event"]))
    assert {"phase", "warm", "progress"} == set(seen)
    record = build_record(job, job.artifacts[1], result, "2026-01-01T00:00:00+00:00", tmp_path)
    assert record["latency"]["n"] >= 64 and record["comparison"]["with"] == "float"
    assert record["memory"]["peak_bytes"] > record["memory"]["baseline_bytes"] > 0
    assert [layer["op"] for layer in record["layers"]] == ["MatMul", "Relu"]
    assert not list(root.iterdir())


def test_outputs_are_those_of_the_model(tiny_model: Path, root: Path, tmp_path: Path) -> None:
    """The known answer is the model's own formula, in float64."""
    import onnx
    from onnx import numpy_helper

    pack, goal = pack_of(tmp_path / "pack"), tmp_path / "goal"
    goal.mkdir()
    job = OutputsJob(pack=pack, outputs=("z",))
    times = onboard(root).outputs(artifact(tiny_model), job, goal)
    weights = numpy_helper.to_array(onnx.load(tiny_model).graph.initializer[0]).astype(np.float64)
    assert len(times) == 3 and min(times) > 0
    for asked, answered in zip(PackReader(pack), PackReader(goal), strict=True):
        assert asked.id == answered.id
        wanted = np.maximum(asked.tensors()["x"].astype(np.float64) @ weights, 0)
        np.testing.assert_allclose(answered.tensors()["z"], wanted, rtol=1e-5, atol=1e-5)
    assert not list(root.iterdir())


def test_state_is_carried_along_sequences(root: Path, tmp_path: Path) -> None:
    """A running sum starts anew where the sequence changes."""
    import onnx
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])

    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "s"], ["t"])], "sum", [value("x"), value("s")], [value("t")]
    )
    model = tmp_path / "sum.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model
    )
    pack, goal = tmp_path / "pack", tmp_path / "goal"
    pack.mkdir()
    goal.mkdir()
    with PackWriter(pack) as writer:
        for number, name in enumerate(["a", "a", "b", "b", "b"], start=1):
            writer.add(str(number), {"x": np.array([number], np.float32)}, sequence=name)
    job = OutputsJob(
        pack=pack,
        outputs=("t",),
        state=(("s", "t"),),
        zeros=(GeneratedTensor(name="s", dtype="float32", shape=(1,), high=0),),
    )
    onboard(root).outputs(artifact(model), job, goal)
    assert [float(item.tensors()["t"][0]) for item in PackReader(goal)] == [1, 3, 3, 7, 12]


def test_names_and_truth_stay_on_the_host(tiny_model: Path, root: Path, tmp_path: Path) -> None:
    """All that reaches the device is kept by a runtime that copies its folder and fails."""
    kept = tmp_path / "kept"
    spy = f"sh -c 'cp -r . {kept}; exit 9' -"
    with pytest.raises(DeviceError) as error:
        onboard(root, spy).measure(job_of(tiny_model, pack_of(tmp_path / "pack")))
    assert code(error) == "E473" and "status 9" in str(error.value)
    sent = b"".join(
        gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        for file in kept.iterdir()
        if file.suffix != ".py"
    )
    assert len(json.loads((kept / "index.json").read_text())["samples"]) == 2
    assert b"secret" not in sent and b"cat" not in sent


@pytest.mark.parametrize(
    ("command", "wanted", "said"),
    [
        ("/no/such/python3", "E475", "devices provision"),
        ("sh -c 'kill -9 $$' -", "E470", "out of memory"),
        ("sh -c 'kill -ILL $$' -", "E470", "SIGILL"),
        ("sh -c 'echo no room >&2; exit 1' -", "E473", "no room"),
        ("sh -c 'yes $(printf %01000d 0) | head -c 20000000 >&2' -", "E474", "without end"),
        (f"{shlex.quote(sys.executable)} -S -I", "E475", "onnxruntime"),
    ],
)
def test_a_run_that_fails_is_told_by_its_kind(
    tiny_model: Path, root: Path, tmp_path: Path, command: str, wanted: str, said: str
) -> None:
    with pytest.raises(DeviceError) as error:
        onboard(root, command).measure(job_of(tiny_model, pack_of(tmp_path / "pack")))
    item = error.value.diagnostics[0]
    assert item.code == wanted and said in item.message + str(item.hint)
    assert "robot" in item.message and "float" in item.message
    assert not error.value.retryable
    assert not list(root.iterdir())


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """Return a control group of 64 MiB and no swap: whatever needs more in it is killed."""
    group = Path(f"/sys/fs/cgroup/memory/edbench-{os.urandom(4).hex()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(64 << 20))
    except OSError:
        pytest.skip("needs a cgroup")
    yield group
    for _ in range(50):
        try:
            group.rmdir()
            return
        except OSError:
            time.sleep(0.1)


def test_out_of_memory_fails_this_run_alone(
    tiny_model: Path, root: Path, tmp_path: Path, small_memory: Path
) -> None:
    """The kernel kills what loads the model; a model that needs less is measured right after."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "onnxruntime.py").write_text("hoard = [b'x' * (1 << 20) for _ in range(4096)]\n")
    python = shlex.quote(sys.executable)
    greedy = f"PYTHONPATH={package} {python}"
    inside = f"sh -c 'echo $$ > {small_memory}/cgroup.procs; exec env {greedy} \"$@\"' -"
    job = job_of(tiny_model, pack_of(tmp_path / "pack"))
    with pytest.raises(DeviceError) as error:
        onboard(root, inside).measure(job)
    assert code(error) == "E470" and "out of memory" in str(error.value)
    assert not list(root.iterdir())
    assert onboard(root).measure(job)["ended"] == "complete"


def test_an_artifact_that_the_runtime_refuses(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.ort"
    broken.write_bytes(b"no model")
    with pytest.raises(DeviceError) as error:
        onboard(root).measure(job_of(broken, pack_of(tmp_path / "pack")))
    assert code(error) == "E471" and "robot: float" in str(error.value)


def test_a_run_that_hangs_is_ended_with_its_children(
    tiny_model: Path, root: Path, tmp_path: Path
) -> None:
    """The runtime hangs in a child, deaf to signals; nothing of it is left."""
    package = tmp_path / "package"
    package.mkdir()
    pid = tmp_path / "pid"
    (package / "onnxruntime.py").write_text(
        f"import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\n"
        f"open({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    command = f"PYTHONPATH={shlex.quote(str(package))} {shlex.quote(sys.executable)}"
    start = time.monotonic()
    with pytest.raises(DeviceError) as error:
        onboard(root, command).measure(job_of(tiny_model, pack_of(tmp_path / "pack")), deadline_s=3)
    assert code(error) == "E472" and time.monotonic() - start < 30
    for _ in range(100):
        if not Path(f"/proc/{pid.read_text()}").exists():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the hanging child still runs")


def test_a_device_without_room(tiny_model: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DeviceError) as error:
        onboard(blocked / "x").measure(job_of(tiny_model, pack_of(tmp_path / "pack")))
    assert code(error) == "E476"


def test_what_a_broken_connection_left_is_removed_after_a_day(
    tiny_model: Path, root: Path, tmp_path: Path
) -> None:
    old, young, foreign = root / "run-old", root / "run-young", root / "other"
    for folder in (old, young, foreign):
        folder.mkdir(parents=True)
    for folder in (old, foreign):
        os.utime(folder, (time.time() - 3 * 86400,) * 2)
    with pytest.raises(DeviceError):
        onboard(root, "false").measure(job_of(tiny_model, pack_of(tmp_path / "pack")))
    assert sorted(path.name for path in root.iterdir()) == ["other", "run-young"]


def liar(tmp_path: Path, files: dict[str, bytes]) -> str:
    """Return a runtime that leaves these files in its folder."""
    lies = tmp_path / "lies"
    lies.mkdir()
    for name, content in files.items():
        (lies / name).write_bytes(content)
    return f"sh -c 'cp {lies}/* .' -"


def true_result(tiny_model: Path, root: Path, pack: Path) -> dict[str, Any]:
    result = onboard(root).measure(job_of(tiny_model, pack))
    return json.loads(json.dumps(result))


def _nan(result: Any) -> None:
    result["before"]["load1"] = float("nan")


LIES: dict[str, Callable[[Any], object]] = {
    "no windows": lambda result: result.update(windows=[]),
    "another artifact": lambda result: result["windows"][0].update(artifact="other"),
    "text for a duration": lambda result: result["windows"][0].update(samples_ns=["1"]),
    "a negative duration": lambda result: result["windows"][0]["samples_ns"].append(-5),
    "true for a duration": lambda result: result["windows"][0]["samples_ns"].append(True),
    "more time than passed": lambda result: result["windows"][0]["samples_ns"].append(10**12),
    "clocks that do not fit": lambda result: result["before"]["khz"].append(1),
    "seven ticks": lambda result: result["before"].update(ticks=[1] * 7),
    "counters that come and go": lambda result: result["before"]["throttle_counts"].append(1),
    "no memory": lambda result: result["artifacts"][0]["warm"].update(peak_bytes="much"),
    "no layers": lambda result: result["artifacts"][1].update(layers={"a": 1}),
    "no power": lambda result: result.update(power=None),
    "not a number": _nan,
    "one artifact only": lambda result: result["artifacts"].pop(),
    "a failure that is none": lambda result: result.update(failed=3),
}


@pytest.fixture(scope="module")
def honest(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("honest")
    return json.dumps(true_result(tiny_model, folder / "runs", pack_of(folder / "pack")))


@pytest.mark.parametrize("lie", sorted(LIES))
def test_a_result_that_cannot_be_is_refused(
    tiny_model: Path, root: Path, tmp_path: Path, honest: str, lie: str
) -> None:
    result = json.loads(honest)
    LIES[lie](result)
    command = liar(tmp_path, {"result.json.gz": gzip.compress(json.dumps(result).encode())})
    with pytest.raises(DeviceError) as error:
        onboard(root, command).measure(job_of(tiny_model, pack_of(tmp_path / "pack")))
    assert code(error) == "E474"
    assert not list(root.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x1f\x8b cut",
        gzip.compress(b"[" * 200_000),
        gzip.compress(b'{"loop": 1e999999, '),
        gzip.compress(b"[1" + b"0" * 10_000 + b"]"),
        gzip.compress(b"null"),
        gzip.compress(b"0" * (300 << 20), 9),
    ],
    ids=["empty", "cut", "deep", "cut JSON", "long number", "null", "a bomb"],
)
def test_a_result_that_is_none_is_refused(
    tiny_model: Path, root: Path, tmp_path: Path, content: bytes
) -> None:
    command = liar(tmp_path, {"result.json.gz": content})
    with pytest.raises(DeviceError) as error:
        onboard(root, command).measure(job_of(tiny_model, pack_of(tmp_path / "pack")))
    assert code(error) == "E474"


def test_an_honest_result_in_the_liars_way_is_taken(
    tiny_model: Path, root: Path, tmp_path: Path, honest: str
) -> None:
    """So the refusals above are of the lies."""
    command = liar(tmp_path, {"result.json.gz": gzip.compress(honest.encode())})
    job = job_of(tiny_model, pack_of(tmp_path / "pack"))
    assert onboard(root, command).measure(job) == json.loads(honest)


def answers(**about: Any) -> dict[str, Any]:
    entry = {"dtype": "float32", "shape": [2], "offset": 0, "nbytes": 8, **about}
    return {"pack": 1, "samples": [{"tensors": {"z": entry}}]}


@pytest.mark.parametrize(
    "index",
    [
        {"samples": []},
        {"samples": [{"tensors": {"other": {}}}]},
        {"samples": [{"tensors": {"z": 3}}]},
        answers(dtype="object"),
        answers(shape=[2**40, 2**40]),
        answers(shape=[-2]),
        answers(nbytes=4),
        answers(offset=64),
        answers(shape=[200], nbytes=800),
        answers(dtype="string", values=["a"]),
    ],
)
def test_outputs_that_cannot_be_are_refused(
    tiny_model: Path, root: Path, tmp_path: Path, index: dict[str, Any]
) -> None:
    told = {"times_ns": [5], "version": "1"}
    files = {
        "result.json.gz": json.dumps(told),
        "outputs.json.gz": json.dumps(index),
        "outputs.bin.gz": "12345678",
    }
    command = liar(tmp_path, {name: gzip.compress(text.encode()) for name, text in files.items()})
    goal = tmp_path / "goal"
    goal.mkdir()
    job = OutputsJob(pack=pack_of(tmp_path / "pack", 1), outputs=("z",))
    with pytest.raises(DeviceError) as error:
        onboard(root, command).outputs(artifact(tiny_model), job, goal)
    assert code(error) == "E474"


@pytest.mark.parametrize(
    "value", ['"half"', "NaN", "1e999", "-5", "[1]", "null", "9" * 30], ids=lambda text: text[:6]
)
def test_progress_that_is_none_tells_nothing(value: str) -> None:
    """Who shows it computes with numbers, and shows texts."""
    line = f'{{"event":"progress","done_s":{value},"of_s":7,"phase":"\\u001b[2J"}}'
    found = _event(line.encode())
    assert found == {"event": "progress", "of_s": 7, "phase": "?[2J"}
