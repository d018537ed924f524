"""``task: kws``: keyword spotting, one of a few words per clip, or none that is certain enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedeploy.parameters import Parameters
from edgedeploy.tasks import Preset, Words, without_none


def _expand(given: Parameters, model: Mapping[str, Any]) -> Words:
    decode = {
        "top": 1,
        "softmax": given.get("softmax", bool, False) or None,
        "threshold": given.number("threshold", 0.5, 0, 1),
    }
    return {
        "metric": {"name": "top1"},
        "decode": {"name": "classes", "parameters": without_none(decode)},
        "gates": {"metric": "-1 pt"},
    }


PRESET = Preset(
    name="kws",
    summary="keyword spotting: a word per clip, or none",
    parameters={
        "threshold": "least score of a word that is answered (0.5); the metric takes the best word",
        "softmax": "true where the model gives logits",
    },
    answer="classes",
    expand=_expand,
)
