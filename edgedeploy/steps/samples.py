"""Stage ``samples``: read one data role of the profile into a tensor pack."""

from __future__ import annotations

import json
from pathlib import Path

from edgedeploy.signature import Signature
from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Write the samples of ``params.role`` so that they fit the model's bound signature."""
    from edgedeploy.data.pack import PackReader, overlap, refuse_overlap
    from edgedeploy.data.write import write_pack
    from edgedeploy.profile.dims import parse_dim
    from edgedeploy.profile.expand import input_from_data, role_from_data

    signature = model_signature(work.inputs["model"])
    state = set(work.params["state"])
    role = role_from_data(work.params["role"], work.params["data"])
    if role.runs_user_code:
        work.observe()
    inputs = [spec for spec in signature.inputs if spec.name not in state]
    words = work.params["inputs"]
    report = write_pack(
        role,
        inputs,
        {
            spec.name: input_from_data(spec.name, words[spec.name])
            for spec in inputs
            if spec.name in words
        },
        work.project,
        work.outputs["samples"],
        lambda done, total: work.progress(done, total or 0, "samples"),
        axes=named_axes(work),
        dims={name: parse_dim(text) for name, text in work.params["dims"].items()},
        carried=sorted(state),
    )
    if "calibrate" in work.inputs:
        calibrate, made = map(PackReader, (work.inputs["calibrate"], work.outputs["samples"]))
        refuse_overlap(overlap(calibrate, made))
    data = report.to_json()
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["report"] / "samples.json").write_text(text + "\n", encoding="utf-8")
    del data["files"]
    return Made(summary=data)


def named_axes(work: Work) -> dict[str, tuple[str | None, ...]]:
    """Return the dim name of every axis by input: the profile's, else the user's model's.

    Both speak of the model without baked steps; a baked layout moves its channels to the end.
    """
    from edgedeploy.profile.expand import input_from_data

    facts = json.loads((work.inputs["facts"] / "facts.json").read_text(encoding="utf-8"))
    found = {}
    for spec in Signature.from_json(facts["signature"]).inputs:
        words = work.params["inputs"].get(spec.name)
        axes = (words and words["shape"]) or spec.dims or ()
        image = input_from_data(spec.name, words).image if words else None
        if image is not None and "layout" in image.baked and len(axes) == 4:
            axes = (axes[0], axes[2], axes[3], axes[1])
        found[spec.name] = tuple(axis if isinstance(axis, str) else None for axis in axes)
    return found


def model_signature(folder: Path) -> Signature:
    """Return the signature that the normalise stage wrote beside its model."""
    data = json.loads((folder / "signature.json").read_text(encoding="utf-8"))
    return Signature.from_json(data)


STAGE = StageKind(
    kind="samples",
    run=run,
    outputs=("samples", "report"),
    tools=("numpy", "pillow"),
    code=("data", "signature", "profile/types"),
)
