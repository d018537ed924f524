"""Artifacts built here, run by the oldest ONNX Runtime that targets/runtimes/ort.yaml promises.

The environment `.venv-ort-oldest` holds that runtime and the NumPy of its time, nothing else; the
same worker that evaluates artifacts in a build runs there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.errors import BuildError
from edgedeploy.executor import Builder
from edgedeploy.node import OutputRef
from edgedeploy.opening import Request, open_profile
from edgedeploy.plan import CandidateNodes
from edgedeploy.stage import stage_kind
from edgedeploy.store import Store
from edgedeploy.target.library import TargetLibrary
from edgedeploy.worker.launch import Job, run_job

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ".venv-ort-oldest"
LOCK = ROOT / "requirements" / "ort-oldest.txt"
SAMPLES = 24

PROFILE = """
edgedeploy: 1
name: upside-down
model:
  source:
    package: rapidocr-onnxruntime==1.4.4
    file: rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx
  inputs:
    x: {shape: [1, 3, 48, 192]}
data:
  calibrate: {source: "lines.py:lines", parameters: {seed: 1}}
  evaluate: {source: "lines.py:lines", parameters: {seed: 2}}
metric: top1
targets:
  linux-x86-64/ort: {quantize: none}
  linux-arm64/ort: {quantize: fp16}
  intel-cpu/ort: {quantize: w8a8}
  rpi5/ort: {quantize: w8a8, options: {optimization_style: runtime}}
  rpi4/ort: {quantize: w4}
"""

LINES = f"""
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def lines(seed):
    source = random.Random(seed)
    for _ in range({SAMPLES}):
        image = Image.new("RGB", (192, 48), "white")
        text = "".join(source.choices("abcdefghkmnprtuvwy", k=9))
        ImageDraw.Draw(image).text((8, 8), text, "black", font=ImageFont.load_default(size=28))
        turned = source.randrange(2)
        if turned:
            image = image.rotate(180)
        pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None]
        yield {{"x": pixels / 127.5 - 1}}, turned
"""

pytestmark = pytest.mark.slow


def locked(package: str) -> str:
    """Return the version that the lock pins."""
    found = re.search(rf"^{package}==([^ ]+)", LOCK.read_text(), re.M)
    assert found, f"{LOCK.name} does not pin {package}"
    return found[1]


def suitable(name: str) -> str | None:
    """Return the interpreter's path if it runs, can make environments and has a build there."""
    path = shutil.which(name)  # a version manager's stand-in may be found and yet not run
    asked = [path, "-c", "import ensurepip, sys; print(sys.version_info[:2] in [(3, 11), (3, 12)])"]
    if path is None or subprocess.run(asked, capture_output=True, text=True).stdout != "True\n":
        return None
    return path


@pytest.fixture(scope="session")
def oldest() -> Path:
    """The interpreter of the environment with the oldest runtime, made where there is none."""
    names = (sys.executable, "python3.12", "python3.11")
    python = next(filter(None, map(suitable, names)), None)
    if python is None:
        pytest.skip(
            "needs Python 3.11 or 3.12: "
            f"onnxruntime {locked('onnxruntime')} has no build for a newer one"
        )
    subprocess.run(
        ["sh", "requirements/venv.sh", ENVIRONMENT, LOCK.stem],
        cwd=ROOT,
        env={**os.environ, "PYTHON": python},
        check=True,
        timeout=600,
    )
    return ROOT / ENVIRONMENT / "bin" / "python"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one small real model, for five kinds of `.ort` artifact."""
    folder = tmp_path_factory.mktemp("oldest")
    (folder / "profile.yaml").write_text(PROFILE)
    (folder / "lines.py").write_text(LINES)
    return folder


@pytest.fixture(scope="module")
def built(project: Path) -> Any:
    """What evaluates each target's artifact, and the builder that has done so."""
    plan, _ = open_profile(Request(profile=project / "profile.yaml"))
    with Builder(Store(project / "store"), project) as builder:
        yield builder, {item.use.target: item.candidates[0] for item in plan.items}


