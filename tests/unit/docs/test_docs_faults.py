"""Faults of docs/faults.md that concern a whole build: F08, F70, F71."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

ROOT = Path(__file__).parents[3]
CANARY = "canary-5e1f0c77"
PROFILE = """\
edgedeploy: 1
name: tiny
model:
  source: {{file: tiny.onnx{pin}}}
  data: {{evaluate: {{source: "lines.py:samples", parameters: {{seed: 1}}}}}}
  metric: mse
quantize: none
targets: [linux-x86-64/ort]
"""
FUNCTION = """\
import numpy as np

def samples(seed):
    source = np.random.default_rng(seed)
    for _ in range(4):
        yield {"x": source.random((1, 4), np.float32)}
"""


def project(folder: Path, pin: str = "") -> Path:
    """Write a tiny model with its profile and data function into ``folder``."""
    folder.mkdir(parents=True)
    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3) / 7, "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])],
        [weight],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "tiny.onnx")
    (folder / "profile.yaml").write_text(PROFILE.format(pin=pin))
    (folder / "lines.py").write_text(FUNCTION)
    return folder


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    store = folder.parent / f"store-{folder.name}"
    options = ["--store", str(store), "--json", "--debug", "--events", "events.jsonl"]
    return subprocess.run(
        [sys.executable, "-m", "edgedeploy", "build", "profile.yaml", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        umask=int(environment.get("UMASK", "022"), 8),
    )


def test_f08_another_model_than_the_pinned_one(tmp_path: Path) -> None:
    run = build(project(tmp_path / "a", pin=f", sha256: {'a' * 64}"))
    assert run.returncode == 2
    assert "E189" in run.stdout and "Traceback" not in run.stderr
    assert not list((tmp_path / "a" / "build").rglob("*.ort"))


@pytest.mark.slow
def test_f70_f71_same_bytes_and_no_secrets(tmp_path: Path) -> None:
    """Two users' environments: the same digests, and nothing of either in any file."""
    first = {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo", "UMASK": "077"}
    second = {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "America/Lima", "UMASK": "002"}
    secret = {"AWS_SECRET_ACCESS_KEY": CANARY, "HF_TOKEN": CANARY}
    locks = []
    for name, environment in (("a", first), ("some where/b", second)):
        folder = project(tmp_path / name)
        run = build(folder, **environment, **secret)
        assert run.returncode == 0, run.stderr
        assert CANARY not in run.stdout + run.stderr
        locks.append(json.loads((folder / "edgedeploy.lock").read_text()))
    assert locks[0] == locks[1]
    assert list(locks[0]["profiles"]["tiny"]["artifacts"].values())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    leaking = [path for path in files if CANARY.encode() in path.read_bytes()]
    assert leaking == []
