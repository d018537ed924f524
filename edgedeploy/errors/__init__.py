"""The one error tree, the diagnostic record and the exit-code table.

Every failure that a user can cause or meet is an :class:`EdgedeployError` holding one or more
:class:`Diagnostic`; only ``cli/`` turns them into text and an exit status.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


class ExitCode(enum.IntEnum):
    """Process exit status; documented in docs/faults.md."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    BUILD = 3
    DEVICE = 4
    TOOL = 5
    STORE = 6
    INTEGRITY = 7
    BUG = 70
    INTERRUPTED = 130
    TERMINATED = 143


# Several failures in one run: the first of these that occurred is the exit status.
EXIT_PRECEDENCE: tuple[ExitCode, ...] = (
    ExitCode.BUG,
    ExitCode.INTEGRITY,
    ExitCode.STORE,
    ExitCode.TOOL,
    ExitCode.USAGE,
    ExitCode.BUILD,
    ExitCode.DEVICE,
    ExitCode.REFUSED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A position in a text file; ``line`` and ``column`` count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding: what, where, why, and what to do now.

    Attributes:
        code: Stable identifier such as ``E104``; explained by ``edgedeploy check --explain E104``.
        message: What is wrong, one sentence, without the place.
        place: Where in a text file, if it is in one.
        subject: What it is about when that is no text place: a node, a tensor, a target, a file.
        hint: The way out, one sentence in the imperative.
        snippet: The source line that ``place`` points at (without line end).
    """

    code: str
    message: str
    severity: Severity = "error"
    place: Place | None = None
    subject: str | None = None
    hint: str | None = None
    snippet: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the diagnostic as plain JSON data."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Diagnostic:
        """Return the diagnostic that :meth:`to_json` wrote."""
        place = data.get("place")
        return cls(**{**data, "place": Place(**place) if place else None})


class EdgedeployError(Exception):
    """Base of every typed failure; subclasses fix the exit status.

    Args:
        diagnostics: One or more findings, or the message of a single one.
        code: Diagnostic code when ``diagnostics`` is a message.
        hint: As in :class:`Diagnostic`.
        subject: As in :class:`Diagnostic`.
        place: As in :class:`Diagnostic`.
    """

    exit_code: ExitCode = ExitCode.BUG
    default_code: str = "E900"

    def __init__(
        self,
        diagnostics: str | Diagnostic | Iterable[Diagnostic],
        *,
        code: str | None = None,
        hint: str | None = None,
        subject: str | None = None,
        place: Place | None = None,
    ) -> None:
        if isinstance(diagnostics, str):
            found: tuple[Diagnostic, ...] = (
                Diagnostic(
                    code=code or self.default_code,
                    message=diagnostics,
                    hint=hint,
                    subject=subject,
                    place=place,
                ),
            )
        elif isinstance(diagnostics, Diagnostic):
            found = (diagnostics,)
        else:
            found = tuple(diagnostics)
        self.diagnostics = found
        super().__init__("; ".join(item.message for item in found))


class RefusedError(EdgedeployError):
    """The tool ran right and the answer is no (a gate, a regression, a roll-back)."""

    exit_code = ExitCode.REFUSED
    default_code = "E001"


class UsageError(EdgedeployError):
    """A command line that cannot be obeyed."""

    exit_code = ExitCode.USAGE
    default_code = "E100"


class ProfileError(EdgedeployError):
    """A profile, target or other configuration file that is refused."""

    exit_code = ExitCode.USAGE
    default_code = "E101"


class ModelError(EdgedeployError):
    """A model that is refused before or while it is brought to the normal form."""

    exit_code = ExitCode.USAGE
    default_code = "E200"


class DataError(EdgedeployError):
    """Calibration or evaluation data that is missing, malformed or does not fit the model."""

    exit_code = ExitCode.USAGE
    default_code = "E250"


class BuildError(EdgedeployError):
    """A stage that failed: a converter refused, crashed, hung or ran out of its limits."""

    exit_code = ExitCode.BUILD
    default_code = "E300"


class DeviceError(EdgedeployError):
    """A device that cannot be reached or refuses.

    Attributes:
        retryable: Whether the same command may succeed later without a change.
        silent_s: How long nothing had been heard of the device when this was noticed.
    """

    exit_code = ExitCode.DEVICE
    default_code = "E400"
    retryable: bool = False
    silent_s: float = 0.0


class ToolError(EdgedeployError):
    """A tool, runtime or package that is missing or too old."""

    exit_code = ExitCode.TOOL
    default_code = "E500"


class StoreError(EdgedeployError):
    """The store or the local disk failed."""

    exit_code = ExitCode.STORE
    default_code = "E600"


class IntegrityError(EdgedeployError):
    """Content does not match its digest or signature."""

    exit_code = ExitCode.INTEGRITY
    default_code = "E700"


class InternalError(EdgedeployError):
    """A bug of edgedeploy itself."""

    exit_code = ExitCode.BUG
    default_code = "E900"


ERROR_KINDS: dict[str, type[EdgedeployError]] = {
    kind.__name__: kind
    for kind in (
        RefusedError,
        UsageError,
        ProfileError,
        ModelError,
        DataError,
        BuildError,
        DeviceError,
        ToolError,
        StoreError,
        IntegrityError,
        InternalError,
    )
}


def combined_exit_code(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit status of a run in which all ``codes`` occurred (DONE when empty)."""
    present = set(codes)
    for code in EXIT_PRECEDENCE:
        if code in present:
            return code
    return ExitCode.DONE
