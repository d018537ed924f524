"""The native runner, compiled here, against the Python runtime, and devices that lie."""

from __future__ import annotations

import hashlib
import platform
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy.bench.evidence import look_for_evidence
from edgedeploy.bench.job import (
    BenchArtifact,
    BenchInputs,
    BenchJob,
    BenchPlan,
    GeneratedTensor,
    OutputsJob,
)
from edgedeploy.bench.native import NativeOnboard
from edgedeploy.bench.onboard import Onboard, PythonOnboard
from edgedeploy.bench.record import build_record
from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.deploy.wheels import library_of
from edgedeploy.devices.local import LocalRemote
from edgedeploy.errors import DeviceError
from edgedeploy.remote import DeviceRuntime

PLAN = BenchPlan(warmup_max_s=0.2, window_s=0.005, min_s=0.05, min_count=64, max_s=30, layer_runs=2)
SOURCES = Path(__file__).parents[3] / "edgedeploy/native"

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the runner, compiled with what finds faults in memory."""
    program = tmp_path_factory.mktemp("runner") / "runner"
    flags = ["-std=c99", "-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    command = ["gcc", *flags, "-o", program, *sorted(SOURCES.glob("*.c")), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def library() -> Path:
    """Return the C library of the ONNX Runtime that is installed."""
    import onnxruntime

    return next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder of runs on the device."""
    return tmp_path / "device" / ".scratch"


def native(root: Path, command: str) -> NativeOnboard:
    runtime = DeviceRuntime(
        family="ort", kind="native", version="1.32.0", command=command, provisioned="ab" * 32
    )
    return NativeOnboard(LocalRemote("robot"), runtime, str(root))


@pytest.fixture
def onboard(root: Path, runner: Path, library: Path) -> NativeOnboard:
    return native(root, f"{shlex.quote(str(runner))} {shlex.quote(str(library))}")


def python(root: Path) -> PythonOnboard:
    runtime = DeviceRuntime(
        family="ort",
        kind="python",
        version="1.32.0",
        command=shlex.quote(sys.executable),
        provisioned=None,
    )
    return PythonOnboard(LocalRemote("robot"), runtime, str(root))


def model_of(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Path:
    import onnx
    from onnx import helper

    graph = helper.make_graph(nodes, "small", inputs, outputs)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def value(name: str, kind: int = 1, shape: tuple[Any, ...] = (1,)) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, kind, shape)


def artifact(model: Path, name: str = "m", **options: Any) -> BenchArtifact:
    return BenchArtifact(id=name, family="ort", path=model, options=options)


def pack_of(folder: Path, samples: list[dict[str, np.ndarray]], sequences: str = "") -> Path:
    folder.mkdir()
    with PackWriter(folder) as writer:
        for number, sample in enumerate(samples):
            name = sequences[number] if sequences else None
            writer.add(f"secret-{number}.png", sample, sequence=name, truth={"label": "cat"})
    return folder


def floats(count: int = 3) -> list[dict[str, np.ndarray]]:
    source = np.random.default_rng(5)
    return [{"x": source.normal(size=(4, 16)).astype(np.float32)} for _ in range(count)]


def answers(onboard: Onboard, model: Path, job: OutputsJob, goal: Path) -> list[dict[str, Any]]:
    goal.mkdir()
    times = onboard.outputs(artifact(model), job, goal)
    found = [sample.tensors() for sample in PackReader(goal)]
    assert len(times) == len(found) and min(times) > 0
    return found


def refused(call: Any) -> Any:
    with pytest.raises(DeviceError) as error:
        call()
    return error.value.diagnostics[0]


def test_outputs_are_those_of_python_bit_for_bit(
    tiny_model: Path, onboard: NativeOnboard, root: Path, tmp_path: Path
) -> None:
    job = OutputsJob(pack=pack_of(tmp_path / "pack", floats()), outputs=("z",))
    ours = answers(onboard, tiny_model, job, tmp_path / "ours")
    theirs = answers(python(root), tiny_model, job, tmp_path / "theirs")
    assert len(ours) == 3
    for one, other in zip(ours, theirs, strict=True):
        assert one["z"].tobytes() == other["z"].tobytes() and one["z"].shape == (4, 16)
    assert not list(root.iterdir())


