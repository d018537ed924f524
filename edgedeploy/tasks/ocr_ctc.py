"""``task: ocr/ctc``: a line of text from scores per step, the character error rate over lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedeploy.parameters import Parameters
from edgedeploy.signature import Signature
from edgedeploy.tasks import Guess, Preset, Words, inputs_with, output_dims


def _expand(given: Parameters, model: Mapping[str, Any]) -> Words:
    default = "classes" if model.get("classes") is not None else "metadata:character"
    characters = given.get("characters", (str, list), default)
    return {
        "metric": {"name": "cer"},
        "decode": {"name": "ctc", "parameters": {"characters": characters}},
        "gates": {"metric": "+1 pt"},
        # A line of text is never squeezed: what is shorter is padded.
        "inputs": {name: {"image": {"fit": "pad"}} for name, _ in inputs_with(model, "image")},
    }


def _guess(signature: Signature, metadata: Mapping[str, str]) -> Guess | None:
    return "sure" if "character" in metadata and len(output_dims(signature)) == 3 else None


PRESET = Preset(
    name="ocr/ctc",
    summary="a line of text by CTC",
    parameters={
        "characters": "`metadata:KEY` (`metadata:character`), `classes` (the default where the "
        "model has that file), or a list"
    },
    answer="text",
    expand=_expand,
    guess=_guess,
)
