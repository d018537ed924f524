"""A user's checkout with a small model, and a runner whose environment is already installed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.action.composite import Runner

ROOT = Path(__file__).parents[2]
PROFILE = """\
edgedeploy: 1
name: tiny
version: "1.0.0"
model:
  source: tiny.onnx
  licence: MIT
  data: {evaluate: lines.py:samples}
  metric: top1
quantize: none
gates: {size: 1 MB, metric: -1 pt}
targets: [linux-x86-64/ort]
"""
FUNCTION = """\
import numpy as np

def samples():
    source = np.random.default_rng(1)
    for number in range(90):
        noise = source.normal(0, 0.1, (1, 4))
        yield {"x": (noise + np.eye(4)[number % 3]).astype(np.float32)}, number % 3
"""


def save_model(path: Path, *, worse: bool = False) -> None:
    """Write a model that finds the largest of three features; a worse one never finds the third."""
    weights = np.eye(4, 3, dtype=np.float32)
    weights[2, 2] = -1 if worse else 1
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def make_checkout(folder: Path) -> Path:
    """Write a project, in a folder whose name a shell would act on; return its profile."""
    project = folder / "it's $(touch pwned) & more"
    project.mkdir(parents=True)
    save_model(project / "tiny.onnx")
    (project / "lines.py").write_text(FUNCTION)
    (project / "model.yaml").write_text(PROFILE)
    _wheel(folder / "ofus-1.0-py3-none-any.whl")
    (folder / "needs.txt").write_text("./ofus-1.0-py3-none-any.whl\n")
    return (project / "model.yaml").relative_to(folder)


def _wheel(path: Path) -> None:
    """Write a package of the project's own."""
    info = "ofus-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("ofus.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: ofus\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def make_runner(base: Path, workspace: Path, service: Path, *, system: str = "Linux") -> Runner:
    """Return a runner with an empty temporary folder, but for the environment.

    Installing it takes a minute; here it borrows the packages of the environment that runs the
    tests, noted as ``requirements/venv.sh`` notes what it has installed.
    """
    temp = base / "temp"
    shutil.rmtree(temp, ignore_errors=True)
    service.mkdir(exist_ok=True)
    temp.parent.mkdir(exist_ok=True)
    venv = temp / "edgedeploy"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin/python"
    packages = next(venv.glob("lib/python*/site-packages"))
    borrowed = (str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    (packages / "borrowed.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(borrowed)))
    script = f"#!{python}\nfrom edgedeploy.cli.main import main\n\nmain()\n"
    (venv / "bin/edgedeploy").write_text(script)
    (venv / "bin/edgedeploy").chmod(0o755)
    version = subprocess.run(
        [python, "-c", "import platform; print(platform.python_version())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    locks = {"runtime": ("requirements/runtime.txt",), "build": ("requirements/build.txt",)}
    locks["edgedeploy"] = ("pyproject.toml", "edgedeploy/__init__.py")
    lines = [f"python {version} {ROOT}/{venv}"]
    for lock, names in locks.items():
        content = b"".join((ROOT / name).read_bytes() for name in names)
        lines.append(f"{lock} {hashlib.sha256(content).hexdigest()}")
    (venv / "locks").write_text("".join(f"{line}\n" for line in lines))
    return Runner(ROOT, workspace, temp, service, system)
