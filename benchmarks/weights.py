"""What each way to treat weights gains: five real models, one build of each per way.

    python benchmarks/weights.py [NAME...] [--write docs/weights.md]

The models, data and environment are those of `benchmarks/auto.py`. All layers are integer
(`w8a8`); what a build shares with the one before it comes from the store. `dB` is the
signal-to-noise ratio of the first output against the float model's: finer than a metric over few
samples.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from auto import CASES, ROOT, TARGETS, Case

OFF = {"rounding": "nearest", "bias_correction": False, "smooth": False}
WAYS = {
    "nearest": OFF,
    "bias_correction": {**OFF, "bias_correction": True},
    "second-order": {**OFF, "rounding": "second-order"},
    "smooth": {**OFF, "smooth": True},
    "all three": {"rounding": "second-order", "bias_correction": True, "smooth": True},
}
RANGES = ("average", "choose")


def prepare(case: Case, folder: Path) -> Path:
    """Return a copy of a project in ``folder``, with its model and data."""
    project = folder / "project"
    shutil.copytree(case.project, project, ignore=shutil.ignore_patterns("build", "*.lock"))
    if case.prepare:
        subprocess.run([sys.executable, *case.prepare], cwd=project, check=True)
    return project


def build(case: Case, project: Path, folder: Path, words: dict[str, Any]) -> dict[str, Any]:
    """Build a project and return what became of each target, by its name."""
    command = [sys.executable, "-m", "edgedeploy", "build", case.profile, "-q"]
    command += ["-o", str(folder / "out"), "--store", str(folder / "store")]
    quantize = json.dumps({"mode": "w8a8", **words})
    for word in (f"quantize={quantize}", "bench=off", f"targets=[{', '.join(TARGETS)}]"):
        command += ["--set", word]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{case.title}: the build ended with {done.returncode}\n{done.stderr}")
    (document,) = (folder / "out").glob("*/build.json")
    (model,) = json.loads(document.read_text())["models"]
    return {target["target"]: target["evaluation"] for target in model["targets"]}


def cell(evaluation: dict[str, Any]) -> str:
    """Return the metric, and the signal-to-noise ratio of the first output."""
    ratio = evaluation["parity"][0]["stats"].get("sqnr_db")
    metric = evaluation["metric"]["value"]
    return f"{metric:.4f}" if ratio is None else f"{metric:.4f}, {ratio:.1f} dB"


def main() -> int:
    """Print a table for each model, and write them if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*CASES, []], help="default: all")
    parser.add_argument("--write", type=Path, help="Markdown file, between its two markers")
    options = parser.parse_args()
    lines: list[str] = []
    for name in options.names or CASES:
        case, start = CASES[name], len(lines)
        lines += [f"**{case.title}**", "", f"| target, ranges | float | {' | '.join(WAYS)} |"]
        lines.append("|" + "---|" * (len(WAYS) + 2))
        with tempfile.TemporaryDirectory(prefix=f"weights-{name}-") as scratch:
            folder = Path(scratch)
            project = prepare(case, folder)
            for ranges in RANGES:
                found = {
                    way: build(case, project, folder, {"ranges": ranges, **words})
                    for way, words in WAYS.items()
                }
                for target in TARGETS:
                    cells = [cell(found[way][target]) for way in WAYS]
                    plain = found["nearest"][target]["float_value"]
                    title = f"{target}, {ranges}"
                    lines.append(f"| {title} | {plain:.4f} | {' | '.join(cells)} |")
        lines.append("")
        print("\n".join(lines[start:]), flush=True)
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        head, rest = text.split("<!-- results -->")
        _, tail = rest.split("<!-- end of results -->")
        body = "\n".join(lines)
        options.write.write_text(
            f"{head}<!-- results -->\n\n{body}<!-- end of results -->{tail}", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
