"""Running an artifact over the evaluation samples once, streaming."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from edgedeploy.data.pack import PackReader, PackWriter, Sample
from edgedeploy.decode import Decoder
from edgedeploy.errors import DataError
from edgedeploy.parity.compare import Comparer
from edgedeploy.parity.drift import DriftWatch
from edgedeploy.parity.evaluation import Evaluation, SampleScore
from edgedeploy.parity.metrics import Case, Metric, Options, make_metric
from edgedeploy.parity.scoring import defined, pair, summarise
from edgedeploy.profile.types import MetricSpec
from edgedeploy.runner import Evidence, Runner, StateCarrier

Progress = Callable[[int, int | None], None]
"""Called with the samples done and their total."""


def run_samples(
    runner: Runner,
    samples: PackReader,
    *,
    state: Sequence[tuple[str, str]] = (),
    zeros: Mapping[str, np.ndarray] | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[Sample, dict[str, np.ndarray]]]:
    """Yield every sample with the outputs for it, state carried along sequences.

    Args:
        runner: The loaded artifact.
        samples: The samples, without state inputs.
        state: ``(state input, state output)`` names.
        zeros: The state at the start of a sequence, by state input.
        progress: Told after each sample.

    Raises:
        BuildError: The runtime failed.
        DataError: An output is no tensor (E287).
    """
    carrier = StateCarrier(state, zeros or {})
    for position, sample in enumerate(samples):
        outputs = runner.run(carrier.feed(sample.tensors(), sample.sequence))
        carrier.keep(outputs)
        for name, value in outputs.items():
            if not isinstance(value, np.ndarray):
                raise DataError(
                    f"output '{name}' is a {type(value).__name__}, not a tensor",
                    code="E287",
                    subject=name,
                    hint="Name the tensors that you need under `outputs:` in the profile.",
                )
        yield sample, outputs
        if progress:
            progress(position + 1, len(samples))


class Scorer:
    """Collects the metric's records; does nothing without a metric.

    Args:
        default_output: What is scored where the metric names no output.
        spec: What is measured.
        metadata: The model's metadata, for parameters ``metadata:KEY``.
        folder: The profile's folder, for user functions.
        decoder: How the model's outputs become an answer; None where nothing says it.
    """

    def __init__(
        self,
        default_output: str,
        spec: MetricSpec | None,
        metadata: Mapping[str, str] | None,
        folder: Path | None,
        decoder: Decoder | None,
    ) -> None:
        self._spec = spec
        self._scores: list[SampleScore] = []
        self.metric: Metric | None = None
        if spec is not None:
            self.metric = make_metric(
                Options(
                    spec=spec,
                    default_output=default_output,
                    metadata=metadata or {},
                    folder=folder or Path(),
                    decoder=decoder,
                )
            )

    def add(
        self,
        sample: Sample,
        outputs: Mapping[str, np.ndarray],
        reference: Mapping[str, np.ndarray] | None,
    ) -> None:
        """Score one sample's outputs.

        Raises:
            DataError: The truth is missing (E286) or the output does not suit (E287).
        """
        if self.metric is None:
            return
        record = self.metric.score(
            Case(
                id=sample.id,
                outputs=outputs,
                truth=sample.truth,
                reference=reference,
                geometry=sample.geometry,
            )
        )
        if record is not None:
            value = defined(self.metric.value([record]))
            self._scores.append(
                SampleScore(id=sample.id, sequence=sample.sequence, value=value, record=record)
            )

    def evaluation(
        self,
        samples: int,
        evidence: Evidence,
        comparer: Comparer,
        scores_reference: Evaluation | None = None,
        drift: DriftWatch | None = None,
    ) -> Evaluation:
        """Return the evaluation of all samples.

        Args:
            samples: How many there were.
            evidence: Where the outputs come from.
            comparer: How they compare with the float model's.
            scores_reference: The float model's evaluation, for the paired comparison.
            drift: The error along sequences; None for a model without a state.

        Raises:
            DataError: The scores are of other samples (E290).
        """
        result, paired = None, None
        if self.metric is not None and self._spec is not None:
            self.metric.finish()
            result = summarise(self._spec.name, self.metric, self._scores)
            if scores_reference is not None:
                paired = pair(self.metric, self._scores, scores_reference.scores)
        return Evaluation(
            samples=samples,
            evidence=evidence,
            outputs=comparer.results(),
            findings=comparer.findings(),
            metric=result,
            paired=paired,
            scores=tuple(self._scores),
            drift=drift.results() if drift is not None else (),
        )


def _default_output(runner: Runner, metric: MetricSpec | None) -> str:
    """Return the output that a metric scores where it names none: the model's first."""
    return "" if metric is None else runner.signature.outputs[0].name


