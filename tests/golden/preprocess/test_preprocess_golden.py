"""The golden vectors of preprocessing: what we make, and what rational arithmetic says it must be.

The second half knows nothing of our code: every pixel of a result is one double sum of exact
fractions over the picture, by the definitions of docs/preprocessing.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from fractions import Fraction as F
from typing import Any

import pytest

from tests.golden.preprocess.make import VECTORS, text, vectors

CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))
Rows = list[list[list[int]]]
"""Rows of pixels of channels."""


def test_the_committed_vectors_are_what_we_make() -> None:
    made = text(vectors())
    assert VECTORS.read_text(encoding="utf-8") == made, "run make.py, and look at what changed"


def rounded(value: F) -> int:
    """Return the whole number next to a fraction, the upper one of two."""
    return math.floor(value + F(1, 2))


def keys(distance: F) -> F:
    """Return Keys' cubic kernel with a = -3/4."""
    a, d = F(-3, 4), abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else F(0)


def weights(n: int, m: int, i: int, mode: str) -> dict[int, F]:
    """Return how much of each of ``n`` pixels is in pixel ``i`` of ``m``."""
    found: dict[int, F] = {}

    def add(position: int, weight: F) -> None:
        held = min(max(position, 0), n - 1)
        found[held] = found.get(held, F(0)) + weight

    if n == m:  # as each mode gives it, but for rounding that there is none of
        return {i: F(1)}
    centre = F(2 * i + 1, 2) * F(n, m) - F(1, 2)
    left = math.floor(centre)
    if mode == "nearest":
        add(math.floor(F(2 * i + 1, 2) * F(n, m)), F(1))
    elif mode == "bilinear":
        add(left, 1 - (centre - left))
        add(left + 1, centre - left)
    elif mode == "bicubic":
        unit = F(1, 2**14)
        taps = {at: rounded(keys(centre - at) / unit) * unit for at in range(left - 1, left + 3)}
        nearest = left if centre - left < F(1, 2) else left + 1
        taps[nearest] += 1 - sum(taps.values())
        for at, weight in taps.items():
            add(at, weight)
    else:
        low, high = F(i * n, m), F((i + 1) * n, m)
        for at in range(n):
            if max(low, at) < min(high, at + 1):
                add(at, (min(high, at + 1) - max(low, at)) / (high - low))
    return found


def resized(rows: Rows, height: int, width: int, mode: str) -> Rows:
    channels = range(len(rows[0][0]))
    down = [weights(len(rows), height, y, mode) for y in range(height)]
    across = [weights(len(rows[0]), width, x, mode) for x in range(width)]
    return [
        [
            [
                min(max(rounded(sum(
                    (wy * wx * rows[y][x][c] for y, wy in ys.items() for x, wx in xs.items()), F(0)
                )), 0), 255)
                for c in channels
            ]
            for xs in across
        ]
        for ys in down
    ]  # fmt: skip


def fitted(rows: Rows, image: dict[str, Any], fixed: int | None) -> Rows:
    """Return the picture at the input's size."""
    height, width = len(rows), len(rows[0])
    goal_h, goal_w = image["height"], image["width"]
    if goal_w is None:
        free = fixed if image["fit"] != "stretch" else None
        goal_w = free or max(1, rounded(F(width * goal_h, height)))
    if image["fit"] == "stretch":
        return resized(rows, goal_h, goal_w, image["resample"])
    scales = F(goal_h, height), F(goal_w, width)
    scale = max(scales) if image["fit"] == "crop" else min(scales)
    new_h, new_w = max(1, rounded(height * scale)), max(1, rounded(width * scale))
    small = resized(rows, new_h, new_w, image["resample"])
    centred = image["fit"] != "pad"
    top = (goal_h - new_h) // 2 if centred else 0
    left = (goal_w - new_w) // 2 if centred else 0
    border = [image["pad_value"]] * len(rows[0][0])
    return [
        [
            small[y - top][x - left] if 0 <= y - top < new_h and 0 <= x - left < new_w else border
            for x in range(goal_w)
        ]
        for y in range(goal_h)
    ]


def float32(value: F) -> F:
    """Return the float32 next to a fraction, of two the one with the even last bit (IEEE 754)."""
    if value == 0:
        return value
    exponent = math.floor(math.log2(abs(value)))
    while abs(value) < F(2) ** exponent:
        exponent -= 1
    while abs(value) >= F(2) ** (exponent + 1):
        exponent += 1
    unit = F(2) ** (exponent - 23)
    return round(value / unit) * unit  # Python rounds fractions half to even


def channel_values(rows: Rows, image: dict[str, Any]) -> list[list[list[F]]]:
    """Return ``(pixel * scale - mean) / std``, each operation rounded to float32."""

    def of(kind: str, place: int) -> F:
        values = image[kind] or [0.0 if kind == "mean" else 1.0]
        return float32(F(values[place if len(values) > 1 else 0]))

    order = [2, 1, 0] if image["colour"] == "bgr" else list(range(len(rows[0][0])))
    scale = float32(F(image["scale"]))
    return [
        [
            [
                float32(float32(float32(pixel[c] * scale) - of("mean", place)) / of("std", place))
                for place, c in enumerate(order)
            ]
            for pixel in row
        ]
        for row in rows
    ]


def channels(rows: Rows, colour: str) -> Rows:
    """Return gray or RGB of whatever the picture has."""
    gray = colour == "gray"

    def of(pixel: list[int]) -> list[int]:
        if len(pixel) == 1:
            return pixel if gray else pixel * 3
        r, g, b = pixel[:3]
        return [(19595 * r + 38470 * g + 7471 * b + 32768) // 65536] if gray else [r, g, b]

    return [[of(pixel) for pixel in row] for row in rows]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_rational_arithmetic_gives_the_vectors(case: dict[str, Any]) -> None:
    about, image = case["picture"], case["image"]
    data, per = base64.b64decode(about["base64"]), about["channels"]
    pixels = [list(data[at : at + per]) for at in range(0, len(data), per)]
    rows = [pixels[at : at + about["width"]] for at in range(0, len(pixels), about["width"])]
    small = fitted(channels(rows, image["colour"]), image, case["fixed_width"])
    flat = bytes(value for row in small for pixel in row for value in pixel)
    assert hashlib.sha256(flat).hexdigest() == case["fitted_sha256"]

    values = channel_values(small, image)
    if image["layout"] == "nchw":
        planes = range(len(values[0][0]))
        values = [[[pixel[c] for pixel in row] for row in values] for c in planes]
    ordered = [float(value) for part in values for line in part for value in line]
    assert case["shape"] == [1, len(values), len(values[0]), len(values[0][0])]
    kind = "<f" if case["dtype"] == "float32" else "B"
    held = float if kind == "<f" else int
    packed = b"".join(struct.pack(kind, held(value)) for value in ordered)
    assert hashlib.sha256(packed).hexdigest() == case["sha256"]
    assert ordered[: len(case["first"])] == case["first"]
