"""``task: classify``: one class per sample, the answer its best classes by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedeploy.parameters import Parameters
from edgedeploy.signature import Signature
from edgedeploy.tasks import Guess, Preset, Words, output_dims, takes_images, without_none


def _expand(given: Parameters, model: Mapping[str, Any]) -> Words:
    softmax = given.get("softmax", bool, False)
    decode = {"top": given.whole("top", 5, 1, 1000), "softmax": softmax or None}
    return {
        "metric": {"name": "top1"},
        "decode": {"name": "classes", "parameters": without_none(decode)},
        "gates": {"metric": "-1 pt"},
    }


def _guess(signature: Signature, metadata: Mapping[str, str]) -> Guess | None:
    if metadata.get("task") == "classify":  # so does Ultralytics mark what it exports
        return "sure"
    dims = output_dims(signature)
    scores = len(dims) == 2 and isinstance(dims[1], int) and dims[1] > 1
    return "perhaps" if scores and takes_images(signature) else None


PRESET = Preset(
    name="classify",
    summary="one class per sample",
    parameters={
        "top": "how many classes an answer names (5)",
        "softmax": "true where the model gives logits: the answer then shows probabilities",
    },
    answer="classes",
    expand=_expand,
    guess=_guess,
)
