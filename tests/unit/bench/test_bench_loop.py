"""The measuring loop: its syntax, its job, its evidence and real runs of it."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy.bench import environment, loop
from edgedeploy.bench.job import DEVICE_FILES, stream_samples
from edgedeploy.bench.measure import LOOP
from edgedeploy.data.pack import PackWriter

PLAN = {
    "warmup_max_s": 0.2,
    "window_s": 0.005,
    "min_s": 0.05,
    "min_count": 64,
    "min_repetitions": 9,
    "max_s": 30,
    "layer_runs": 3,
}


def job_of(model: Path, **fields: Any) -> dict[str, Any]:
    artifact = {"id": "a", "family": "ort", "path": model.name, "threads": 1, "options": {}}
    inputs = {"generated": [{"name": "x", "dtype": "float32", "shape": [4, 16], "seed": 1}]}
    return {"loop": 1, "artifacts": [artifact], "inputs": inputs, "plan": PLAN, **fields}


def run(folder: Path, job: dict[str, Any], script: Path = LOOP) -> tuple[int, dict[str, Any], str]:
    (folder / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, script, folder / "job.json"], capture_output=True, timeout=120, cwd=folder
    )
    return done.returncode, json.loads(done.stdout), done.stderr.decode()


@pytest.mark.parametrize("name", DEVICE_FILES)
def test_the_syntax_is_that_of_python_3_6(name: str) -> None:
    ast.parse(LOOP.with_name(name).read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("name", DEVICE_FILES)
def test_only_the_standard_library_is_imported_at_the_top(name: str) -> None:
    tree = ast.parse(LOOP.with_name(name).read_text())
    names = {
        alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }
    names |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_a_copy_measures_alone_on_a_device(tiny_model: Path, tmp_path: Path) -> None:
    """These files are all that travels: nothing else of the package is beside them."""
    for name in DEVICE_FILES:
        shutil.copy(LOOP.with_name(name), tmp_path / name)
    shutil.copy(tiny_model, tmp_path / "tiny.onnx")
    status, result, stderr = run(tmp_path, job_of(tiny_model), tmp_path / "loop.py")
    assert status == 0
    windows = result["windows"]
    assert sum(len(item["samples_ns"]) for item in windows) >= 64
    assert {item["repetition"] for item in windows} >= set(range(9))
    assert all(isinstance(ns, int) and ns > 0 for item in windows for ns in item["samples_ns"])
    assert result["ended"] == "complete"
    about = result["artifacts"][0]
    assert [layer["op"] for layer in about["layers"]] == ["MatMul", "Relu"]
    assert all(layer["mean_ms"] > 0 for layer in about["layers"])
    assert about["warm"]["peak_bytes"] > about["warm"]["baseline_bytes"] > 0
    assert about["warm"]["load_ns"] > 0 and about["cold"]["first_inference_ns"] > 0
    events = [json.loads(line)["event"] for line in stderr.splitlines()]
    assert {"phase", "warm", "progress"} == set(events)
    if sys.platform == "linux":
        assert result["clock"] == "CLOCK_MONOTONIC_RAW"
        assert about["warm"]["memory_method"] == "VmHWM"


def test_two_families_are_interleaved_abba(tiny_model: Path, tmp_path: Path) -> None:
    import openvino

    shutil.copy(tiny_model, tmp_path / "tiny.onnx")
    openvino.save_model(openvino.Core().read_model(tiny_model), tmp_path / "tiny.xml")
    job = job_of(tiny_model, seed=5)
    other = {"id": "b", "family": "openvino", "path": "tiny.xml", "threads": 1, "options": {}}
    status, result, _ = run(tmp_path, {**job, "artifacts": [*job["artifacts"], other]})
    assert status == 0
    order = [item["artifact"] for item in result["windows"]]
    blocks = ["".join(order[start : start + 4]) for start in range(0, len(order), 4)]
    assert set(blocks) == {"abba", "baab"}
    layers = result["artifacts"][1]["layers"]
    assert any(layer["op"] in ("FullyConnected", "MatMul") for layer in layers)
    assert all(item["warm"]["peak_bytes"] for item in result["artifacts"])


@pytest.mark.parametrize("family", ["ort", "openvino"])
def test_the_state_is_carried_while_time_is_taken(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running sum: what every run of the windows gave, against sums that NumPy works out."""
    values, names = np.arange(1, 8, dtype=np.float32), "aaabbcd"
    (tmp_path / "pack").mkdir()
    with PackWriter(tmp_path / "pack") as writer:
        for number, (heard, name) in enumerate(zip(values, names, strict=True)):
            sequence = None if name == "d" else name
            writer.add(str(number), {"x": np.full(1, heard)}, sequence=sequence)
    wanted = [
        values[: at + 1][[name == names[at] for name in names[: at + 1]]].sum()
        for at in range(len(values))
    ]
    seen: list[float] = []

    class Told(loop.FAMILIES[family]):  # type: ignore[misc]
        def run(self, feed: Any) -> Any:
            found = super().run(feed)
            seen.append(float(found[0][0]))
            return found

    monkeypatch.setitem(loop.FAMILIES, family, Told)
    path = summing(tmp_path / "sum.onnx")
    artifact = {"id": "a", "family": family, "path": path.name, "threads": 1, "options": {}}
    zeros = [{"name": "s", "dtype": "float32", "shape": [1], "low": 0, "high": 0}]
    job = {
        "folder": str(tmp_path),
        "inputs": {"pack": "pack", "generated": zeros},
        "state": [["s", "t"]],
    }
    measured = loop.Measured(artifact, job)
    durations = [*measured.window(5), *measured.window(11)]
    assert len(durations) == 16 and min(durations) > 0
    assert seen == [wanted[at % 7] for at in range(16)]

    seen.clear()
    loop.Measured(artifact, {**job, "state": []}).window(9)
    assert seen == [values[at % 7] for at in range(9)]
    with pytest.raises(loop.JobError, match="the state is"):
        loop.Measured(artifact, {**job, "state": [["s", "none"]]})


