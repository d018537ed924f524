"""``task: embed``: one vector per sample, compared by its direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedeploy.parameters import Parameters
from edgedeploy.signature import Signature
from edgedeploy.tasks import Guess, Preset, Words, output_dims


def _expand(given: Parameters, model: Mapping[str, Any]) -> Words:
    normalise = given.get("normalise", bool, True)
    metric = "pearson" if given.get("scored_pairs", bool, False) else "cosine"
    return {
        "metric": {"name": metric},
        "decode": {"name": "vector", "parameters": {"normalise": normalise}},
        # The correlation is a score, not a share: it has no points.
        "gates": {"metric": "-0.01 abs" if metric == "pearson" else "-1 pt"},
    }


def _guess(signature: Signature, metadata: Mapping[str, str]) -> Guess | None:
    dims = output_dims(signature)
    return "perhaps" if len(dims) == 2 and isinstance(dims[1], int) and dims[1] >= 64 else None


PRESET = Preset(
    name="embed",
    summary="one vector per sample",
    parameters={
        "normalise": "false keeps the vector's length; else it is 1",
        "scored_pairs": "true where the truth is the similarity of pairs: the metric is `pearson`",
    },
    answer="vector",
    expand=_expand,
    guess=_guess,
)
