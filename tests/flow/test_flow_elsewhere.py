"""Two projects that differ only in what a stage finds when it runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from nasty import NASTY
from running import edgedeploy, targets_of
from zoo import TARGETS, write_profile

pytestmark = pytest.mark.slow


def _build(folder: Path, store: Path, model: dict[str, object]) -> dict[str, str]:
    """Return the digest of every file of the ORT artifact."""
    profile = write_profile(folder, "main", {"main": model}, quantize="none", targets=[TARGETS[0]])
    run = edgedeploy("build", profile, "-o", folder / "build", "--store", store, "--no-bench")
    assert run.code == 0, run.err
    said = targets_of(folder / "build/main")["main", TARGETS[0]]
    return {file["path"]: file["sha256"] for file in said["files"]}


def test_other_weights_beside_the_same_graph(tmp_path: Path) -> None:
    """A retrained model in a new folder: the graph is the same file, only its weights differ."""
    old, new, store = tmp_path / "old", tmp_path / "new", tmp_path / "store"
    old.mkdir()
    NASTY["external_data"](old)
    shutil.copytree(old, new)
    weights = bytearray((new / "weights.bin").read_bytes())
    weights[:4] = b"\x00\x00\x80\x3f"  # 1.0
    (new / "weights.bin").write_bytes(weights)
    model = {"source": "model.onnx"}
    first, second = _build(old, store, model), _build(new, store, model)
    assert first["model.ort"] != second["model.ort"]
    assert _build(old, store, model) == first


def test_a_function_beside_another_module(tmp_path: Path) -> None:
    """Two projects share a data function; the module it imports differs."""
    code = "import scale\nimport numpy as np\n\n\ndef samples():\n    for number in range(4):\n"
    code += "        yield {'x': np.full((1, 4), scale.FACTOR * number, np.float32)}\n"
    store = tmp_path / "store"
    highest = []
    for name, factor in (("old", 1.0), ("new", 5.0)):
        folder = tmp_path / name
        folder.mkdir()
        NASTY["unsorted_graph"](folder)
        (folder / "data.py").write_text(code)
        (folder / "scale.py").write_text(f"FACTOR = {factor}\n")
        model = {"source": "model.onnx", "data": {"evaluate": "data.py:samples"}}
        _build(folder, store, model)
        said = targets_of(folder / "build/main")["main", TARGETS[0]]
        highest.append(said["evaluation"]["parity"][0]["stats"]["reference_high"])
    assert highest[1] == pytest.approx(5 * highest[0])
