"""Samples of the flow tests' models; a copy of this file lies beside each profile.

``calibrate`` and ``evaluate`` of every function differ in their seeds alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Inputs = dict[str, np.ndarray]
WORDS = ("amber", "basin", "cable", "delta", "engine", "fabric", "garden", "harbor")


def _drawing(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return shapes and words on a gradient."""
    ramp = np.linspace(rng.integers(0, 120), rng.integers(130, 255), width)
    paper = np.broadcast_to(ramp[None, :, None], (height, width, 3)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(paper))
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = tuple(int(value) for value in rng.integers(0, 255, 3))
        draw.ellipse([x, y, x + width // 4, y + height // 4], fill=colour)
        font = ImageFont.load_default(size=max(8, height // 8))
        draw.text((x // 2, y // 2), str(rng.choice(WORDS)), fill=colour[::-1], font=font)
    return image


def images(
    name: str,
    height: int,
    width: int,
    seed: int,
    count: int = 6,
    layout: str = "nchw",
) -> Iterator[tuple[Inputs, None, str]]:
    """Yield drawings in [-1, 1] for the input ``name``."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        pixels = np.asarray(_drawing(rng, height, width), np.float32) / 127.5 - 1.0
        tensor = pixels.transpose(2, 0, 1) if layout == "nchw" else pixels
        yield {name: tensor[None]}, None, f"{seed}-{number}-{width}"


def widths(
    name: str, height: int, sizes: list[int], seed: int
) -> Iterator[tuple[Inputs, None, str]]:
    """Yield drawings of several widths, in turn."""
    for size in sizes:
        yield from images(name, height, size, seed, count=3)


def speech(
    seed: int, sequences: int = 2, frames: int = 40
) -> Iterator[tuple[Inputs, None, str, str]]:
    """Yield frames of voiced syllables and pauses: 64 samples of context and 512 new ones."""
    for number in range(sequences):
        rng = np.random.default_rng([seed, number])
        samples = 64 + 512 * frames
        time_s = np.arange(samples) / 16000.0
        pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 2.1 * time_s)) / 16000.0
        voice = sum(np.sin(pitch * k) / k**1.2 for k in range(1, 24))
        syllables = (np.sin(2 * np.pi * 3.5 * time_s + number) > -0.2) & (time_s % 1.0 < 0.7)
        wave = 0.15 * voice * syllables + rng.normal(0, 0.01, samples)
        for frame in range(frames):
            part = wave[frame * 512 : frame * 512 + 576].astype(np.float32)
            yield {"input": part[None]}, None, f"{seed}-{number}-{frame}", f"{seed}-{number}"


def files(root: str, part: int) -> Iterator[tuple[Inputs, int, str]]:
    """Yield the first and last 1024 bytes of files of the checkout ``root``; truth is their type.

    Of its own folders alone: environments beside them hold thousands of folders, and what lies
    there is not the same everywhere.
    """
    found = metadata.distribution("magika").locate_file(
        "magika/models/standard_v3_3/config.min.json"
    )
    labels = json.loads(Path(str(found)).read_text())["target_labels_space"]
    types = {".py": "python", ".md": "markdown", ".yaml": "yaml"}
    own = (Path(root, folder) for folder in ("docs", "edgedeploy", "targets"))
    paths = sorted(path for folder in own for path in folder.rglob("*") if path.suffix in types)
    for path in [path for path in paths if path.stat().st_size > 500][part::12][:24]:
        data = path.read_bytes()
        first, last = data[:4096].lstrip()[:1024], data[-4096:].rstrip()[-1024:]
        tokens = np.full((1, 2048), 256, np.int32)
        tokens[0, : len(first)] = list(first)
        tokens[0, 2048 - len(last) :] = list(last)
        yield {"bytes": tokens}, labels.index(types[path.suffix]), path.relative_to(root).as_posix()
