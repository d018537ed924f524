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
from composite import Runner
from onnx import helper, numpy_helper

ROOT = Path(__file__).parents[2]
PROFILE = """\
edgedeploy: 1
name: tiny
model:
  source: tiny.onnx
  data: {evaluate: lines.py:samples}
  metric: agreement
quantize: none
gates: {size: 1 MB}
targets: [linux-x86-64/ort]
"""
FUNCTION = """\
import numpy as np
from ofus import SEED

def samples():
    source = np.random.default_rng(SEED)
    for _ in range(4):
        yield {"x": source.random((1, 4), np.float32)}
"""


def make_checkout(folder: Path) -> Path:
    """Write a project, in a folder whose name a shell would act on; return its profile."""
    project = folder / "it's $(touch pwned) & more"
    project.mkdir(parents=True)
    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3) / 7, "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])],
        [weight],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), project / "tiny.onnx")
    (project / "lines.py").write_text(FUNCTION)
    (project / "model.yaml").write_text(PROFILE)
    _wheel(folder / "ofus-1.0-py3-none-any.whl")
    (folder / "needs.txt").write_text("./ofus-1.0-py3-none-any.whl\n")
    return (project / "model.yaml").relative_to(folder)


def _wheel(path: Path) -> None:
    """Write a package of the project's own, which its data function imports."""
    info = "ofus-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("ofus.py", "SEED = 1\n")
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
