"""Stage ``normalise``: bring a model to the normal form that every backend builds from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgedeploy.profile.dims import parse_dim
from edgedeploy.profile.expand import baked_images, input_from_data
from edgedeploy.profile.types import DimSpec
from edgedeploy.signature import Dim, Signature
from edgedeploy.stage import Made, StageKind, Work

# What quantization and the passes are written for; older models are brought to it.
OLDEST_OPSET = 17


def run(work: Work) -> Made:
    """Normalise ``inputs.model`` with what the profile says of inputs, dims and outputs."""
    from edgedeploy.passes.normalise import NormaliseOptions, normalise
    from edgedeploy.passes.suppress_boxes import Suppression

    params = work.params
    facts = json.loads((work.inputs["facts"] / "facts.json").read_text(encoding="utf-8"))
    state = [name for pair in params["state"] for name in pair[1:]]
    options = NormaliseOptions(
        dims=bindings(Signature.from_json(facts["signature"]), params),
        constants={
            name: words["value"]
            for name, words in params["inputs"].items()
            if words["value"] is not None
        },
        outputs=(*params["outputs"], *state) if params["outputs"] else (),
        images=baked_images(params["inputs"]) if params["bake"] else {},
        opset=_opset(facts["opsets"].get("", OLDEST_OPSET), params["opset"]),
        suppress=Suppression(**params["suppress"]) if params["suppress"] else None,
    )
    report = normalise(work.inputs["model"] / "model.onnx", work.outputs["model"], options)
    signature = json.dumps(report.facts.signature.to_json(), sort_keys=True, ensure_ascii=False)
    (work.outputs["model"] / "signature.json").write_text(signature + "\n", encoding="utf-8")
    data = report.to_json()
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["report"] / "normalise.json").write_text(text + "\n", encoding="utf-8")
    return Made(
        summary={
            "signature": data["facts"]["signature"],
            "nodes": report.facts.nodes,
            "weight_bytes": report.facts.weight_bytes,
        }
    )


def _opset(own: int, newest: int) -> int:
    """Return the opset of the normal form: the model's own where all stages and targets take it."""
    return min(max(own, OLDEST_OPSET), newest)


def bindings(signature: Signature, params: Mapping[str, Any]) -> dict[str, tuple[Dim, ...]]:
    """Return what is to be bound: per input and axis a size, a name, or None.

    Args:
        signature: The user's model's.
        params: The stage's parameters: ``inputs`` and ``dims`` of the expanded model, and
            ``variant``, the sizes of bucketed dims.
    """
    sizes: dict[str, int] = {
        name: dim.fixed
        for name, dim in ((key, parse_dim(text)) for key, text in params["dims"].items())
        if dim.fixed is not None
    }
    sizes.update(params["variant"])
    found: dict[str, tuple[Dim, ...]] = {}
    for spec in signature.inputs:
        words = params["inputs"].get(spec.name)
        shape = input_from_data(spec.name, words).shape if words else None
        if shape is not None:
            found[spec.name] = tuple(_bound(axis, sizes) for axis in shape)
        elif spec.dims is not None and any(name in sizes for name in spec.dims):
            found[spec.name] = tuple(
                sizes.get(name) if isinstance(name, str) else None for name in spec.dims
            )
    return found


def _bound(axis: int | str | DimSpec, sizes: Mapping[str, int]) -> Dim:
    if isinstance(axis, DimSpec):
        return axis.fixed
    return sizes.get(axis, axis) if isinstance(axis, str) else axis


STAGE = StageKind(
    kind="normalise",
    run=run,
    outputs=("model", "report"),
    tools=("onnx", "onnx-ir", "onnxruntime", "numpy"),
    code=("model", "passes", "profile/dims", "profile/expand", "profile/types", "signature"),
)