def test_every_dtype_goes_in_and_comes_out(onboard: NativeOnboard, tmp_path: Path) -> None:
    """Through a model that copies, with names that need care and an empty and a 0-d tensor."""
    from onnx import helper

    dtypes = (
        *("float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "bool"),
        *("float16", "float64", "uint32", "uint64"),
    )
    source = np.random.default_rng(2)
    sample: dict[str, np.ndarray] = {}
    nodes, inputs, outputs = [], [], []
    for dtype in dtypes:
        name = f"in {dtype} %20;$(id)'\"é"
        sample[name] = source.integers(0, 2, size=(2, 3)).astype(dtype)
        sample[name].reshape(-1)[0] = 1
    sample["scalar"], sample["empty"] = np.float32(3.5).reshape(()), np.zeros((2, 0), np.float32)
    for name, array in sample.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        nodes.append(helper.make_node("Identity", [name], [f"{name} out"]))
        inputs.append(value(name, kind, array.shape))
        outputs.append(value(f"{name} out", kind, array.shape))
    model = model_of(tmp_path / "copy.onnx", nodes, inputs, outputs)
    job = OutputsJob(
        pack=pack_of(tmp_path / "pack", [sample]), outputs=tuple(f"{name} out" for name in sample)
    )
    (found,) = answers(onboard, model, job, tmp_path / "goal")
    assert len(found) == len(sample)
    for name, array in sample.items():
        made = found[f"{name} out"]
        assert (made.dtype, made.shape) == (array.dtype, array.shape), name
        assert made.tobytes() == array.tobytes(), name


def test_state_is_carried_along_sequences(onboard: NativeOnboard, tmp_path: Path) -> None:
    """A running sum starts anew where the sequence changes."""
    from onnx import helper

    add = helper.make_node("Add", ["x", "s"], ["t"])
    model = model_of(tmp_path / "sum.onnx", [add], [value("x"), value("s")], [value("t")])
    samples = [{"x": np.array([number], np.float32)} for number in range(1, 6)]
    job = OutputsJob(
        pack=pack_of(tmp_path / "pack", samples, "aabbb"),
        outputs=("t",),
        state=(("s", "t"),),
        zeros=(GeneratedTensor(name="s", dtype="float32", shape=(1,), high=0),),
    )
    found = answers(onboard, model, job, tmp_path / "goal")
    assert [float(item["t"][0]) for item in found] == [1, 3, 3, 7, 12]


def test_windows_carry_the_state(onboard: NativeOnboard, root: Path, tmp_path: Path) -> None:
    """Here and there, from sample to sample of a sequence, and from zeros at each new one.

    The model counts samples in its state and fails where that is neither zero nor what the sample
    says: so it runs where the count is right, and fails where it is carried to a wrong one.
    """
    model = chain(tmp_path / "chain.onnx")
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    pack_of(right, [{"x": np.array([step], np.int64)} for step in (0, 1, 2, 0, 1)], "aaabb")
    pack_of(wrong, [{"x": np.array([step], np.int64)} for step in (0, 5)], "aa")
    zeros = (GeneratedTensor(name="s", dtype="int64", shape=(1,), high=0),)
    plan = replace(PLAN, warmup_max_s=0.02, window_s=0.002, min_s=0.01, layer_runs=0)
    for way in (onboard, python(root)):

        def measured(way: Onboard, pack: Path, *state: tuple[str, str]) -> str | None:
            inputs = BenchInputs(pack=pack, samples=5, generated=zeros, state=state)
            job = BenchJob(artifacts=(artifact(model, "chain"),), inputs=inputs, plan=plan)
            result = way.measure(job)
            record = build_record(job, job.artifacts[0], result, "2026-01-01T00:00:00Z", tmp_path)
            assert record["latency"]["n"] >= plan.min_count
            return record["conditions"]["inputs"]["state"]

        assert measured(way, right, ("s", "t")) == "carried"
        assert measured(way, wrong) is None
        with pytest.raises(DeviceError, match="out of"):
            measured(way, wrong, ("s", "t"))


def chain(path: Path) -> Path:
    """Write a model of ``t = s + 1`` that looks up row ``2 s (s - x)`` of a table of one."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Sub", ["s", "x"], ["off"]),
        helper.make_node("Mul", ["off", "far"], ["farther"]),
        helper.make_node("Mul", ["farther", "s"], ["row"]),
        helper.make_node("Gather", ["table", "row"], ["y"]),
        helper.make_node("Add", ["s", "one"], ["t"]),
    ]
    weights = {
        "table": np.ones(1, np.float32),
        "far": np.array([2], np.int64),
        "one": np.array([1], np.int64),
    }
    whole = [helper.make_tensor_value_info(name, TensorProto.INT64, [1]) for name in "xst"]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]), whole[2]]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "chain", whole[:2], made, constants)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_measurement_is_as_the_loops(
    tiny_model: Path, onboard: NativeOnboard, root: Path, tmp_path: Path
) -> None:
    """The same windows in the same order, the same layers, and a record like any other."""
    job = BenchJob(
        artifacts=(artifact(tiny_model, "float"), artifact(tiny_model, "again", optimise=False)),
        inputs=BenchInputs(pack=pack_of(tmp_path / "pack", floats()), samples=2),
        baseline="float",
        plan=PLAN,
        cpus=(0,),
    )
    seen: list[str] = []
    result = onboard.measure(job, on_progress=lambda event: seen.append(event["event"]))
    theirs = python(root).measure(job)
    assert {"phase", "progress"} == set(seen)
    assert result.keys() == theirs.keys()
    count = min(len(result["windows"]), len(theirs["windows"]))
    assert count >= 2 * 2 * PLAN.min_repetitions
    order = [
        [window["artifact"] for window in found["windows"][:count]] for found in (result, theirs)
    ]
    assert order[0] == order[1]
    assert result["environment"] == theirs["environment"] | {"affinity": [0]}
    layers = [
        [(layer["name"], layer["op"]) for layer in found["artifacts"][0]["layers"]]
        for found in (result, theirs)
    ]
    assert layers[0] == layers[1] == [("mm", "MatMul"), ("act", "Relu")]
    record = build_record(job, job.artifacts[1], result, "2026-01-01T00:00:00+00:00", tmp_path)
    assert record["latency"]["n"] >= 64 and record["comparison"]["with"] == "float"
    assert record["memory"]["peak_bytes"] > record["memory"]["baseline_bytes"] > 0
    assert record["conditions"]["python"] == "none: native runner"
    assert not list(root.iterdir())


def test_evidence_is_read_as_the_loop_reads_it(machine: Any) -> None:
    """A sysfs that a test writes, by both ways; the known answer is loop.py's reader."""
    from edgedeploy.bench.environment import Environment

    machine.write("sys/class/thermal/thermal_zone0/type", "cpu thermal")
    found = look_for_evidence(LocalRemote(), str(machine.sysfs), str(machine.procfs))
    theirs = Environment(str(machine.sysfs), str(machine.procfs))
    facts = theirs.facts()
    assert found.facts == {key: facts[key] for key in found.facts}
    read = {place: Path(path).read_text() for place, (_, path) in enumerate(found.watched)}
    sample = found.sample(7, 2_500_000, read)
    wanted = theirs.sample() | {"t_ns": 7, "own_cpu_s": 2.5}
    assert sample == wanted


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"family": "openvino"}, "E468"),
        ({"options": {"providers": ["XnnpackExecutionProvider"]}}, "E468"),
        ({"path": Path("/no/such/model.ort")}, "E471"),
    ],
)
def test_what_it_cannot_do(
    tiny_model: Path, onboard: NativeOnboard, tmp_path: Path, change: dict[str, Any], code: str
) -> None:
    (tmp_path / "goal").mkdir()
    job = OutputsJob(pack=pack_of(tmp_path / "pack", floats(1)), outputs=("z",))
    wrong = BenchArtifact(**{"id": "m", "family": "ort", "path": tiny_model, **change})
    found = refused(lambda: onboard.outputs(wrong, job, tmp_path / "goal"))
    assert found.code == code and "robot" in found.message


