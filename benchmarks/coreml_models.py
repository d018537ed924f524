"""What the Core ML packages of ten real models are worth: each one's own metric, by `build`.

    python benchmarks/coreml_models.py [NAME...] [--write docs/coreml-models.md]

Needs the environment of `make test-torch` (.venv-torch): two of the models are exported from torch.
Each model is built with a store of its own for an iOS 17 program in fp16, another in w8a8, and for
ONNX Runtime in w8a8, which tells what is quantization's and what is Core ML's. No gate is set: what
is wanted is the figure. The packages are interpreted, so there are few samples.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import auto

sys.path.insert(0, str(auto.ROOT / "tests/flow"))

import zoo

HALF, INTEGER, BESIDE = "ios17/coreml", "macos14/coreml", "linux-x86-64/ort"
TARGETS = {HALF: "fp16", INTEGER: "w8a8", BESIDE: "w8a8"}
LARGEST_LOSS = 0.005
"""Half a point: how much worse a metric may get in fp16."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One real model.

    Attributes:
        title: What it is and what judges it.
        project: Writes the project into a folder; returns the profile in it.
        words: Changes of the profile: how much data is used.
    """

    title: str
    project: Callable[[Path], Path]
    words: tuple[str, ...] = ()


def shared(name: str, *prepare: str) -> Callable[[Path], Path]:
    """Return what writes a project of ``benchmarks/auto.py``; ``prepare`` replaces its script."""
    case = auto.CASES[name]
    if prepare:
        case = replace(case, prepare=prepare)
    return lambda folder: auto.prepared(case, folder) / case.profile


def drawn(name: str, metric: str = "cosine") -> Callable[[Path], Path]:
    """Return what writes a project around a model of the flow tests, fed with drawings."""
    model = {**zoo.MODELS[name], "metric": metric}
    return lambda folder: zoo.write_profile(folder, name, {"main": model})


def few(source: str, samples: int) -> str:
    """Return the word that evaluates on some samples of a source, taken evenly."""
    return f"model.data.evaluate={{source: '{source}', samples: {samples}}}"


CASES = {
    "rec": Case(title="PP-OCRv4 line recogniser, CER of rendered lines", project=shared("ocr")),
    "det": Case(title="PP-OCRv4 text detector, cosine of the map", project=drawn("det")),
    "cls": Case(
        title="PP-OCR orientation, top-1 agreement with the float model",
        project=drawn("cls", "agreement"),
    ),
    "silero": Case(
        title="Silero VAD, F1 of frames", project=shared("voice-activity", "record.py", "1")
    ),
    "magika": Case(
        title="Magika, accuracy of file types",
        project=shared("file-type"),
        words=("model.data.evaluate.parameters.files=120",),
    ),
    "pnet": Case(title="MTCNN P-Net, cosine of the boxes", project=drawn("pnet")),
    "rnet": Case(title="MTCNN R-Net, cosine of the boxes", project=drawn("rnet")),
    "onet": Case(title="MTCNN O-Net, cosine of the boxes", project=drawn("onet")),
    "efficientnet": Case(
        title="EfficientNet-lite0, top-1 agreement with the float model",
        project=shared("photos"),
        words=(few("evaluate", 40),),
    ),
    "minilm": Case(
        title="MiniLM-L6, Pearson correlation with human similarity",
        project=shared("sentences"),
        words=(few("pairs.py:evaluation", 50),),
    ),
}


def built(
    profile: Path, words: tuple[str, ...], targets: dict[str, str]
) -> tuple[dict[str, Any], float]:
    """Build a profile; return the model's part of the build document, and the seconds it took.

    Args:
        profile: It.
        words: Changes of it.
        targets: What to build, with what ``quantize``.
    """
    folder = profile.parent
    told = ", ".join(f"{name}: {{quantize: {mode}}}" for name, mode in targets.items())
    command = [sys.executable, "-m", "edgedeploy", "build", profile.name, "-q", "--no-bench"]
    command += ["-o", str(folder / "out"), "--store", str(folder / "store")]
    for word in ("gates={}", "quantize=w8a8", f"targets={{{told}}}", *words):
        command += ["--set", word]
    environment = {**os.environ, "PYTHONPATH": str(auto.ROOT), "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{profile.stem}: the build ended with {done.returncode}\n{done.stderr}")
    (document,) = (folder / "out").glob("*/build.json")
    (model,) = json.loads(document.read_text())["models"]
    return model, time.perf_counter() - started


HEAD = (
    "model, metric",
    "n",
    "float",
    "Core ML fp16",
    "within 0.5 points",
    "cosine fp16",
    "Core ML w8a8",
    "ORT w8a8",
    "s",
)


def row(case: Case, model: dict[str, Any], seconds: float) -> list[str]:
    """Return the cells of one model."""
    targets = {target["target"]: target for target in model["targets"]}
    failed = [name for name, target in targets.items() if target["evaluation"] is None]
    if failed:
        raise SystemExit(f"{case.title}: no evaluation of {', '.join(failed)}")
    found = {name: target["evaluation"] for name, target in targets.items()}
    half = found[HALF]
    metric = half["metric"]
    sign = 1 if metric["higher_is_better"] else -1
    loss = sign * (half["float_value"] - metric["value"])
    near = half["parity"][0]["stats"].get("cosine_mean")  # none for an output of one element
    return [
        case.title,
        str(half["n"]),
        f"{half['float_value']:.4f}",
        f"{metric['value']:.4f}",
        "yes" if loss <= LARGEST_LOSS else "**no**",
        "-" if near is None else f"{near:.6f}",
        *(
            f"{found[name]['metric']['value']:.4f}" if name in found else "-"
            for name in (INTEGER, BESIDE)
        ),
        f"{seconds:.0f}",
    ]


def main() -> int:
    """Build what was named, print the table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*CASES, []], help="default: all")
    parser.add_argument("--write", type=Path, help="Markdown file, between its two markers")
    parser.add_argument("--half", action="store_true", help="leave w8a8 out")
    options = parser.parse_args()
    targets = {HALF: TARGETS[HALF]} if options.half else TARGETS
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for name in options.names or CASES:
        case = CASES[name]
        with tempfile.TemporaryDirectory(prefix=f"coreml-{name}-") as folder:
            model, seconds = built(case.project(Path(folder)), case.words, targets)
        lines.append(f"| {' | '.join(row(case, model, seconds))} |")
        print(lines[-1], flush=True)
    if options.write:
        auto.write_between(options.write, "\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
