"""``--sensitivity`` through the command line, where the choice itself needs no survey."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from running import edgedeploy
from zoo import write_profile

pytestmark = pytest.mark.slow
ORT = "linux-x86-64/ort"


def project(folder: Path, *, whole_numbers: bool) -> Path:
    """Write two products with their data, and a profile; the answer may be a class alone."""
    source = np.random.default_rng(3)
    last = helper.make_node("ArgMax", ["b"], ["y"], axis=1, keepdims=0, name="best")
    kind = TensorProto.INT64 if whole_numbers else TensorProto.FLOAT
    made = helper.make_tensor_value_info("y", kind, [1] if whole_numbers else [1, 5])
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w1"], ["b" if whole_numbers else "y"], name="second"),
        *([last] if whole_numbers else []),
    ]
    weights = {"w0": source.normal(size=(6, 8)), "w1": source.normal(size=(8, 5))}
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])],
        [made],
        [
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "two.onnx")
    for role in ("calibrate", "evaluate"):
        (folder / role).mkdir()
        for count in range(8):
            np.savez(folder / role / f"{count}.npz", x=source.normal(size=(1, 6)).astype("f4"))
    data = {role: role for role in ("calibrate", "evaluate")}
    return write_profile(folder, "p", {"two": {"source": "two.onnx", "data": data}}, targets=[ORT])


def survey_of(folder: Path) -> dict[str, Any] | None:
    document = json.loads((folder / "build/p/build.json").read_text(encoding="utf-8"))
    found: dict[str, Any] | None = document["models"][0]["targets"][0]["sensitivity"]
    return found


def test_a_survey_that_is_asked_for_later_is_in_the_reports(tmp_path: Path, store: Path) -> None:
    """All artifacts are there already; what the reports tell is not."""
    profile = project(tmp_path, whole_numbers=False)
    options = ("-o", tmp_path / "build", "--store", store, "--no-bench")
    assert edgedeploy("build", profile, *options).code == 0
    assert survey_of(tmp_path) is None
    assert edgedeploy("build", profile, *options, "--sensitivity").code == 0
    found = survey_of(tmp_path)
    assert found is not None and {row["node"] for row in found["layers"]} == {"first", "second"}
    assert "second" in edgedeploy("inspect", tmp_path / "build/p").out


def test_a_survey_that_cannot_be_had_costs_no_artifact(tmp_path: Path, store: Path) -> None:
    profile = project(tmp_path, whole_numbers=True)
    options = ("-o", tmp_path / "build", "--store", store, "--no-bench", "--sensitivity")
    run = edgedeploy("build", profile, *options)
    assert run.code == 0 and "warning[E262]: no output of the model is a float tensor" in run.err
    assert (tmp_path / f"build/p/two/{ORT}").is_dir()
    assert survey_of(tmp_path) is None
    assert "warning[E262]" in edgedeploy("build", profile, *options).err


def test_no_survey_of_what_is_not_quantized(tmp_path: Path, store: Path) -> None:
    profile = project(tmp_path, whole_numbers=False)
    options = ("-o", tmp_path / "build", "--store", store, "--no-bench", "--sensitivity")
    run = edgedeploy("build", profile, *options, "--set", "quantize=fp16")
    assert run.code == 0 and "warning[E372]" in run.err
    assert survey_of(tmp_path) is None
