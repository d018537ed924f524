"""Stage ``trace``: run a pipeline with the float models; keep what it answers and what it feeds.

What it feeds a model is what that model is calibrated and compared on, one sample per call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.reference import model_metadata, state_zeros
from edgedeploy.steps.samples import model_signature

if TYPE_CHECKING:
    from edgedeploy.data.pack import PackWriter, Sample
    from edgedeploy.pipeline import Models, OnCall
    from edgedeploy.runner import Runner


def run(work: Work) -> Made:
    """Write the outputs for ``inputs.samples``, and a pack of the inputs of each model."""
    from edgedeploy.backends.ortmobile.reference import reference_runner
    from edgedeploy.data.pack import PackReader, PackWriter
    from edgedeploy.pipeline import Pipeline

    work.observe()
    pipeline = Pipeline(work.params["function"], work.project)
    samples = PackReader(work.inputs["samples"])
    with ExitStack() as stack:
        writers = {}
        for key in work.params["record"]:
            folder = work.outputs["traces"] / key
            folder.mkdir()
            writers[key] = stack.enter_context(PackWriter(folder))
        recorder = _Recorder(writers)

        def load(key: str, _: Mapping[str, Any]) -> Runner:
            return stack.enter_context(reference_runner(work.inputs[f"model.{key}"] / "model.onnx"))

        models = load_models(work, load, recorder.call)
        outputs = stack.enter_context(PackWriter(work.outputs["outputs"]))
        for position, sample in enumerate(samples):
            recorder.begin(sample)
            found = pipeline.run(sample.tensors(), models, sample.sequence or sample.id)
            outputs.add(sample.id, found, sequence=sample.sequence)
            work.progress(position + 1, len(samples), "samples")
    return Made(summary={"samples": len(samples), "calls": dict(recorder.calls)})


def load_models(
    work: Work,
    load: Callable[[str, Mapping[str, Any]], Runner],
    on_call: OnCall | None = None,
) -> Models:
    """Return the models of ``params.models`` as a pipeline calls them.

    Args:
        work: Of a stage that has the normal form of each as input ``model.<key>`` and what its
            file says as ``facts.<name>``.
        load: Loads what computes a model, by its key and its part of the parameters.
        on_call: Told of each call.
    """
    from edgedeploy.pipeline import Loaded, Model, Models
    from edgedeploy.profile.dims import parse_dim

    def loaded(words: Mapping[str, Any]) -> Loaded:
        key = words["key"]
        signature = model_signature(work.inputs[f"model.{key}"])
        state = [(given, made) for given, made in words["state"]]
        return Loaded(
            name=key,
            runs=load(key, words),
            signature=signature,
            dims={name: parse_dim(text) for name, text in words["dims"].items()},
            state=state,
            zeros=state_zeros(signature, state),
        )

    return Models(
        {
            name: Model(
                name,
                [loaded(words) for words in variants],
                model_metadata(work.inputs[f"facts.{name}"]),
                on_call,
            )
            for name, variants in work.params["models"].items()
        }
    )


class _Recorder:
    """Writes what the models are fed, one sample per call, named after the pipeline's sample.

    Args:
        writers: By model, with its variant; calls of others are counted alone.
    """

    def __init__(self, writers: Mapping[str, PackWriter]) -> None:
        self._writers = writers
        self._sample = ""
        self._numbers: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def begin(self, sample: Sample) -> None:
        """Note which sample the next calls belong to."""
        self._sample = sample.id
        self._numbers.clear()

    def call(self, key: str, inputs: Mapping[str, Any], sequence: str) -> None:
        """Write a call; those of one sample of the pipeline are one sequence."""
        self.calls[key] += 1
        if key in self._writers:
            name = f"{self._sample}/{self._numbers[key]}"
            self._writers[key].add(name, inputs, sequence=sequence)
            self._numbers[key] += 1


STAGE = StageKind(
    kind="trace",
    run=run,
    outputs=("traces", "outputs"),
    tools=("onnxruntime", "numpy"),
    code=(
        "backends/ortmobile",
        "data/pack",
        "data/usercode",
        "pipeline",
        "profile/dims",
        "runner",
        "signature",
        "steps/reference",
        "steps/samples",
    ),
)