def summing(path: Path) -> Path:
    """Write a model of ``t = x + s``."""
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xst"]
    add = helper.make_node("Add", ["x", "s"], ["t"])
    graph = helper.make_graph([add], "sum", values[:2], values[2:])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.mark.parametrize(("nbytes", "wanted"), [(4, 256), (1 << 20, 32), (1 << 26, 16)])
def test_a_stream_is_as_long_as_memory_allows(nbytes: int, wanted: int, tmp_path: Path) -> None:
    """At most 256 samples of 32 MiB together, but never fewer than of other models."""
    sample = {"id": "a", "tensors": {"x": {"nbytes": nbytes}, "text": {"values": []}}}
    (tmp_path / "index.json").write_text(json.dumps({"samples": [sample] * 400}))
    assert stream_samples(tmp_path) == wanted


def test_a_mapped_ort_file_runs(tiny_model: Path, tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "tiny.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(tiny_model, options, providers=["CPUExecutionProvider"])
    status, result, _ = run(tmp_path, job_of(tmp_path / "tiny.ort"))
    assert status == 0
    assert result["artifacts"][0]["layers"][0]["provider"] == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"loop": 2}, 2, "loop version 2"),
        ({"artifacts": []}, 2, "artifacts"),
        ({"inputs": {"generated": []}}, 3, "inputs"),
        ({"artifacts": [{"id": "a", "family": "tflite"}]}, 2, "tflite"),
        (
            {
                "artifacts": [
                    {"id": "a", "family": "ort", "path": "no", "threads": 1, "options": {}}
                ]
            },
            3,
            "no",
        ),
    ],
)
def test_failures_are_told_on_stdout(
    change: dict[str, Any], status: int, said: str, tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_model, tmp_path / "tiny.onnx")
    found, result, _ = run(tmp_path, {**job_of(tiny_model), **change})
    assert found == status
    assert said in result["failed"]["message"]


def test_the_longest_time_ends_a_run(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_model, tmp_path / "tiny.onnx")
    plan = {**PLAN, "min_s": 60, "max_s": 0.1, "layer_runs": 0}
    status, result, _ = run(tmp_path, job_of(tiny_model, plan=plan))
    assert (status, result["ended"]) == (0, "max_s")
    assert result["artifacts"][0]["layers"] == []


def test_inputs_of_a_pack_are_cycled_through(tmp_path: Path) -> None:
    tensors = [np.arange(6, dtype=np.int16).reshape(2, 3), np.array(1.5, np.float32)]
    with PackWriter(tmp_path) as pack:
        for position, tensor in enumerate(tensors):
            pack.add(str(position), {"x": tensor, "s": np.array(["a", "bc"], object)})
    spec = {"pack": tmp_path.name, "samples": 2}
    spec["generated"] = [{"name": "z", "dtype": "float32", "shape": [2], "low": 0, "high": 0}]
    feeds = loop.read_inputs(np, spec, str(tmp_path.parent))
    for feed, tensor in zip(feeds, tensors, strict=True):
        assert feed["x"].dtype == tensor.dtype and feed["x"].shape == tensor.shape
        np.testing.assert_array_equal(feed["x"], tensor)
        assert feed["s"].tolist() == ["a", "bc"]
        assert feed["z"].tolist() == [0, 0]


def test_generated_inputs_depend_on_the_seed_alone() -> None:
    spec = {"name": "x", "dtype": "int32", "shape": [50], "seed": 3, "low": 2, "high": 4}
    first, again = loop._generated(np, spec), loop._generated(np, spec)
    np.testing.assert_array_equal(first, again)
    assert set(first) == {2, 3, 4} and first.dtype == np.int32


def test_cold_is_claimed_only_where_the_cache_was_emptied(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * (1 << 20))
    why = environment.drop_page_cache([str(path)])
    with open(path, "rb") as file:
        resident = environment._resident_ratio(file.fileno())
        if why is None:
            assert resident is not None and resident <= environment.COLD_RESIDENT_RATIO
        file.read()
        assert environment._resident_ratio(file.fileno()) in (1.0, None)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a tmpfs at /dev/shm")
def test_a_file_on_tmpfs_cannot_be_cold() -> None:
    path = Path("/dev/shm") / "edgedeploy-test-cold"
    try:
        path.write_bytes(b"x" * 65536)
        assert "stayed in the page cache" in (environment.drop_page_cache([str(path)]) or "")
    finally:
        path.unlink()
