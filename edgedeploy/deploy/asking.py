"""Artifacts on a device that answer calls: what a pipeline's models are while it runs here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedeploy.bench.job import BenchArtifact, OutputsJob
from edgedeploy.bench.onboard import Onboard
from edgedeploy.errors import DeviceError
from edgedeploy.measuring import Progress, Session
from edgedeploy.runner import EVIDENCE_ORDER, Evidence

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """An artifact that lies on a device, and what runs it there.

    Attributes:
        session: Whose chosen artifact it is.
        artifact: With absolute paths on the device.
        evidence: What its answers are worth.
    """

    session: Session
    onboard: Onboard
    artifact: BenchArtifact
    evidence: Evidence


class DeviceAsked:
    """Chosen artifacts on one device; each is staged when it is first called.

    Args:
        sessions: By the model's name with its variant.
        samples: How many samples of a pipeline the device is asked; None all.
        ready: Stages a session's artifacts and says what runs the chosen one.
        told: Returns a failure as it may be shown.
        progress: Called with each line of progress.
    """

    def __init__(
        self,
        sessions: Mapping[str, Session],
        samples: int | None,
        ready: Callable[[Session], Ready],
        told: Callable[[DeviceError], DeviceError],
        progress: Progress,
    ) -> None:
        self._sessions = sessions
        self._ready = ready
        self._told = told
        self._progress = progress
        self._known: dict[str, Ready] = {}
        self.samples = samples

    @property
    def evidence(self) -> Evidence:
        """The weakest evidence of the models that answered; ``none`` before the first answer."""
        found = {ready.evidence for ready in self._known.values()}
        return max(found, key=EVIDENCE_ORDER.index, default="none")

    def answer(
        self, model: str, calls: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray]]:
        """Return the answers of a model; see :meth:`edgedeploy.measuring.Asked.answer`."""
        from edgedeploy.data.pack import PackReader, PackWriter

        with tempfile.TemporaryDirectory(prefix="calls-") as name:
            pack, goal = Path(name, "calls"), Path(name, "answers")
            pack.mkdir()
            goal.mkdir()
            with PackWriter(pack) as writer:
                for number, inputs in enumerate(calls):
                    writer.add(str(number), inputs)
            self._outputs(model, goal, lambda session: _job(session, pack))
            return [sample.tensors() for sample in PackReader(goal)]

    def answer_pack(self, model: str, pack: Path, goal: Path) -> None:
        """Write the answers to a pack; see :meth:`edgedeploy.measuring.Asked.answer_pack`."""
        self._outputs(
            model,
            goal,
            lambda session: replace(
                _job(session, pack), state=session.state, zeros=session.zeros()
            ),
        )

    def _outputs(self, model: str, goal: Path, job: Callable[[Session], OutputsJob]) -> None:
        """Write what a model's chosen artifact answers on the device as a pack."""
        try:
            if model not in self._known:
                self._progress({"event": "phase", "phase": "probe"})
                self._known[model] = self._ready(self._sessions[model])
            ready = self._known[model]
            self._progress({"event": "phase", "phase": "outputs", "artifact": model})
            ready.onboard.outputs(
                ready.artifact, job(ready.session), goal, on_progress=self._progress
            )
        except DeviceError as error:
            told = self._told(error)
            if told is error:
                raise
            raise told from error


def _job(session: Session, pack: Path) -> OutputsJob:
    """Return what asks for all outputs of every call, which holds its state itself."""
    specs = session.signature.outputs
    return OutputsJob(
        pack=pack,
        outputs=tuple(spec.name for spec in specs),
        cpus=session.bench.cpus,
        dtypes={spec.name: spec.dtype for spec in specs},
    )
