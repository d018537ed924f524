"""``task: detect/yolo``: boxes of a one-stage detector of the YOLO family, as COCO scores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedeploy.parameters import Parameters
from edgedeploy.signature import Signature
from edgedeploy.tasks import Guess, Preset, Words, inputs_with, output_dims, takes_images

_GRAY = 114
"""Value of the border. Source: Ultralytics YOLO, LetterBox."""


def _expand(given: Parameters, model: Mapping[str, Any]) -> Words:
    decode = {
        "objectness": given.get("objectness", bool, False),
        "score": given.number("score", 0.25, 0, 1),
        "iou": given.number("iou", 0.7, 0, 1),
        "nms": given.choice("nms", ("app", "model"), "app"),
    }
    image = {"fit": "letterbox", "pad_value": _GRAY, "scale": "1/255"}
    return {
        "metric": {"name": "map"},
        "decode": {"name": "yolo", "parameters": decode},
        "gates": {"metric": "-1 pt"},
        "inputs": {name: {"image": dict(image)} for name, _ in inputs_with(model, "image")},
    }


def _guess(signature: Signature, metadata: Mapping[str, str]) -> Guess | None:
    if metadata.get("task") == "detect":  # so does Ultralytics mark what it exports
        return "sure"
    sizes = [size for size in output_dims(signature)[1:] if isinstance(size, int)]
    boxes = len(sizes) == 2 and 5 <= min(sizes) < 200 <= max(sizes)
    return "perhaps" if boxes and takes_images(signature) else None


PRESET = Preset(
    name="detect/yolo",
    summary="boxes of the YOLO family",
    parameters={
        "objectness": "true where a score of the box stands before those of the classes (v5, v7)",
        "score": "least score of a box that is answered (0.25)",
        "iou": "overlap above which the weaker of two boxes of a class is dropped (0.7)",
        "nms": "`model`: the model drops them itself; `app`: the app does (the default)",
    },
    answer="boxes",
    expand=_expand,
    guess=_guess,
)
