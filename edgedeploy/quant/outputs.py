"""The float model's outputs on a few samples, and how far those of other forms are from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from edgedeploy.data.pack import PackReader, Sample
from edgedeploy.errors import ModelError
from edgedeploy.quant.layers import load_checked
from edgedeploy.quant.session import open_session, sample_inputs, zero_state
from edgedeploy.runner import StateCarrier

SAMPLES = 16
"""Samples that are run, taken evenly from the pack."""

SEQUENCES = 2
"""Whole sequences that are run, from the start, where the samples form sequences."""

LEAST_SHARE = 1e-12
"""Stands for a share of zero, so that a divergence stays finite."""


class Outputs:
    """Runs forms of one model on the same samples.

    Args:
        model: The float model.
        samples: Tensor pack folder.
        state: Pairs of state input and output.

    Raises:
        ModelError: No output is a float tensor (E262).
        DataError: A sample lacks an input (E267).
        BuildError: The runtime does not load the model (E270).
    """

    def __init__(self, model: Path, samples: Path, state: Sequence[tuple[str, str]]) -> None:
        self._folder = model.parent
        self._state = list(state)
        self._samples = picked(PackReader(samples))
        loaded = load_checked(model)
        self._inputs = [str(value.name) for value in loaded.graph.inputs]
        self._names = [str(value.name) for value in loaded.graph.outputs]
        self._first: dict[str, np.ndarray] = {}
        self._wanted = list(self._run(open_session(loaded, self._folder)))
        if not any(_is_float(array) for array in self._wanted[0].values()):
            raise ModelError(
                "no output of the model is a float tensor, so what a layer loses cannot be told",
                code="E262",
                hint="Say which layers stay in float: `quantize: {mode: w8a8, keep_float: [...]}`.",
            )

    def __len__(self) -> int:
        return len(self._samples)

    def first_inputs(self) -> dict[str, np.ndarray]:
        """Return all inputs of the first sample, the state among them."""
        return self._first

    def compare(self, variant: ir.Model) -> tuple[float, float]:
        """Return (noise, Kullback-Leibler divergence) of a form's outputs, of the worst of them.

        Noise is the sum of the squared errors over the sum of squares, over all samples.
        """
        sums: dict[str, _Sums] = {}
        runs = self._run(open_session(variant, self._folder))
        for wanted, found in zip(self._wanted, runs, strict=True):
            for name, exact in wanted.items():
                if _is_float(exact) and exact.size:
                    sums.setdefault(name, _Sums()).add(exact, found[name])
        return (
            max((item.noise for item in sums.values()), default=0.0),
            max((item.divergence for item in sums.values()), default=0.0),
        )

    def _run(self, session: ort.InferenceSession) -> Iterator[dict[str, np.ndarray]]:
        carrier: StateCarrier | None = None
        for sample in self._samples:
            inputs = sample_inputs(sample, self._inputs, [given for given, _ in self._state])
            if carrier is None:
                carrier = StateCarrier(self._state, zero_state(session, self._state, inputs))
            fed = carrier.feed(inputs, sample.sequence)
            self._first = self._first or fed
            found = dict(zip(self._names, session.run(self._names, fed), strict=True))
            carrier.keep(found)
            yield found


@dataclass(slots=True)
class _Sums:
    """What is summed up of one output."""

    signal: float = 0.0
    error: float = 0.0
    kl: float = 0.0
    rows: int = 0

    def add(self, wanted: np.ndarray, found: np.ndarray) -> None:
        # Masks are infinite in the float model too; what a form loses counts as an error.
        known = np.isfinite(wanted)
        exact = np.where(known, wanted, 0.0).astype(np.float64)
        other = np.where(known & np.isfinite(found), found, 0.0).astype(np.float64)
        self.signal += float(np.sum(exact * exact))
        self.error += float(np.sum((exact - other) ** 2))
        if exact.ndim and exact.shape[-1] > 1:
            truth, guess = _log_shares(exact, exact), _log_shares(other, exact)
            self.kl += float(np.sum(np.exp(truth) * (truth - guess)))
            self.rows += exact.size // exact.shape[-1]

    @property
    def noise(self) -> float:
        return self.error / self.signal if self.signal else float(self.error > 0.0)

    @property
    def divergence(self) -> float:
        return max(self.kl / self.rows, 0.0) if self.rows else 0.0


def _log_shares(values: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return the logarithms of distributions over the last axis.

    Where the float model's values are distributions they are taken as they are, else by softmax.
    """
    if exact.min() >= 0.0 and np.allclose(exact.sum(axis=-1), 1.0, atol=1e-3):
        shares = np.maximum(values, LEAST_SHARE)
        return np.asarray(np.log(shares / shares.sum(axis=-1, keepdims=True)))
    shifted = values - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"


def picked(pack: PackReader) -> list[Sample]:
    """Return a few samples, evenly from the pack; the first sequences where there are any."""
    names = list(dict.fromkeys(sample.sequence for sample in pack if sample.sequence))
    if names:
        return [sample for sample in pack if sample.sequence in names[:SEQUENCES]]
    count = min(SAMPLES, len(pack))
    return [pack[place * len(pack) // count] for place in range(count)]
