"""The seam through which everything runs an artifact: parity, metrics, calibration and bench."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

if TYPE_CHECKING:
    import numpy as np

    from edgedeploy.signature import Signature

Evidence = Literal["device", "host-runtime", "interpreted", "simulated", "none"]
"""Where a figure comes from, strongest first; printed beside every figure."""

EVIDENCE_ORDER: tuple[Evidence, ...] = (
    "device",
    "host-runtime",
    "interpreted",
    "simulated",
    "none",
)


class Runner(Protocol):
    """A loaded artifact. Every backend offers one for its artifacts; use as a context manager."""

    @property
    def signature(self) -> Signature:
        """The inputs and outputs as the artifact itself states them."""

    @property
    def evidence(self) -> Evidence:
        """What its outputs prove: ``host-runtime`` where the artifact's own runtime made them."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs by name for one set of inputs (all inputs must be given).

        Raises:
            BuildError: The runtime refused the inputs or failed (E330).
        """

    def close(self) -> None:
        """Release the runtime's resources; calling it twice is allowed."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Closing(ABC):
    """What is closed at the end of a ``with``."""

    @abstractmethod
    def close(self) -> None:
        """Release what is held; calling it twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class StateCarrier:
    """Feeds a model's state outputs back as its state inputs along a sequence.

    Args:
        pairs: ``(state input, state output)`` names; empty for a model without state.
        zeros: A zero tensor for each state input, the state at the start of a sequence.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], zeros: Mapping[str, np.ndarray]) -> None:
        self._pairs = tuple(pairs)
        self._zeros = dict(zeros)
        self._state: dict[str, np.ndarray] = dict(zeros)
        self._sequence: str | None = None

    def feed(self, inputs: Mapping[str, np.ndarray], sequence: str | None) -> dict[str, np.ndarray]:
        """Return ``inputs`` with the current state added (zeros where a sequence starts)."""
        if sequence is None or sequence != self._sequence:
            self._state = dict(self._zeros)
        self._sequence = sequence
        return {**inputs, **self._state}

    def keep(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Remember the state outputs of a run for the next one."""
        self._state = {given: outputs[made] for given, made in self._pairs}
