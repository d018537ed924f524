"""How an engine is built of a program: ``program/recipe.json``, which every way of building reads.

Canonical JSON: ``schema`` 1; ``strongly_typed``, always true: types of the graph hold as they are;
``precision``, the types that it computes in; ``layers``, the same for releases that must be told
layer by layer; ``profiles``, sizes ``min``, ``opt`` and ``max`` by input, one entry per profile;
``options``, as :func:`edgedeploy.backends.trt.settings.settings` returns them; ``state``, pairs of
state inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.backends.trt.layertypes import LayerTypes
from edgedeploy.backends.trt.profiles import OptimisationProfile
from edgedeploy.backends.trt.program import FOLDER
from edgedeploy.manifest import canonical
from edgedeploy.signature import TensorSpec

RECIPE = f"{FOLDER}/recipe.json"
SCHEMA = 1


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
        "options": dict(options),
        "state": [list(pair) for pair in state],
    }


def write_recipe(folder: Path, recipe: Mapping[str, Any]) -> str:
    """Write a recipe beside its program; return its path in the artifact's ``folder``."""
    (folder / RECIPE).write_bytes(canonical(recipe))
    return RECIPE


def input_specs(model: Path) -> tuple[TensorSpec, ...]:
    """Return the inputs of a typed graph, in its order, without its weights."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    weights = {item.name for item in graph.initializer}
    return tuple(_spec(value) for value in graph.input if value.name not in weights)


def _spec(value: Any) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    dims = None
    if tensor.HasField("shape"):
        dims = tuple(
            int(axis.dim_value) if axis.HasField("dim_value") else axis.dim_param or None
            for axis in tensor.shape.dim
        )
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return TensorSpec(name=value.name, dtype=str(kind), dims=dims)
