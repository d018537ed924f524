"""Stage ``samples``: read one data role of the profile into a tensor pack."""

from __future__ import annotations

import json
from pathlib import Path

from edgedeploy.signature import Signature
from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Write the samples of ``params.role`` so that they fit the model's bound signature."""
    from edgedeploy.data.write import write_pack
    from edgedeploy.profile.expand import from_data
    from edgedeploy.profile.types import DataRole, InputSpec

    signature = model_signature(work.inputs["model"])
    state = set(work.params["state"])
    report = write_pack(
        from_data(DataRole, work.params["role"]),
        [spec for spec in signature.inputs if spec.name not in state],
        {name: from_data(InputSpec, data) for name, data in work.params["inputs"].items()},
        work.project,
        work.outputs["samples"],
        lambda done, total: work.progress(done, total or 0, "samples"),
    )
    data = report.to_json()
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["report"] / "samples.json").write_text(text + "\n", encoding="utf-8")
    del data["files"]
    return Made(summary=data)


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
    observes_user_code=True,
)
