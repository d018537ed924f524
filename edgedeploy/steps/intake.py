"""Stage ``intake``: check an untrusted model and rewrite it into a private folder."""

from __future__ import annotations

import json

from edgedeploy.errors import ModelError
from edgedeploy.manifest import file_sha256
from edgedeploy.stage import GIB, Limits, Made, StageKind, Work


def run(work: Work) -> Made:
    """Scan ``inputs.model`` (the user's file) and adopt it; its facts go to ``outputs.facts``."""
    from edgedeploy.model import adopt

    source = work.inputs["model"]
    pinned = work.params["sha256"]
    if pinned is not None and file_sha256(source) != pinned:
        raise ModelError(
            f"the file {source.name} is not the one that the profile pins",
            code="E189",
            subject=source.name,
            hint=f"its sha256 is {file_sha256(source)}; change the profile if that is meant",
        )
    facts = adopt(
        source, work.outputs["model"], allow_nonfinite=bool(work.params["allow_nonfinite"])
    )
    data = facts.to_json()
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["facts"] / "facts.json").write_text(text + "\n", encoding="utf-8")
    return Made(
        summary={"sha256": facts.sha256, "nodes": facts.nodes},
        observed=[source.parent / file.location for file in facts.external],
    )


STAGE = StageKind(
    kind="intake",
    run=run,
    outputs=("model", "facts"),
    code=("model",),
    # The pre-parser streams: what a hostile file asks for must not matter. External weights are no
    # input that is known before; they are copied as they lie there.
    limits=Limits(
        memory_bytes=GIB, memory_per_input_byte=2.0, file_bytes=64 * GIB, deadline_s=1800
    ),
)
