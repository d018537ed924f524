"""Stage ``pipeline``: run a pipeline with an artifact of each model, and score it as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from edgedeploy import backends
from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.trace import load_models

if TYPE_CHECKING:
    import numpy as np

    from edgedeploy.data.pack import Sample
    from edgedeploy.runner import Runner


def run(work: Work) -> Made:
    """Write the outputs and the evaluation of the artifacts ``inputs.artifact.*`` together."""
    from edgedeploy.data.pack import PackReader, PackWriter
    from edgedeploy.parity.evaluation import Evaluation
    from edgedeploy.parity.pipeline import score_outputs
    from edgedeploy.pipeline import Pipeline
    from edgedeploy.profile.expand import metric_from_data
    from edgedeploy.runner import EVIDENCE_ORDER

    metric = metric_from_data(work.params["metric"])
    if metric is None:  # the profile is refused without one; this tells the type checker
        return Made()
    work.observe()
    pipeline = Pipeline(work.params["function"], work.project)
    samples = PackReader(work.inputs["samples"])
    score = json.loads((work.inputs["score"] / "evaluation.json").read_text(encoding="utf-8"))
    with ExitStack() as stack:
        evidence = set()

        def load(key: str, words: Mapping[str, Any]) -> Runner:
            backend = backends.load(words["runtime"])
            place = work.inputs[f"artifact.{key}"]
            runner = stack.enter_context(backend.runner(place, options=words["options"]))
            evidence.add(runner.evidence)
            return runner

        models = load_models(work, load)
        outputs = stack.enter_context(PackWriter(work.outputs["outputs"]))

        def answered() -> Iterator[tuple[Sample, dict[str, np.ndarray]]]:
            for position, sample in enumerate(samples):
                found = pipeline.run(sample.tensors(), models, sample.sequence or sample.id)
                outputs.add(sample.id, found, sequence=sample.sequence)
                yield sample, found
                work.progress(position + 1, len(samples), "samples")

        evaluation = score_outputs(
            answered(),
            metric,
            reference=PackReader(work.inputs["reference"]),
            scores_reference=Evaluation.from_json(score),
            evidence=max(evidence, key=EVIDENCE_ORDER.index),
            folder=work.project,
        )
    text = json.dumps(evaluation.to_json(), sort_keys=True, ensure_ascii=False)
    (work.outputs["evaluation"] / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    found = evaluation.metric
    return Made(summary={"samples": evaluation.samples, "metric": found and found.value})


STAGE = StageKind(
    kind="pipeline",
    run=run,
    outputs=("evaluation", "outputs"),
    tools=("numpy",),
    code=("data/pack", "parity", "pipeline", "steps/trace"),
)
