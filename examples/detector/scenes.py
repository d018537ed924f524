"""Pictures for the detector: scikit-learn's handwritten digits scattered over its two photographs.

`scene` makes one picture with the boxes of its digits; the same generator state gives the same
picture. The photographs are in every part of the data, the handwriting of each digit in one only.
"""

from typing import Literal

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

Part = Literal["train", "calibrate", "evaluate"]

SIDES = 20, 44
"""Least and greatest height of a digit in pixels."""

_ATTEMPTS = 20
_CONTRAST = 90
_PARTS: dict[Part, slice] = {
    "train": slice(0, 1200),
    "calibrate": slice(1200, 1400),
    "evaluate": slice(1400, 1797),
}


def photographs() -> list[np.ndarray]:
    """Return the photographs, uint8 `[427, 640, 3]`."""
    return [np.asarray(image) for image in load_sample_images().images]


def handwriting(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Return the digits of one part of the data: `[n, 8, 8]` in 0..1 and classes `[n]`."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))[_PARTS[part]]
    return (data.images[order] / 16).astype(np.float32), data.target[order]


def scene(
    photograph: np.ndarray,
    digits: tuple[np.ndarray, np.ndarray],
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    """Return a picture of the photograph's size and its digits as `(class, [x1, y1, x2, y2])`.

    Args:
        photograph: What lies behind, uint8 `[h, w, 3]`.
        digits: As `handwriting` returns them.
        count: How many digits are tried; fewer where they find no free place.
        rng: Chooses everything.
    """
    picture = photograph.astype(np.float32)
    if rng.random() < 0.5:
        picture = picture[:, ::-1].copy()
    found: list[tuple[int, list[int]]] = []
    for _ in range(count):
        which = int(rng.integers(len(digits[0])))
        ink = _enlarged(digits[0][which], int(rng.integers(SIDES[0], SIDES[1] + 1)), rng)
        box = _free_place(ink.shape, picture.shape, [box for _, box in found], rng)
        if box is None:
            continue
        x1, y1, x2, y2 = box
        behind = picture[y1:y2, x1:x2]
        colour = _colour(behind.mean(axis=(0, 1)), rng)
        behind += ink[..., None] * (colour - behind)
        found.append((int(digits[1][which]), box))
    noise = rng.normal(0, 4, picture.shape).astype(np.float32)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8), found


def _enlarged(digit: np.ndarray, height: int, rng: np.random.Generator) -> np.ndarray:
    """Return how much ink covers each pixel, cut to where there is some."""
    width = max(SIDES[0], round(height * float(rng.uniform(0.8, 1.1))))
    ink = np.asarray(Image.fromarray(digit).resize((width, height), Image.Resampling.BICUBIC))
    ink = np.clip(ink * 1.5, 0, 1)
    rows, columns = np.flatnonzero(ink.max(1) > 0.3), np.flatnonzero(ink.max(0) > 0.3)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _free_place(
    size: tuple[int, ...],
    picture: tuple[int, ...],
    taken: list[list[int]],
    rng: np.random.Generator,
) -> list[int] | None:
    """Return a box of that size that touches no other, or None after some attempts."""
    for _ in range(_ATTEMPTS):
        x = int(rng.integers(picture[1] - size[1] + 1))
        y = int(rng.integers(picture[0] - size[0] + 1))
        box = [x, y, x + size[1], y + size[0]]
        if all(
            box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1]
            for other in taken
        ):
            return box
    return None


def _colour(behind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a colour that is brighter or darker than the mean of what lies behind."""
    while True:
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        if abs(float(colour.mean() - behind.mean())) > _CONTRAST:
            return colour
