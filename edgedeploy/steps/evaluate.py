"""Stage ``evaluate``: run an artifact over the samples, compare and score it.

What the runtime computes on integers is counted here too: it needs a sample, and an artifact must
not depend on one.
"""

from __future__ import annotations

import json

from edgedeploy import backends
from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.reference import model_decoder, model_metadata, state_zeros


def run(work: Work) -> Made:
    """Write the evaluation of ``inputs.artifact`` against ``inputs.reference``."""
    from edgedeploy.data.pack import PackReader
    from edgedeploy.parity.evaluate import evaluate
    from edgedeploy.parity.evaluation import Evaluation
    from edgedeploy.profile.expand import metric_from_data

    metric = metric_from_data(work.params["metric"])
    if metric is not None and metric.runs_user_code:
        work.observe()
    state = [(given, made) for given, made in work.params["state"]]
    score = json.loads((work.inputs["score"] / "evaluation.json").read_text(encoding="utf-8"))
    backend = backends.load(work.params["runtime"])
    with backend.runner(work.inputs["artifact"], options=work.params["options"]) as runner:
        zeros = state_zeros(runner.signature, state)
        evaluation = evaluate(
            runner,
            work.inputs["samples"],
            work.inputs["reference"],
            metric,
            state=state,
            zeros=zeros,
            metadata=model_metadata(work.inputs["facts"]),
            scores_reference=Evaluation.from_json(score),
            folder=work.project,
            decoder=model_decoder(work, runner.signature),
            progress=lambda done, total: work.progress(done, total or 0, "samples"),
        )
    sample = {**zeros, **PackReader(work.inputs["samples"])[0].tensors()}
    arithmetic = backend.arithmetic(work.inputs["artifact"], sample, options=work.params["options"])
    for name, data in (("evaluation", evaluation.to_json()), ("arithmetic", arithmetic.to_json())):
        text = json.dumps(data, sort_keys=True, ensure_ascii=False)
        (work.outputs["evaluation"] / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    found = evaluation.metric
    return Made(summary={"samples": evaluation.samples, "metric": found and found.value})


STAGE = StageKind(
    kind="evaluate",
    run=run,
    outputs=("evaluation",),
    tools=("numpy",),
    code=(
        "data/pack",
        "decode",
        "parameters",
        "parity",
        "profile/classes",
        "runner",
        "steps/reference",
    ),
)
