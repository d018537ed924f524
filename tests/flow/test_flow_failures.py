"""One thing fails: what becomes of the others, and of the exit status."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

ROOT = Path(__file__).parents[2]
PROFILE = """edgedeploy: 1
name: two
models:
  bad: {source: bad.onnx}
  good: {source: good.onnx}
quantize: none
targets: [linux-x86-64/ort]
"""


@pytest.fixture
def project(tmp_path):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], "r")], "g", [value], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "good.onnx")
    (tmp_path / "bad.onnx").write_bytes((tmp_path / "good.onnx").read_bytes()[:-7])
    (tmp_path / "two.yaml").write_text(PROFILE)
    return tmp_path


def build(project, *options):
    command = [sys.executable, "-m", "edgedeploy", "build", "two.yaml", "--json", *options]
    command += ["--store", "store"]
    done = subprocess.run(
        command, cwd=project, env=None, capture_output=True, text=True, timeout=300, check=False
    )
    return done, json.loads(done.stdout)


def verdicts(data):
    return {
        model["name"]: target["verdict"]
        for model in data["build"]["models"]
        for target in model["targets"]
    }


@pytest.fixture(autouse=True)
def checkout_on_the_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_the_others_go_on(project):
    done, data = build(project)
    assert done.returncode == data["exit_code"] == 2
    assert verdicts(data) == {"bad": "failed", "good": "accepted"}
    assert (project / "build/two/good/linux-x86-64/ort/model.ort").is_file()
    assert not (project / "edgedeploy.lock").exists()
    assert "Traceback" not in done.stderr


def test_fail_fast_names_what_it_left_out(project):
    done, data = build(project, "--fail-fast", "--jobs", "1")
    assert done.returncode == 2
    assert verdicts(data)["bad"] == "failed"
    left = [
        item["code"]
        for model in data["build"]["models"]
        if model["name"] == "good"
        for target in model["targets"]
        for item in target["diagnostics"]
    ]
    # Where the good model was quicker than the bad one, nothing is left out.
    assert left in (["E389"], [])
    assert "Traceback" not in done.stderr