def test_text_and_missing_inputs_are_refused(
    tiny_model: Path, onboard: NativeOnboard, tmp_path: Path
) -> None:
    for number, (sample, code) in enumerate(
        [({"x": np.array(["text"], object)}, "E468"), ({"y": np.zeros(1, np.float32)}, "E471")]
    ):
        goal = tmp_path / f"goal{number}"
        goal.mkdir()
        job = OutputsJob(pack=pack_of(tmp_path / f"pack{number}", [sample]), outputs=("z",))
        assert (
            refused(
                lambda job=job, goal=goal: onboard.outputs(artifact(tiny_model), job, goal)
            ).code
            == code
        )


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("/no/such/runner", "E475"),
        ("sh -c 'exit 3' -", "E473"),
        ("sh -c 'kill -SEGV $$' -", "E470"),
        ("sh -c 'echo nonsense' -", "E474"),
        ("sh -c 'printf \"output 0 z 1 99999999999 1 5\\n\"' -", "E474"),
        ("sh -c 'printf \"ran 0 5\\noutput 0 z 1 8 1 3\\n12345678\\nend\\n\"' -", "E474"),
        ("sh -c 'printf \"failed outputs %%1b[31mred\\n\"; exit 3' -", "E471"),
    ],
)
def test_devices_that_die_and_lie(
    tiny_model: Path, root: Path, tmp_path: Path, command: str, code: str
) -> None:
    goal = tmp_path / "goal"
    goal.mkdir()
    job = OutputsJob(pack=pack_of(tmp_path / "pack", floats(1)), outputs=("z",))
    found = refused(lambda: native(root, command).outputs(artifact(tiny_model), job, goal))
    assert found.code == code
    assert found.message.isprintable()
    assert not list(root.iterdir())


