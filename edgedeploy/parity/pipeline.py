"""What the outputs of a pipeline are worth: its metric alone.

Nothing is said of how far single outputs are from the float ones: those of a pipeline are answers,
such as texts and lists of boxes, whose shapes may differ where a model sees one box less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from edgedeploy.data.pack import PackReader, Sample
from edgedeploy.parity.compare import Comparer
from edgedeploy.parity.evaluate import Scorer
from edgedeploy.parity.evaluation import Evaluation
from edgedeploy.profile.types import MetricSpec
from edgedeploy.runner import Evidence


def score_outputs(
    runs: Iterable[tuple[Sample, Mapping[str, np.ndarray]]],
    metric: MetricSpec,
    *,
    reference: PackReader | None = None,
    scores_reference: Evaluation | None = None,
    evidence: Evidence = "host-runtime",
    folder: Path | None = None,
) -> Evaluation:
    """Return what a pipeline's outputs score, and what they lose against the float models'.

    Args:
        runs: Samples with what the pipeline answers, in order.
        metric: What is measured; the first output by name is scored unless it names another.
        reference: The answers with the float models, one per sample; None where these are they.
        scores_reference: What those score, for the paired comparison.
        evidence: Where the outputs come from: the weakest of the models'.
        folder: The profile's folder, for user functions.

    Raises:
        DataError: The metric cannot be used.
    """
    scorer: Scorer | None = None
    count = 0
    for sample, outputs in runs:
        if scorer is None:
            scorer = Scorer(min(outputs), metric, {}, folder, None)
        expected = outputs if reference is None else reference[count].tensors()
        scorer.add(sample, outputs, expected)
        count += 1
    if scorer is None:  # a pack without a sample is refused where it is made
        return Evaluation(samples=0, evidence=evidence)
    return scorer.evaluation(count, evidence, Comparer(), scores_reference)
