"""Running a pipeline for many samples in turns, so that a model answers many calls at once.

A device is asked in runs that each take seconds to begin. The function is therefore called for many
samples side by side, one at a time until its next call of a model; then all calls of a model go to
the device together. Threads hold the samples that wait; only one of them runs at any moment, so
that the function meets nothing that it would not meet alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING

from edgedeploy.pipeline import Models, Pipeline, Runs

if TYPE_CHECKING:
    import numpy as np

    from edgedeploy.data.pack import Sample

AT_ONCE = 64
"""Samples that wait side by side, each in a thread of its own."""

Inputs = Mapping[str, "np.ndarray"]
Outputs = dict[str, "np.ndarray"]

Answer = Callable[[str, Sequence[Inputs]], Sequence[Outputs]]
"""Answers several calls of a model, by its name with its variant; in the order of the calls."""

MakeModels = Callable[[Callable[[str], Runs]], Models]
"""Makes models for one sequence of samples, given what computes each."""


def run_in_turns(
    pipeline: Pipeline, samples: Iterable[Sample], make: MakeModels, answer: Answer
) -> Iterator[tuple[Sample, Outputs]]:
    """Yield every sample with what the pipeline returns for it, in order.

    Args:
        pipeline: The function.
        samples: What it is given; those of a sequence, which carry state, run one after the other.
        make: Makes the models that one sequence calls.
        answer: Answers the calls.

    Raises:
        DataError: As :meth:`edgedeploy.pipeline.Pipeline.run`.
        DeviceError: ``answer`` failed.
    """
    lines = (
        _Line(pipeline, list(group), make)
        for _, group in groupby(samples, lambda sample: sample.sequence or (sample.id,))
    )
    while chunk := list(islice(lines, AT_ONCE)):
        try:
            _in_turns(chunk, answer)
        finally:
            for line in chunk:
                line.cancel()
        for line in chunk:
            yield from line.found


def _in_turns(lines: Sequence[_Line], answer: Answer) -> None:
    waiting = list(lines)
    while waiting:
        for line in waiting:
            line.turn()
            if line.error is not None:
                raise line.error
        waiting = [line for line in waiting if line.asked is not None]
        asked: dict[str, list[tuple[_Line, _Call]]] = {}
        for line in waiting:
            if line.asked is not None:
                asked.setdefault(line.asked.model, []).append((line, line.asked))
        for name, calls in asked.items():
            made = answer(name, [call.inputs for _, call in calls])
            for (line, _), outputs in zip(calls, made, strict=True):
                line.answered = outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    model: str
    inputs: Inputs


class _CancelledError(BaseException):
    """The run ended while a sample waited; no ``except Exception`` of the function stops it."""


class _Line:
    """A sequence of samples in a thread that runs only while it is its turn."""

    def __init__(self, pipeline: Pipeline, samples: Sequence[Sample], make: MakeModels) -> None:
        self._pipeline = pipeline
        self._samples = samples
        self._models = make(lambda name: _Asking(name, self))
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._cancelled = False
        self.asked: _Call | None = None
        """The call that waits for its answer; None before the first turn and at the end."""
        self.answered: Outputs = {}
        self.found: list[tuple[Sample, Outputs]] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def turn(self) -> None:
        """Let it run to its next call or its end."""
        self._go.release()
        self._stopped.acquire()

    def cancel(self) -> None:
        """End it, wherever it is; one that has ended stays as it is."""
        self._cancelled = True
        self._go.release()
        self._thread.join()

    def ask(self, model: str, inputs: Inputs) -> Outputs:
        """Wait for the answer to a call; called in the thread."""
        self.asked = _Call(model=model, inputs=inputs)
        self._stopped.release()
        self._wait()
        self.asked = None
        return self.answered

    def _wait(self) -> None:
        self._go.acquire()
        if self._cancelled:
            raise _CancelledError

    def _run(self) -> None:
        try:
            self._wait()
            for sample in self._samples:
                sequence = sample.sequence or sample.id
                made = self._pipeline.run(sample.tensors(), self._models, sequence)
                self.found.append((sample, made))
        except BaseException as error:  # noqa: BLE001 - raised again where the turn was given
            self.error = error
        finally:
            self.asked = None
            self._stopped.release()


class _Asking:
    """Stands for what computes a model: a call waits for its turn."""

    def __init__(self, name: str, line: _Line) -> None:
        self._name = name
        self._line = line

    def run(self, inputs: Inputs) -> Outputs:
        """Return what is answered."""
        return self._line.ask(self._name, inputs)
