"""Stage ``intake``: check an untrusted model and rewrite it into a private folder."""

from __future__ import annotations

import json

from edgedeploy.stage import GIB, Limits, Made, StageKind, Work


def run(work: Work) -> Made:
    """Scan ``inputs.model`` (the user's file) and adopt it; its facts go to ``outputs.facts``."""
    from edgedeploy.model import adopt

    source = work.inputs["model"]
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
    # The pre-parser streams: what a hostile file asks for must not matter.
    limits=Limits(memory_bytes=GIB, memory_per_input_byte=2.0, deadline_s=1800),
)
