"""``task: vad``: speech or none in each frame, F1 over the frames of whole recordings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedeploy.parameters import Parameters
from edgedeploy.signature import Signature
from edgedeploy.tasks import Guess, Preset, Words, inputs_with, output_dims, without_none


def _expand(given: Parameters, model: Mapping[str, Any]) -> Words:
    decode = {"threshold": given.number("threshold", 0.5, 0, 1), "step": _step_s(model)}
    return {
        "metric": {"name": "f1"},
        "decode": {"name": "speech", "parameters": without_none(decode)},
        "gates": {"metric": "-1 pt"},
    }


def _step_s(model: Mapping[str, Any]) -> float | None:
    """Return the seconds from frame to frame; None where no input is cut into frames."""
    for _, audio in inputs_with(model, "audio"):
        if isinstance(audio, Mapping):
            rate, hop = audio.get("rate"), audio.get("hop", audio.get("frame"))
            if isinstance(rate, int) and isinstance(hop, int) and rate > 0 and hop > 0:
                return hop / rate
    return None


def _guess(signature: Signature, metadata: Mapping[str, str]) -> Guess | None:
    dims = signature.inputs[0].dims if signature.inputs else None
    sound = dims is not None and len(dims) == 2 and signature.inputs[0].dtype == "float32"
    return "perhaps" if sound and output_dims(signature)[1:] == (1,) else None


PRESET = Preset(
    name="vad",
    summary="voice activity: speech or none in each frame",
    parameters={"threshold": "least score of a frame with speech (0.5)"},
    answer="speech",
    expand=_expand,
    guess=_guess,
)