def evaluated_in(
    python: Path,
    builder: Builder,
    nodes: CandidateNodes,
    folder: Path,
    artifact: Path | None = None,
) -> dict[str, Any]:
    """Return the evaluation that a worker in another interpreter writes for the same artifact."""
    node = nodes.evaluated
    inputs = {
        name: builder.folder(ref)[1]
        for name, ref in node.inputs.items()
        if isinstance(ref, OutputRef)
    }
    inputs["artifact"] = artifact or inputs["artifact"]
    outputs = {"evaluation": folder / "out"}
    outputs["evaluation"].mkdir()
    (folder / "work").mkdir()
    job = Job(
        node=node.id,
        kind=node.kind,
        params=node.params,
        inputs=inputs,
        outputs=outputs,
        fields=node.fields,
        limits=stage_kind(node.kind).limits.for_inputs(1 << 24),
        project=folder,
        folder=folder / "work",
        interpreter=python,
    )
    run_job(job, stop=threading.Event())
    found: dict[str, Any] = json.loads((folder / "out" / "evaluation.json").read_text())
    return found


def test_the_lock_holds_the_oldest_version_of_the_range(oldest: Path) -> None:
    """The range, the lock and the environment agree, and nothing else is installed there."""
    stated = TargetLibrary(option=(), project=ROOT).load("rpi5/ort").get("runtime.versions")
    minor = locked("onnxruntime").rpartition(".")[0]
    assert stated == f">={minor}"
    told = subprocess.run(
        [oldest, "-c", "import numpy, onnxruntime as o; print(o.__version__, numpy.__version__)"],
        env={"ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [locked("onnxruntime"), locked("numpy")]


@pytest.mark.parametrize(
    ("target", "closeness"),
    [
        ("linux-x86-64/ort", 1 - 1e-6),
        ("linux-arm64/ort", 0.9999),
        ("intel-cpu/ort", 0.99),
        ("rpi5/ort", 0.99),
        ("rpi4/ort", 0.99),
    ],
    ids=["float", "fp16", "w8a8", "w8a8-runtime-optimisations", "w4"],
)
def test_the_oldest_runtime_answers_like_ours(
    target: str, closeness: float, oldest: Path, built: Any, tmp_path: Path
) -> None:
    """Same answers, same score, and outputs as close to the float model as the newest gives."""
    builder, by_target = built
    nodes = by_target[target]
    _, folder = builder.folder(nodes.evaluated.output("evaluation"))
    ours = json.loads((folder / "evaluation.json").read_text())
    theirs = evaluated_in(oldest, builder, nodes, tmp_path)
    assert theirs["samples"] == SAMPLES and not theirs["findings"]
    assert theirs["metric"]["value"] == ours["metric"]["value"]
    assert theirs["scores"] == ours["scores"]
    for here, there in zip(ours["outputs"], theirs["outputs"], strict=True):
        assert min(here["cosine_min"], there["cosine_min"]) >= closeness
        assert here["rmse"] == pytest.approx(there["rmse"], abs=1e-3)


def test_a_refusal_of_the_oldest_runtime_names_it(oldest: Path, built: Any, tmp_path: Path) -> None:
    """A damaged artifact fails there with a typed error; it was that runtime that looked at it."""
    builder, by_target = built
    nodes = by_target["linux-x86-64/ort"]
    broken = tmp_path / "broken"
    shutil.copytree(builder.folder(nodes.compiled.output("artifact"))[1], broken)
    broken.chmod(0o700)
    model = broken / "model.ort"
    model.chmod(0o600)  # as it lies in the store, nobody may write it
    model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    with pytest.raises(BuildError, match=f"onnxruntime {locked('onnxruntime')} ") as caught:
        evaluated_in(oldest, builder, nodes, tmp_path, artifact=broken)
    assert caught.value.diagnostics[0].code == "E317"
