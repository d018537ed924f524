"""Stage ``outputs``: what an artifact, or several behind a pipeline, gives for samples."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from edgedeploy import backends
from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.reference import state_zeros
from edgedeploy.steps.trace import load_models

if TYPE_CHECKING:
    from pathlib import Path

    from edgedeploy.runner import Evidence, Runner


def run(work: Work) -> Made:
    """Write the outputs for ``inputs.samples`` as a pack; the summary tells the evidence."""
    from edgedeploy.runner import EVIDENCE_ORDER

    loaded: list[Evidence] = []
    with ExitStack() as stack:

        def load(place: Path, words: Mapping[str, Any]) -> Runner:
            backend = backends.load(words["runtime"])
            runner = stack.enter_context(backend.runner(place, options=words["options"]))
            loaded.append(runner.evidence)
            return runner

        if "models" in work.params:
            work.observe()
            models = load_models(
                work, lambda key, words: load(work.inputs[f"artifact.{key}"], words)
            )
            _pipeline(work, models)
        else:
            _model(work, load(work.inputs["artifact"], work.params))
    return Made(summary={"evidence": max(loaded, key=EVIDENCE_ORDER.index)})


def _model(work: Work, runner: Runner) -> None:
    """Write what one artifact gives, state carried along sequences."""
    from edgedeploy.data.pack import PackReader, PackWriter
    from edgedeploy.parity.evaluate import run_samples

    state = [(given, made) for given, made in work.params["state"]]
    zeros = state_zeros(runner.signature, state)
    samples = PackReader(work.inputs["samples"])
    with PackWriter(work.outputs["outputs"]) as writer:
        for sample, outputs in run_samples(runner, samples, state=state, zeros=zeros):
            writer.add(sample.id, outputs, sequence=sample.sequence)


def _pipeline(work: Work, models: Any) -> None:
    """Write what the pipeline's function returns with the artifacts."""
    from edgedeploy.data.pack import PackReader, PackWriter
    from edgedeploy.pipeline import Pipeline

    pipeline = Pipeline(work.params["function"], work.project)
    with PackWriter(work.outputs["outputs"]) as writer:
        for sample in PackReader(work.inputs["samples"]):
            outputs = pipeline.run(sample.tensors(), models, sample.sequence or sample.id)
            writer.add(sample.id, outputs, sequence=sample.sequence)


STAGE = StageKind(kind="outputs", run=run, outputs=("outputs",), tools=("numpy",))
