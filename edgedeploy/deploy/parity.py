"""What an artifact answers on a device, against what the float model answered here."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedeploy.measuring import Session
from edgedeploy.parity.evaluation import Evaluation
from edgedeploy.runner import Closing, Evidence
from edgedeploy.signature import Signature

if TYPE_CHECKING:
    import numpy as np

    from edgedeploy.decode import Decoder


def evaluate_answers(
    session: Session, answers: Path, samples: int | None, evidence: Evidence
) -> Evaluation:
    """Return how the answers of a device compare with the float model's, and what they score.

    Args:
        session: Whose samples and float answers they belong to.
        answers: Tensor pack of the device's answers to the first samples.
        samples: How many of them it was asked; None: all.
        evidence: What the device's answers are worth.

    Raises:
        DataError: The metric cannot be used, or the packs do not belong together (E290).
    """
    from edgedeploy.parity.evaluate import evaluate

    reference = session.reference
    score = json.loads((reference.score / "evaluation.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="parity-") as name:
        asked, wanted = Path(name, "asked"), Path(name, "wanted")
        ids = _first(session.samples, samples, asked)
        _first(reference.outputs, samples, wanted)
        whole = Evaluation.from_json(score)
        scores = tuple(item for item in whole.scores if item.id in ids)
        # What has other shapes is refused for that; a metric could not even be computed.
        fits = _fits(answers, wanted)
        return evaluate(
            Replay(answers, session.signature, evidence),
            asked,
            wanted,
            reference.metric if fits else None,
            state=session.state if fits else (),
            metadata=reference.metadata,
            scores_reference=replace(whole, scores=scores),
            folder=reference.folder,
            decoder=_decoder(session),
        )


def _decoder(session: Session) -> Decoder | None:
    """Return what reads the model's outputs; None where the profile says nothing of it."""
    from edgedeploy.decode import make_decoder

    reference = session.reference
    if reference.decode is None:
        return None
    return make_decoder(
        reference.decode,
        outputs=[output.name for output in session.signature.outputs],
        metadata=reference.metadata,
        classes=reference.classes,
    )


def _first(pack: Path, count: int | None, goal: Path) -> frozenset[str]:
    """Write the first samples of a pack as one of their own; return their names."""
    from edgedeploy.data.pack import PackReader, PackWriter

    goal.mkdir()
    reader = PackReader(pack)
    ids = []
    with PackWriter(goal) as writer:
        for position in range(min(len(reader), count or len(reader))):
            sample = reader[position]
            ids.append(sample.id)
            writer.add(
                sample.id,
                sample.tensors(),
                truth=sample.truth,
                sequence=sample.sequence,
                geometry=sample.geometry,
            )
    return frozenset(ids)


def _fits(answers: Path, wanted: Path) -> bool:
    """Whether a device gave every output that the float model gave, in its shape."""
    from edgedeploy.data.pack import PackReader

    for given, needed in zip(PackReader(answers), PackReader(wanted), strict=True):
        found = {name: value.shape for name, value in given.tensors().items()}
        if any(found.get(name) != value.shape for name, value in needed.tensors().items()):
            return False
    return True


class Replay(Closing):
    """A runner that gives recorded answers, in order, whatever it is asked.

    Args:
        answers: Tensor pack, one sample per run.
        signature: Of the model.
        evidence: What the answers are worth.
    """

    def __init__(self, answers: Path, signature: Signature, evidence: Evidence) -> None:
        from edgedeploy.data.pack import PackReader

        self._answers: Iterator[Mapping[str, np.ndarray]] = (
            sample.tensors() for sample in PackReader(answers)
        )
        self._signature = signature
        self._evidence = evidence

    @property
    def signature(self) -> Signature:
        """The inputs and outputs of the model."""
        return self._signature

    @property
    def evidence(self) -> Evidence:
        """What the answers are worth."""
        return self._evidence

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the next answer."""
        return dict(next(self._answers))

    def close(self) -> None:
        """Do nothing: nothing is loaded."""
