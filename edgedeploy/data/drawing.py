"""Boxes drawn on a picture, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.data.readers.images import decode

_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")
"""One per class, and again from the first; each is seen on light and on dark."""

_OF_SIDE = 200
"""A line is this part of the shorter side, and at least two pixels."""


def draw_boxes(picture: Path, boxes: Sequence[Mapping[str, Any]], goal: Path) -> None:
    """Write a copy of a picture with boxes and what stands in them, as PNG.

    Args:
        picture: Image file.
        boxes: ``{"box": [x1, y1, x2, y2], "class": n, "label": text, "score": x}``, in pixels of
            the picture after its EXIF orientation, edges as in :mod:`edgedeploy.decode`; the
            first, the best, is drawn last. A coordinate that is None draws nothing.
        goal: File to write.

    Raises:
        DataError: The picture cannot be decoded (E259).
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(decode(picture, picture.name, gray=False))
    draw = ImageDraw.Draw(image)
    line = max(2, min(image.size) // _OF_SIDE)
    font = ImageFont.load_default(size=max(10, 6 * line))
    for item in reversed(boxes):
        if None in item["box"]:
            continue
        left, top, right, bottom = _within(item["box"], image.size)
        colour = _COLOURS[int(item["class"]) % len(_COLOURS)]
        draw.rectangle((left, top, right, bottom), outline=colour, width=line)
        score = "" if item["score"] is None else f" {item['score']:.2f}"
        text = f"{item['label']}{score}"
        width, height = draw.textbbox((0, 0), text, font=font)[2:]
        low = max(0, top - height - line)
        draw.rectangle((left, low, left + width + line, low + height + line), fill=colour)
        draw.text((left + line // 2, low), text, fill="white", font=font)
    image.save(goal, format="PNG")


def _within(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the first and last pixel of a box, cut at the picture's edges."""
    (x1, y1, x2, y2), (width, height) = box, size
    left, top = (min(max(round(at), 0), most - 1) for at, most in ((x1, width), (y1, height)))
    right, bottom = (min(round(at), most) - 1 for at, most in ((x2, width), (y2, height)))
    return left, top, max(left, right), max(top, bottom)
