"""Core ML packages in the device program, with a stand-in for coremltools on a Mac.

The stand-in (``tests/stubs/mac``) is written from the documentation of coremltools 9.0. None of
this was seen on a Mac: what is shown here is that the program calls what is documented, and that
names, types, images, classes and states come out as the ONNX model has them.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgedeploy.backends.base import Words
from edgedeploy.bench.checking import _placement
from edgedeploy.bench.job import (
    BenchArtifact,
    BenchInputs,
    BenchJob,
    BenchPlan,
    GeneratedTensor,
    OutputsJob,
)
from edgedeploy.bench.onboard import PythonOnboard
from edgedeploy.bench.record import build_record
from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.data.preprocess import normalise
from edgedeploy.devices.local import LocalRemote
from edgedeploy.errors import DeviceError
from edgedeploy.remote import DeviceRuntime
from edgedeploy.report.figures import units
from edgedeploy.report.summary import unit_report
from tests.unit.backends.apple.test_coreml_interface import (
    CLASSES,
    FLOAT,
    IMAGES,
    compiled,
    expected,
    recurrent,
    save,
    vision,
)

pytestmark = pytest.mark.slow

STAND_IN = Path(__file__).parents[2] / "stubs" / "mac"
PLAN = BenchPlan(
    warmup_max_s=0.1, window_s=0.005, min_s=0.02, min_count=8, max_s=30, layer_runs=1,
    min_repetitions=2,
)  # fmt: skip


def onboard(root: Path, **variables: str | Path) -> PythonOnboard:
    words = {"PYTHONPATH": STAND_IN, **variables}
    given = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in words.items())
    command = f"env {given} {shlex.quote(sys.executable)}"
    runtime = DeviceRuntime(
        family="coreml", kind="python", version="9.0", command=command, provisioned=None
    )
    return PythonOnboard(LocalRemote("mac"), runtime, str(root / "scratch"))


def artifact(folder: Path, name: str = "fp16", **options: Any) -> BenchArtifact:
    path = folder / "model.mlpackage"
    files = tuple(file for file in path.rglob("*") if file.is_file())
    return BenchArtifact(id=name, family="coreml", path=path, files=files, options=options)


def pack_of(folder: Path, *samples: dict[str, np.ndarray], sequence: str | None = None) -> Path:
    folder.mkdir()
    with PackWriter(folder) as writer:
        for number, tensors in enumerate(samples):
            writer.add(str(number), tensors, sequence=sequence)
    return folder


def answers(
    tmp_path: Path, folder: Path, pack: Path, *names: str, **how: Any
) -> list[dict[str, np.ndarray]]:
    goal = tmp_path / "goal"
    goal.mkdir()
    onboard(tmp_path).outputs(artifact(folder), OutputsJob(pack=pack, outputs=names, **how), goal)
    return [sample.tensors() for sample in PackReader(goal)]


def same(made: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert made.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (made[name].dtype, made[name].shape) == (value.dtype, value.shape)
        np.testing.assert_allclose(made[name], value, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model whose names and types Core ML has not, and its package."""
    nodes = [
        helper.make_node("Cast", ["ids:0"], ["f"], name="cast", to=FLOAT),
        helper.make_node("Mul", ["f", "gain"], ["p"], name="mul"),
        helper.make_node("MatMul", ["p", "w"], ["y/out"], name="mm"),
        helper.make_node("Greater", ["y/out", "gain"], ["big"], name="greater"),
    ]
    weight = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
    model = save(
        tmp_path_factory.mktemp("odd") / "m.onnx",
        nodes,
        [("ids:0", TensorProto.INT64, [2, 3]), ("gain", FLOAT, [])],
        [("y/out", FLOAT, [2, 4]), ("big", TensorProto.BOOL, [2, 4])],
        w=weight,
    )
    return model, compiled(model)


def odd_sample(seed: int) -> dict[str, np.ndarray]:
    source = np.random.default_rng(seed)
    ids = source.integers(-9, 9, (2, 3)).astype(np.int64)
    return {"ids:0": ids, "gain": np.array(source.normal(), np.float32)}


def test_stand_in_names_and_types_are_those_of_the_onnx_model(odd: Any, tmp_path: Path) -> None:
    """The known answer is ONNX Runtime's."""
    model, folder = odd
    samples = [odd_sample(1), odd_sample(2)]
    made = answers(tmp_path, folder, pack_of(tmp_path / "pack", *samples), "y/out", "big")
    for sample, found in zip(samples, made, strict=True):
        same(found, expected(model, sample))


@pytest.mark.parametrize("name", ["normalised", "gray", "centred"])
def test_stand_in_images_become_the_pixels_again(name: str, tmp_path: Path) -> None:
    image = IMAGES[name]
    channels = 1 if image.colour == "gray" else 3
    dims = [1, channels, 4, 6] if image.layout == "nchw" else [1, 4, 6, channels]
    model = vision(tmp_path / "m.onnx", dims, channels, image.layout)
    folder = compiled(model, words=Words(images={"x": image}), images=True)
    pixels = np.random.default_rng(3).integers(0, 256, (4, 6, channels)).astype(np.uint8)
    sample = {"x": normalise(pixels, image).astype(np.float32)}
    (made,) = answers(tmp_path, folder, pack_of(tmp_path / "pack", sample), "prob")
    same(made, expected(model, sample))


def test_stand_in_a_sample_that_no_image_gives_is_refused(tmp_path: Path) -> None:
    model = vision(tmp_path / "m.onnx", [1, 3, 4, 6])
    folder = compiled(model, words=Words(images={"x": IMAGES["scaled"]}), images=True)
    sample = {"x": np.full((1, 3, 4, 6), 7, np.float32)}
    with pytest.raises(DeviceError) as error:
        answers(tmp_path, folder, pack_of(tmp_path / "pack", sample), "prob")
    assert error.value.diagnostics[0].code == "E471" and "no pixel" in str(error.value)


