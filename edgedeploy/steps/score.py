"""Stage ``score``: what the outputs of a pipeline with the float models are worth."""

from __future__ import annotations

import json

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Write the evaluation of the pack ``inputs.outputs`` against the truth of the samples."""
    from edgedeploy.data.pack import PackReader
    from edgedeploy.parity.pipeline import score_outputs
    from edgedeploy.profile.expand import metric_from_data

    metric = metric_from_data(work.params["metric"])
    if metric is None:  # the profile is refused without one; this tells the type checker
        return Made()
    if metric.runs_user_code:
        work.observe()
    samples, outputs = map(PackReader, (work.inputs["samples"], work.inputs["outputs"]))
    evaluation = score_outputs(
        ((sample, made.tensors()) for sample, made in zip(samples, outputs, strict=True)),
        metric,
        folder=work.project,
    )
    text = json.dumps(evaluation.to_json(), sort_keys=True, ensure_ascii=False)
    (work.outputs["score"] / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    found = evaluation.metric
    return Made(summary={"samples": evaluation.samples, "metric": found and found.value})


STAGE = StageKind(
    kind="score",
    run=run,
    outputs=("score",),
    tools=("numpy",),
    code=("data/pack", "parity"),
)