def evaluate(
    runner: Runner,
    samples: Path,
    reference: Path | None,
    metric: MetricSpec | None,
    *,
    state: Sequence[tuple[str, str]] = (),
    zeros: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, str] | None = None,
    scores_reference: Evaluation | None = None,
    folder: Path | None = None,
    decoder: Decoder | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the artifact over the samples and return how it compares and what it scores.

    Args:
        runner: The loaded artifact.
        samples: Pack of samples (:func:`edgedeploy.data.write.write_pack`).
        reference: Pack of the float model's outputs (:func:`record_reference`); None compares
            nothing.
        metric: What is measured; None measures nothing.
        state: ``(state input, state output)`` names.
        zeros: The state at the start of a sequence, by state input.
        metadata: The model's metadata, for parameters ``metadata:KEY``.
        scores_reference: The float model's evaluation, for the paired comparison.
        folder: The profile's folder, for user functions.
        decoder: The model's, which metrics of answers then read; None where it has none.
        progress: Told after each sample.

    Raises:
        DataError: The packs do not belong together (E290), or the metric cannot be used.
        BuildError: The runtime failed.
    """
    pack = PackReader(samples)
    wanted = None if reference is None else PackReader(reference)
    if wanted is not None and [item.id for item in wanted] != [item.id for item in pack]:
        raise DataError(
            "the recorded float outputs are of other samples",
            code="E290",
            subject=str(reference),
            hint="Run the build again, so that both come from the same data.",
        )
    scorer = Scorer(_default_output(runner, metric), metric, metadata, folder, decoder)
    comparer, drift = Comparer(), DriftWatch() if state else None
    runs = run_samples(runner, pack, state=state, zeros=zeros, progress=progress)
    for position, (sample, outputs) in enumerate(runs):
        expected = None if wanted is None else wanted[position].tensors()
        if expected is not None:
            comparer.add(sample.id, outputs, expected)
            if drift is not None:
                drift.add(sample.sequence, outputs, expected)
        scorer.add(sample, outputs, expected)
    return scorer.evaluation(len(pack), runner.evidence, comparer, scores_reference, drift)


def record_reference(
    runner: Runner,
    samples: Path,
    out: Path | None,
    metric: MetricSpec | None = None,
    *,
    state: Sequence[tuple[str, str]] = (),
    zeros: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, str] | None = None,
    folder: Path | None = None,
    decoder: Decoder | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the float model over the samples, write its outputs as a pack, return its scores.

    Metrics of closeness compare the float model with itself here.

    Args:
        runner: The float model.
        samples: Pack of samples.
        out: Existing empty folder for the pack of outputs; None keeps no outputs.
        metric: What is measured; None measures nothing.
        state: As for :func:`evaluate`, like all further arguments.
        zeros: As for :func:`evaluate`.
        metadata: As for :func:`evaluate`.
        folder: As for :func:`evaluate`.
        decoder: As for :func:`evaluate`.
        progress: As for :func:`evaluate`.

    Raises:
        DataError: The metric cannot be used.
        BuildError: The runtime failed.
    """
    pack = PackReader(samples)
    scorer = Scorer(_default_output(runner, metric), metric, metadata, folder, decoder)
    with nullcontext() if out is None else PackWriter(out) as writer:
        for sample, outputs in run_samples(
            runner, pack, state=state, zeros=zeros, progress=progress
        ):
            if writer is not None:
                writer.add(sample.id, outputs, sequence=sample.sequence)
            scorer.add(sample, outputs, outputs)
    return scorer.evaluation(len(pack), runner.evidence, Comparer())
