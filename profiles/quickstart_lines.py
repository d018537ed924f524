"""Text lines rendered with Pillow's built-in font: data whose ground truth is known exactly.

``calibration`` and ``evaluation`` yield ``(inputs, truth)``: the input tensor of a PP-OCR line
recogniser and the text that it shows. Both are deterministic and share no text.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HEIGHT_PX = 48
WIDTH_PX = 320
NOISE_LEVELS = 30.0  # of 255, either way
CALIBRATION_LINES = 64
EVALUATION_LINES = 128
WORDS = (
    "amber basin cable delta engine fabric garden harbor island jacket kernel ladder market "
    "needle orange planet quartz river signal timber update valley window yellow zipper "
    "bridge camera device export filter glass height import joint label motor north office "
    "packet quick radio sensor target upper volume water index forest copper silver meadow "
    "winter"
)


def calibration() -> Iterator[tuple[dict[str, np.ndarray], str]]:
    """Yield the lines that activation ranges are taken from."""
    texts = _texts()[:CALIBRATION_LINES]
    return ((_render(text, seed), text) for seed, text in enumerate(texts))


def evaluation() -> Iterator[tuple[dict[str, np.ndarray], str]]:
    """Yield the lines that the metric is computed on; none of them is a calibration line."""
    texts = _texts()[CALIBRATION_LINES:]
    return ((_render(text, seed + CALIBRATION_LINES), text) for seed, text in enumerate(texts))


def _texts() -> list[str]:
    """Return distinct texts of 4 to 20 characters: words, numbers and codes."""
    source = random.Random(20240501)
    words = WORDS.split()
    texts: dict[str, None] = {}
    while len(texts) < CALIBRATION_LINES + EVALUATION_LINES:
        kind = source.randrange(4)
        if kind == 0:
            text = " ".join(source.choices(words, k=source.randint(1, 3)))
        elif kind == 1:
            text = "".join(source.choices(string.digits, k=source.randint(4, 12)))
        elif kind == 2:
            letters = "".join(source.choices(string.ascii_uppercase, k=source.randint(2, 4)))
            text = f"{letters}-{source.randint(100, 99999)}"
        else:
            text = f"{source.choice(words).title()} {source.randint(1, 9999)}"
        if 4 <= len(text) <= 20:
            texts[text] = None
    return list(texts)


def _render(text: str, seed: int) -> dict[str, np.ndarray]:
    """Return ``{"x": [1, 3, 48, 320] float32}``: BGR in [-1, 1], padded with zeros on the right."""
    source = random.Random(seed)
    font = ImageFont.load_default(size=source.randint(14, 26))
    ink, paper = source.randint(0, 80), source.randint(180, 255)
    box = font.getbbox(text)
    width, height = int(box[2] - box[0]) + 2, int(box[3] - box[1]) + 8
    line = Image.new("RGB", (width, height), (paper, paper, paper))
    ImageDraw.Draw(line).text((1 - box[0], 4 - box[1]), text, (ink, ink, ink), font=font)
    width = min(WIDTH_PX, max(1, round(width * HEIGHT_PX / height)))
    line = line.resize((width, HEIGHT_PX), Image.Resampling.BILINEAR)
    pixels = np.asarray(line, np.float32)[:, :, ::-1].transpose(2, 0, 1)
    noise = np.random.Generator(np.random.PCG64(seed)).uniform(
        -NOISE_LEVELS, NOISE_LEVELS, pixels.shape
    )
    pixels = np.clip(pixels + noise.astype(np.float32), 0, 255)
    tensor = np.zeros((1, 3, HEIGHT_PX, WIDTH_PX), np.float32)
    tensor[0, :, :, :width] = (pixels / 255.0 - 0.5) / 0.5
    return {"x": tensor}
