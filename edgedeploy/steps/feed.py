"""Stage ``feed``: read one data role of a pipeline into a tensor pack, its samples as they are."""

from __future__ import annotations

import json

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Write the samples of ``params.role``; those of ``inputs.calibrate`` must be others."""
    from edgedeploy.data.pack import PackReader, overlap, refuse_overlap
    from edgedeploy.data.plain import write_plain_pack
    from edgedeploy.profile.expand import role_from_data

    role = role_from_data(work.params["role"], work.params["data"])
    if role.runs_user_code:
        work.observe()
    report = write_plain_pack(
        role,
        work.project,
        work.outputs["samples"],
        lambda done, total: work.progress(done, total or 0, "samples"),
    )
    if "calibrate" in work.inputs:
        calibrate, made = map(PackReader, (work.inputs["calibrate"], work.outputs["samples"]))
        refuse_overlap(overlap(calibrate, made))
    data = report.to_json()
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["report"] / "samples.json").write_text(text + "\n", encoding="utf-8")
    del data["files"]
    return Made(summary=data)


STAGE = StageKind(
    kind="feed",
    run=run,
    outputs=("samples", "report"),
    tools=("numpy", "pillow"),
    code=("data", "profile/types"),
)
