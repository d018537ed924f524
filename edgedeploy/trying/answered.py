"""What came of trying a file, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.errors import Diagnostic, ExitCode, combined_exit_code
from edgedeploy.runner import Evidence

PIPELINE = "pipeline"
"""What the models together are called among models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One row: what the float model, or one artifact, answers.

    Attributes:
        model: The model's name with its shape variant; ``pipeline`` for all of them together.
        target: None for the float model, which runs here.
        candidate: What was chosen in the last build; empty for the float model.
        verdict: What the last build said of the artifact; empty for the float model.
        device: Name of the device that ran it; None: this machine.
        evidence: Where the answer comes from; ``none`` where there is none.
        answer: :class:`edgedeploy.decode.Answer` as JSON data; None where there is none.
        difference: To the float model's, as :func:`edgedeploy.parity.answers.difference` says.
        picture: File in which the boxes are drawn.
        diagnostics: Why there is no answer.
        exit_code: What that failure deserves.
    """

    model: str
    target: str | None = None
    candidate: str = ""
    verdict: str = ""
    device: str | None = None
    evidence: Evidence = "none"
    answer: Mapping[str, Any] | None = None
    difference: Mapping[str, Any] | None = None
    picture: Path | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    exit_code: ExitCode = ExitCode.DONE

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON data."""
        return {
            "model": self.model,
            "target": self.target,
            "candidate": self.candidate,
            "verdict": self.verdict,
            "device": self.device,
            "evidence": self.evidence,
            "answer": self.answer,
            "difference": self.difference,
            "picture": None if self.picture is None else str(self.picture),
            "diagnostics": [item.to_json() for item in self.diagnostics],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What was answered to a file.

    Attributes:
        file: The file.
        kind: ``picture``, ``sound``, ``text`` or ``arrays``.
        app: Name of the profile.
        rows: By model the float one, then the targets, in the order of the profile.
    """

    file: Path
    kind: str
    app: str
    rows: tuple[Answered, ...]

    @property
    def exit_code(self) -> ExitCode:
        """DONE where every row has its answer; a difference is none of its business."""
        return combined_exit_code(row.exit_code for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "file": str(self.file),
            "kind": self.kind,
            "profile": self.app,
            "rows": [row.to_json() for row in self.rows],
        }
