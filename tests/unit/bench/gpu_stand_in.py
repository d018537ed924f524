"""What the tests of engines share: the stand-ins, built, and models for them."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.bench.job import BenchArtifact
from edgedeploy.bench.onboard import PythonOnboard
from edgedeploy.data.pack import PackWriter
from edgedeploy.devices.local import LocalRemote
from edgedeploy.remote import DeviceRuntime

STUBS = Path(__file__).parents[2] / "stubs" / "gpu"
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def build(folder: Path, name: str, soname: str) -> None:
    """Build a stub library; the test is skipped without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    subprocess.run(
        [
            compiler,
            "-shared",
            "-fPIC",
            "-O1",
            "-Wall",
            "-Werror",
            "-o",
            folder / soname,
            STUBS / name,
        ],
        check=True,
        timeout=120,
    )


def environment(libraries: Path, version: str = "10.3.0", **more: str) -> dict[str, str]:
    """Return the variables under which the stand-ins are found."""
    return {
        "LD_LIBRARY_PATH": str(libraries),
        "PYTHONPATH": str(STUBS),
        "EDGEDEPLOY_STAND_IN_TENSORRT": version,
        **more,
    }


def script(text: str, variables: dict[str, str], *arguments: str) -> Any:
    """Run a program in a process of its own; return what it printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", text, *arguments],
        env={**os.environ, **variables, "PYTHONPATH": f"{STUBS}:{STUBS.parents[2]}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def onboard(root: Path, variables: dict[str, str]) -> PythonOnboard:
    """Return what runs engines on this machine as a device."""
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    runtime = DeviceRuntime(
        family="tensorrt",
        kind="python",
        version=variables.get("EDGEDEPLOY_STAND_IN_TENSORRT", ""),
        command=f"env {given} {shlex.quote(sys.executable)}",
        provisioned=None,
    )
    return PythonOnboard(LocalRemote("orin"), runtime, str(root / "scratch"))


def model_of(nodes: list[Any], inputs: Any, outputs: Any, **constants: np.ndarray) -> bytes:
    """Return a model: inputs and outputs are ``(name, type, dims)``."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return made


def engine_of(model: bytes, version: str = "10.3.0", **about: Any) -> bytes:
    """Return a stand-in's engine, as its ``stand_in_engine`` makes it."""
    head = {"version": version, "profiles": None, "types": None, "on_host": [], **about}
    return b"edgedeploy stand-in engine\n" + json.dumps(head).encode() + b"\n" + model


def artifact(folder: Path, engine: bytes, name: str = "fp16", **fields: Any) -> BenchArtifact:
    """Write an engine and return it as an artifact, with its digest and provenance."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.engine"
    path.write_bytes(engine)
    found = hashlib.sha256(engine).hexdigest()
    platform = {"tensorrt": "10.3.0", "gpu": "Orin", "compute_capability": "8.7"}
    about = {"schema": 1, "sha256": found, "simulated": True, "platform": platform}
    (folder / "engine.json").write_text(json.dumps(about))
    given = {"family": "tensorrt", "path": path, "files": (path,), "sha256": found, **fields}
    return BenchArtifact(id=name, **given)


def pack_of(folder: Path, *samples: dict[str, np.ndarray], sequence: str | None = None) -> Path:
    """Write a tensor pack."""
    folder.mkdir()
    with PackWriter(folder) as writer:
        for number, tensors in enumerate(samples):
            writer.add(str(number), tensors, sequence=sequence)
    return folder