def test_stand_in_classes_become_the_tensor_again(tmp_path: Path) -> None:
    model = vision(tmp_path / "m.onnx", [1, 3, 4, 6])
    folder = compiled(model, words=Words(classes=CLASSES), classifier=True)
    sample = {"x": np.random.default_rng(1).random((1, 3, 4, 6), np.float32)}
    (made,) = answers(tmp_path, folder, pack_of(tmp_path / "pack", sample), "prob")
    same(made, expected(model, sample))


def test_stand_in_a_state_is_carried_along_a_sequence(tmp_path: Path) -> None:
    """A running sum: 0.5, 0.5 + 1.5, ..."""
    model = recurrent(tmp_path / "m.onnx", [1, 3])
    folder = compiled(model, ios=18, words=Words(state=(("s_in", "s_out"),)), stateful=True)
    samples = [{"x": np.full((1, 3), step + 0.5, np.float32)} for step in range(3)]
    state = np.zeros((1, 3), np.float32)
    wanted = []
    for sample in samples:
        wanted.append(expected(model, {**sample, "s_in": state}))
        state = wanted[-1]["s_out"]
    made = answers(
        tmp_path,
        folder,
        pack_of(tmp_path / "pack", *samples, sequence="a"),
        *wanted[0],
        state=(("s_in", "s_out"),),
        zeros=(GeneratedTensor(name="s_in", dtype="float32", shape=(1, 3), high=0),),
    )
    for found, right in zip(made, wanted, strict=True):
        same(found, right)


def measured(odd: Any, tmp_path: Path, **variables: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the record of a measurement and what the stand-in was asked."""
    log = tmp_path / "log"
    job = BenchJob(
        artifacts=(artifact(odd[1], compute_units="CPU_AND_NE"),),
        inputs=BenchInputs(pack=pack_of(tmp_path / "pack", odd_sample(1), odd_sample(2))),
        plan=PLAN,
        evidence="device",
    )
    device = onboard(tmp_path, EDGEDEPLOY_STAND_IN_LOG=log, **variables)
    result = device.measure(job)
    record = build_record(job, job.artifacts[0], result, "2026-01-01T00:00:00+00:00", tmp_path)
    return json.loads(json.dumps(record)), log.read_text().splitlines()


def test_stand_in_a_measurement_tells_a_plan_and_no_layer_times(odd: Any, tmp_path: Path) -> None:
    record, asked = measured(odd, tmp_path)
    assert asked.count("compile") == 1, "compiled once for the whole run"
    assert set(asked) == {"compile", "load CPU_AND_NE"}
    assert record["layers"] == [] and record["evidence"] == "device"
    assert record["conditions"]["family"] == "coreml"
    assert record["conditions"]["options"] == {"compute_units": "CPU_AND_NE"}
    assert record["load_ms"]["warm"] > 0 and record["latency"]["n"] >= 8
    told = record["placement"]
    assert told["units"] == "CPU_AND_NE" and told["why_not"] is None
    assert told["compile_ms"] > 0 and told["first_load_ms"] > 0
    by_op = {item["op"]: item for item in told["operations"]}
    assert "const" not in by_op
    assert by_op["greater"]["preferred"] == "CPU"
    matrix = next(item for op, item in by_op.items() if op in ("matmul", "linear"))
    assert matrix["preferred"] == "Neural Engine"
    assert matrix["supported"] == ["CPU", "Neural Engine"]
    assert sum(item["cost"] for item in told["operations"]) == pytest.approx(1)
    report = unit_report(told)
    assert report is not None
    assert "operations (CPU_AND_NE)" in units(report) and "1 Neural Engine" in units(report)
    assert not list((tmp_path / "scratch").iterdir())


def test_stand_in_a_system_without_plans_is_measured_all_the_same(odd: Any, tmp_path: Path) -> None:
    """Compute plans came with macOS 14.4."""
    record, _ = measured(odd, tmp_path, EDGEDEPLOY_STAND_IN_OLD="1")
    told = record["placement"]
    assert told["operations"] == [] and "not supported" in told["why_not"]
    assert record["latency"]["n"] >= 8
    report = unit_report(told)
    assert report is not None and "no plan of units" in units(report)


def test_stand_in_a_package_that_does_not_compile_is_told(odd: Any, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    (folder / "model.mlpackage").mkdir(parents=True)
    (folder / "interface.json").write_bytes((odd[1] / "interface.json").read_bytes())
    job = OutputsJob(pack=pack_of(tmp_path / "pack", odd_sample(1)), outputs=("y/out",))
    with pytest.raises(DeviceError) as error:
        onboard(tmp_path).outputs(artifact(folder), job, tmp_path)
    assert error.value.diagnostics[0].code == "E471"
    assert "Error compiling model" in str(error.value)


PLANNED = {"name": "y", "op": "conv", "preferred": "GPU", "supported": ["CPU", "GPU"], "cost": 0.5}


@pytest.mark.parametrize(
    "change",
    [
        {"preferred": "<b>"},
        {"supported": ["CPU"] * 9},
        {"supported": "CPU"},
        {"cost": 7},
        {"cost": float("nan")},
        {"op": 5},
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    told = {"units": "ALL", "compile_ms": 5.0, "why_not": None, "operations": [PLANNED]}
    assert _placement(told, "here") == told
    with pytest.raises(ValueError, match="here"):
        _placement({**told, "operations": [{**PLANNED, **change}]}, "here")
