"""Running the real command line, and what its results are held to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run of the command line."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def codes(self) -> set[str]:
        """The codes of the diagnostics in the JSON document."""
        return {item["code"] for item in self.document["diagnostics"]}


def edgedeploy(*arguments: str | Path, cwd: Path = ROOT, **environment: str) -> Run:
    """Run ``edgedeploy`` in a process of its own; no run may ever show a traceback or a bug."""
    found = subprocess.run(
        [sys.executable, "-m", "edgedeploy", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=900,
        check=False,
    )
    run = Run(code=found.returncode, out=found.stdout, err=found.stderr)
    for sign in ("Traceback (most recent call last)", "E900"):
        assert sign not in run.err + run.out, run.err[-4000:]
    assert run.code != 70, run.err[-4000:]
    return run


def targets_of(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return every target of a build's document by (model, target)."""
    document = json.loads((folder / "build.json").read_text(encoding="utf-8"))
    return {
        (model["name"], target["target"]): target
        for model in document["models"]
        for target in model["targets"]
    }


def cosines(target: dict[str, Any]) -> dict[str, float]:
    """Return the cosine with the float model's of every output that has one."""
    return {
        item["output"]: item["stats"]["cosine"]
        for item in target["evaluation"]["parity"]
        if item["stats"].get("cosine") is not None
    }


# Loads every artifact with the plain runtimes, without a line of ours.
_LOAD = """
import json, sys
from pathlib import Path

import onnxruntime

sys.modules["openvino_telemetry"] = None
import openvino

for name in json.loads(sys.argv[1]):
    if name.endswith(".ort"):
        onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"])
    else:
        openvino.Core().compile_model(name, "CPU")
"""


def check_published(folder: Path, *, sizes: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Check that every artifact of a build lies there whole and loads in a fresh process."""
    entries = []
    for (model, target), said in sizes.items():
        place = folder / model / target
        for file in said["files"]:
            assert (place / file["path"]).stat().st_size == file["size_bytes"]
        entries.append(str(place / ("model.ort" if target.endswith("/ort") else "model.xml")))
    subprocess.run([sys.executable, "-c", _LOAD, json.dumps(entries)], check=True, timeout=300)
