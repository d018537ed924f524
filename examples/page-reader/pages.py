"""Rendered pages whose text is known exactly: `(inputs, truth)` for the profile's two data roles.

`calibration` and `evaluation` yield `{"image": uint8 [256, 320, 3] RGB}` and the page's lines,
joined by line feeds. Both are deterministic and share no page. `python pages.py FOLDER 8` writes
the first eight pages of the evaluation as pictures, with their text beside them.
"""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HEIGHT_PX, WIDTH_PX = 256, 320
MARGIN_PX = 16
NOISE_LEVELS = 12.0  # of 255, either way
WORDS = (
    "amber basin cable delta engine fabric garden harbor island jacket kernel ladder market "
    "needle orange planet quartz river signal timber update valley window yellow zipper"
)

Page = tuple[dict[str, np.ndarray], str]


def calibration(pages: int) -> Iterator[Page]:
    """Yield the pages that activation ranges are taken from."""
    return (page(seed) for seed in range(1000, 1000 + pages))


def evaluation(pages: int) -> Iterator[Page]:
    """Yield the pages that the metric is computed on."""
    return (page(seed) for seed in range(pages))


def page(seed: int) -> Page:
    """Return one page and its text: three or four lines, each in a size of its own."""
    source = random.Random(seed)
    ink, paper = source.randint(0, 70), source.randint(190, 255)
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (paper, paper, paper))
    draw = ImageDraw.Draw(image)
    lines, top = [], source.randint(10, 20)
    for _ in range(source.randint(3, 4)):
        size = source.randint(20, 28)
        font = ImageFont.load_default(size=size)
        text = _text(source)
        while draw.textlength(text, font=font) > WIDTH_PX - 2 * MARGIN_PX:
            text = _text(source)
        left = source.randint(MARGIN_PX, WIDTH_PX - MARGIN_PX - int(draw.textlength(text, font)))
        draw.text((left, top), text, (ink, ink, ink), font=font)
        lines.append(text)
        top += size + source.randint(22, 30)
    noise = np.random.Generator(np.random.PCG64(seed)).uniform(
        -NOISE_LEVELS, NOISE_LEVELS, (HEIGHT_PX, WIDTH_PX, 3)
    )
    pixels = np.clip(np.asarray(image, np.float64) + noise, 0, 255).astype(np.uint8)
    return {"image": pixels}, "\n".join(lines)


def _text(source: random.Random) -> str:
    """Return words, a number, or a code."""
    kind = source.randrange(3)
    if kind == 0:
        return " ".join(source.choices(WORDS.split(), k=source.randint(1, 3)))
    if kind == 1:
        return f"{source.choice(WORDS.split()).title()} {source.randint(1, 9999)}"
    letters = "".join(source.choices("ABCDEFGHKLMNPRSTUVWXYZ", k=3))
    return f"{letters}-{source.randint(100, 99999)}"


def main() -> None:
    """Write pages as pictures, and their text."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for number, (inputs, text) in enumerate(evaluation(count)):
        Image.fromarray(inputs["image"]).save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
