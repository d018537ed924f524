"""Golden vectors of the preprocessing of pictures; run as a program, it writes them anew.

A case is a small picture, what a profile declares of the input, and what must come out: geometry,
shape, the SHA-256 of the fitted pixels (uint8, rows of ``[h, w, channels]``) and of the tensor
(little-endian, in its own order), and the tensor's first values to look at.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.data.pixels import Image, arranged, channels_of, fit_image

VECTORS = Path(__file__).with_name("vectors.json")
FIRST = 6
PLAIN: dict[str, Any] = {
    "height": 9,
    "width": 11,
    "fit": "stretch",
    "pad_value": 0,
    "resample": "bilinear",
    "colour": "rgb",
    "layout": "nchw",
    "scale": 1.0,
    "mean": [],
    "std": [],
}
IMAGENET = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# Name, size and channels of the picture, what is declared, and a width that the model has fixed.
CASES: list[tuple[str, tuple[int, int, int], dict[str, Any], int | None]] = [
    *(
        (f"{resample}-{way}", size, {"resample": resample, "layout": "nhwc"}, None)
        for resample in ("nearest", "bilinear", "bicubic", "area")
        for way, size in (("up", (4, 5, 3)), ("down", (21, 34, 3)), ("mixed", (30, 6, 3)))
    ),
    *(
        (f"{fit}-{way}", size, {"fit": fit, "pad_value": 114, "layout": "nhwc"}, None)
        for fit in ("letterbox", "pad", "crop")
        for way, size in (("wide", (7, 23, 3)), ("high", (25, 8, 3)), ("line", (1, 40, 3)))
    ),
    ("same-size", (9, 11, 3), {"layout": "nhwc"}, None),
    ("keep-width", (5, 13, 3), {"width": None, "fit": "pad", "layout": "nhwc"}, None),
    ("keep-stretch", (5, 13, 3), {"width": None, "layout": "nhwc"}, None),
    ("keep-fixed", (5, 13, 3), {"width": None, "fit": "pad", "layout": "nhwc"}, 40),
    ("gray-of-rgb", (7, 8, 3), {"colour": "gray", "scale": 1 / 255}, None),
    ("gray-of-gray", (7, 8, 1), {"colour": "gray", "mean": [127.5], "std": [127.5]}, None),
    ("rgb-of-gray", (7, 8, 1), {**IMAGENET}, None),
    ("rgb-of-rgba", (7, 8, 4), {**IMAGENET, "layout": "nhwc"}, None),
    ("imagenet", (20, 17, 3), {**IMAGENET, "fit": "crop", "resample": "area"}, None),
    ("bgr-caffe", (20, 17, 3), {"colour": "bgr", "mean": [103.939, 116.779, 123.68]}, None),
    ("bgr-bytes", (20, 17, 3), {"colour": "bgr"}, None),
    ("minus-one-to-one", (6, 9, 3), {"scale": 1 / 127.5, "mean": [1.0]}, None),
    ("half", (6, 9, 3), {"scale": 1 / 255, "mean": [0.5], "std": [0.5], "fit": "pad"}, None),
]


def picture(name: str, size: tuple[int, int, int]) -> np.ndarray:
    """Return a picture with edges and noise, from whole numbers alone (SHA-256 as the source)."""
    wanted = size[0] * size[1] * size[2]
    blocks = (hashlib.sha256(f"{name} {at}".encode()).digest() for at in range(wanted // 32 + 1))
    found = np.frombuffer(b"".join(blocks)[:wanted], np.uint8).reshape(size).copy()
    found[: size[0] // 2, : size[1] // 3] = 255
    found[-1, -1] = 0
    return found


def dtype_of(words: dict[str, Any]) -> str:
    """Return the type of a case's tensor: bytes stay bytes where there is no arithmetic."""
    return "float32" if words["scale"] != 1.0 or words["mean"] or words["std"] else "uint8"


def words_of(case: dict[str, Any]) -> Image:
    """Return what a case declares."""
    lists = {key: tuple(case["image"][key]) for key in ("mean", "std")}
    return Image(**{**case["image"], **lists})


def sha256(array: np.ndarray) -> str:
    """Return the digest of an array's bytes, little-endian."""
    ordered = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(ordered.tobytes()).hexdigest()


def vectors() -> list[dict[str, Any]]:
    """Return all cases with what edgedeploy makes of them."""
    found = []
    for name, size, declared, fixed in CASES:
        pixels = picture(name, size)
        case: dict[str, Any] = {
            "name": name,
            "picture": {
                "height": size[0],
                "width": size[1],
                "channels": size[2],
                "base64": base64.b64encode(pixels.tobytes()).decode(),
            },
            "image": PLAIN | declared,
            "fixed_width": fixed,
            "dtype": dtype_of(PLAIN | declared),
        }
        words = words_of(case)
        fitted, geometry = fit_image(channels_of(pixels, words.colour), words, fixed_width=fixed)
        tensor = arranged(fitted[None], words).astype(case["dtype"])
        case["geometry"] = geometry.to_json()
        case["fitted_sha256"] = sha256(fitted)
        case["shape"] = list(tensor.shape)
        case["sha256"] = sha256(tensor)
        case["first"] = tensor.reshape(-1)[:FIRST].tolist()
        found.append(case)
    return found


def text(cases: list[dict[str, Any]]) -> str:
    """Return the file's text: one case a line."""
    lines = ",\n".join(json.dumps(case, sort_keys=True) for case in cases)
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    VECTORS.write_text(text(vectors()), encoding="utf-8")
