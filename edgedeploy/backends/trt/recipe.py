"""How an engine is built of a program: ``program/recipe.json``, which every way of building reads.

Canonical JSON: ``schema`` 1; ``strongly_typed``, always true: types of the graph hold as they are;
``precision``, the types that it computes in; ``layers``, the same for releases that must be told
layer by layer; ``profiles``, sizes ``min``, ``opt`` and ``max`` by input, one entry per profile;
``options``, as :func:`edgedeploy.backends.trt.settings.settings` returns them, without those that
the profiles hold already; ``state``, pairs of state inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.backends.trt.layertypes import LayerTypes
from edgedeploy.backends.trt.profiles import OptimisationProfile
from edgedeploy.backends.trt.program import FOLDER
from edgedeploy.manifest import canonical

RECIPE = f"{FOLDER}/recipe.json"
SCHEMA = 1
IN_PROFILES = ("buckets", "opt")
"""Options that say no more than the optimisation profiles of a recipe."""


def make_recipe(
    types: LayerTypes,
    profiles: Sequence[OptimisationProfile],
    options: Mapping[str, Any],
    state: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Return a recipe as JSON data.

    Args:
        types: What the graph computes in.
        profiles: Its optimisation profiles; none where all sizes are fixed.
        options: The checked options.
        state: State inputs and outputs.
    """
    return {
        "schema": SCHEMA,
        "strongly_typed": True,
        "precision": list(types.types),
        "layers": types.to_json(),
        "profiles": [
            {name: sizes.to_json() for name, sizes in profile.items()} for profile in profiles
        ],
        "options": {name: value for name, value in options.items() if name not in IN_PROFILES},
        "state": [list(pair) for pair in state],
    }


def write_recipe(folder: Path, recipe: Mapping[str, Any]) -> str:
    """Write a recipe beside its program; return its path in the artifact's ``folder``."""
    (folder / RECIPE).write_bytes(canonical(recipe))
    return RECIPE
