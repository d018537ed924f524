"""What `quantize: auto` ships for five real models, without hand tuning.

    python benchmarks/auto.py [NAME...] [--write docs/auto.md] [--bench off|quick|full]

Needs the environment of `make test-torch` (.venv-torch): two of the models are exported from torch.
Each project is copied into a scratch folder and built with a store of its own, so nothing is
reused. The goals are upper limits of what a user may lose: `met` means that an integer scheme was
shipped within them, and that at least 80 % of its multiply-adds run in integer kernels. Evaluation
data is disjoint from calibration data; a build checks that.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "benchmarks/models"
# What keeps the numbers of the float model.
PLAIN = ("float", "fp16")
LEAST_INTEGER = 0.8


@dataclass(frozen=True, kw_only=True)
class Case:
    """One real model.

    Attributes:
        project: Folder with the profile and its data functions.
        profile: File in it.
        prepare: Script that writes models or data into the copy, with its arguments.
        loss: How much worse the metric may get, in its own unit (points / 100 for fractions).
        size: Largest share of the float artifact's size.
        gates: The same as words of the profile.
    """

    title: str
    project: Path
    profile: str
    loss: float
    size: float
    gates: tuple[str, ...]
    prepare: tuple[str, ...] = ()


TARGETS = ("linux-x86-64/ort", "linux-x86-64/openvino")
CASES = {
    "ocr": Case(
        title="PP-OCRv4 line recogniser, CER of rendered lines",
        project=ROOT / "profiles",
        profile="quickstart.yaml",
        loss=0.003,
        size=0.35,
        gates=("gates.metric=+0.3 pt", "gates.size=3.8 MB"),
    ),
    "voice-activity": Case(
        title="Silero VAD, F1 of frames",
        project=ROOT / "examples/voice-activity",
        profile="profile.yaml",
        prepare=("record.py",),
        loss=0.02,
        size=0.5,
        gates=("gates.metric=-2 pt", "gates.size=640 kB"),
    ),
    "file-type": Case(
        title="Magika, accuracy of file types",
        project=ROOT / "examples/file-type",
        profile="profile.yaml",
        loss=0.01,
        size=0.35,
        gates=("gates.metric=-1 pt", "gates.size=1.1 MB"),
    ),
    "sentences": Case(
        title="MiniLM-L6, Pearson correlation with human similarity",
        project=MODELS / "sentences",
        profile="profile.yaml",
        prepare=(str(MODELS / "sentences/export.py"), "."),
        loss=0.01,
        size=0.30,
        gates=(),
    ),
    "photos": Case(
        title="EfficientNet-lite0, top-1 agreement with the float model",
        project=MODELS / "photos",
        profile="profile.yaml",
        prepare=(str(MODELS / "photos/export.py"), "."),
        loss=0.05,
        size=0.35,
        gates=(),
    ),
}


def prepared(case: Case, folder: Path) -> Path:
    """Copy a case's project to ``folder / "project"`` and make its model and data; return it."""
    project = folder / "project"
    shutil.copytree(case.project, project, ignore=shutil.ignore_patterns("build", "*.lock"))
    if case.prepare:
        subprocess.run([sys.executable, *case.prepare], cwd=project, check=True)
    return project


def build(case: Case, folder: Path, bench: str) -> tuple[dict[str, Any], float]:
    """Build a case in ``folder``; return the build document and the seconds it took."""
    project = prepared(case, folder)
    command = [sys.executable, "-m", "edgedeploy", "build", case.profile, "-q"]
    command += ["-o", str(folder / "out"), "--store", str(folder / "store")]
    words = [*case.gates, "quantize=auto", f"bench={bench}", f"targets=[{', '.join(TARGETS)}]"]
    for word in words:
        command += ["--set", word]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{case.title}: the build ended with {done.returncode}\n{done.stderr}")
    (document,) = (folder / "out").glob("*/build.json")
    return json.loads(document.read_text()), time.perf_counter() - started


def row(case: Case, model: dict[str, Any], target: dict[str, Any]) -> list[str]:
    """Return the cells of one target."""
    found = target["evaluation"]
    metric = found["metric"]
    sign = 1 if metric["higher_is_better"] else -1
    loss = sign * (found["float_value"] - metric["value"])
    share = target["size_bytes"] / model["float"]["size_bytes"]
    counts = target["arithmetic"]
    integer = counts["integer_macs"] / counts["macs"] if counts and counts["macs"] else 0.0
    met = target["chosen"] not in PLAIN and loss <= case.loss + 1e-9 and share <= case.size
    met = met and integer >= LEAST_INTEGER and target["verdict"] == "accepted"
    measured = target["bench"]
    ratio = measured and measured["comparison"] and measured["comparison"]["ratio"]
    return [
        target["target"],
        f"`{target['chosen']}`",
        f"{found['float_value']:.4f}",
        f"{metric['value']:.4f}",
        f"{target['size_bytes'] / 1e6:.2f} MB ({share:.0%})",
        f"{integer:.0%}",
        "-" if not ratio else f"{ratio['value']:.2f}",
        str(len(target["candidates"])),
        "yes" if met else "**no**",
    ]


def write_between(page: Path, body: str) -> None:
    """Write results between the two markers of a page."""
    head, rest = page.read_text(encoding="utf-8").split("<!-- results -->")
    _, tail = rest.split("<!-- end of results -->")
    page.write_text(
        f"{head}<!-- results -->\n\n{body}\n<!-- end of results -->{tail}", encoding="utf-8"
    )


HEAD = (
    "target",
    "shipped",
    "float",
    "shipped metric",
    "size",
    "integer multiply-adds",
    "time / float",
    "tried",
    "goals met",
)


def main() -> int:
    """Build what was named, print the table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*CASES, []], help="default: all")
    parser.add_argument("--write", type=Path, help="Markdown file, between its two markers")
    parser.add_argument("--bench", default="quick", choices=["off", "quick", "full"])
    options = parser.parse_args()
    lines = []
    for name in options.names or CASES:
        case = CASES[name]
        with tempfile.TemporaryDirectory(prefix=f"auto-{name}-") as folder:
            document, seconds = build(case, Path(folder), options.bench)
        lines += [f"### {case.title}", ""]
        lines += [
            f"Goals: metric at most {case.loss:g} worse, at most {case.size:.0%} of the size. "
            f"Built from nothing in {seconds:.0f} s.",
            "",
            f"| {' | '.join(HEAD)} |",
            f"|{'---|' * len(HEAD)}",
        ]
        tried = []
        for model in document["models"]:
            for target in model["targets"]:
                lines.append(f"| {' | '.join(row(case, model, target))} |")
                tried += [
                    f"- `{item['name']}` on {target['target']}: {item['state']}"
                    + (f", {item['reason']}" if item["reason"] else "")
                    + (f" ({item['about']})" if "-" in item["name"] else "")
                    for item in target["candidates"]
                ]
        lines += ["", *tried, ""]
        print("\n".join(lines[-len(tried) - 8 :]), flush=True)
    if options.write:
        write_between(options.write, "\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