def test_the_runner_ends_with_its_input(
    tiny_model: Path, runner: Path, library: Path, tmp_path: Path
) -> None:
    """A host that is gone closes it; nothing goes on working for nobody."""
    (tmp_path / "in.bin").write_bytes(np.zeros((4, 16), np.float32).tobytes())
    lines = [
        "edgedeploy-runner 1",
        "held",
        f"artifact {tiny_model} 1 1",
        f"pack {tmp_path}/in.bin",
        "sample 1",
        "tensor x 1 0 256 2 4 16",
        f"plan 1 1000000 {3600 * 10**9} 1 1 {3600 * 10**9}",
        "order 0",
    ]
    (tmp_path / "job").write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(
        [runner, library, "windows", tmp_path / "job"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None and process.stdin is not None
    assert process.stderr.readline().startswith(b"progress ")
    started = time.monotonic()
    process.stdin.close()
    assert process.wait(30) == -9
    process.stderr.read()  # the one that watched let go of it, too
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "line",
    [
        "artifact",
        "artifact m -1 1",
        "artifact m 1 2",
        "tensor x 1 0 4 1 1",
        "sample 1\ntensor x 1 0 99999999999999999999 1 1",
        "sample 1\ntensor x 1 0 4 33 1",
        "order 0",
        "unknown 1",
        "config a",
    ],
)
def test_a_malformed_job_is_refused(runner: Path, library: Path, tmp_path: Path, line: str) -> None:
    """With status 2 and a reason; the sanitizer finds nothing to say."""
    (tmp_path / "job").write_text(f"edgedeploy-runner 1\n{line}\n")
    done = subprocess.run(
        [runner, library, "outputs", tmp_path / "job", "0"], capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (2, b"")
    assert done.stdout.startswith(b"failed outputs ")


OLDEST = (
    "onnxruntime-1.19.2-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "a36511dc07c5c964b916697e42e366fa43c48cdb3d3503578d78cef30417cb84",
)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs a device of that processor")
def test_the_oldest_library_has_the_same_functions(
    tiny_model: Path, runner: Path, root: Path, tmp_path: Path
) -> None:
    """The first version whose wheel has a C library: outputs, layers, profile, all verbs."""
    name, digest = OLDEST
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--dest"]
    subprocess.run([*command, str(tmp_path), "onnxruntime==1.19.2"], check=True, timeout=600)
    assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    library_of(tmp_path / name, tmp_path)
    old = native(root, f"{shlex.quote(str(runner))} {tmp_path}/libonnxruntime.so")
    job = OutputsJob(pack=pack_of(tmp_path / "pack", floats()), outputs=("z",))
    ours = answers(old, tiny_model, job, tmp_path / "ours")
    theirs = answers(python(root), tiny_model, job, tmp_path / "theirs")
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one["z"], other["z"], rtol=1e-6)
    inputs = BenchInputs(pack=job.pack)
    result = old.measure(BenchJob(artifacts=(artifact(tiny_model),), inputs=inputs, plan=PLAN))
    assert result["artifacts"][0]["warm"]["version"] == "1.19.2"
    assert [layer["op"] for layer in result["artifacts"][0]["layers"]] == ["MatMul", "Relu"]
