"""Layer-by-layer comparison of a float model with its quantized form: which layer breaks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgedeploy.data.pack import PackReader
from edgedeploy.errors import ModelError
from edgedeploy.quant.layers import Layer, find_layers, load_checked
from edgedeploy.quant.nodewise import Results, run_nodes
from edgedeploy.quant.session import open_session, sample_inputs, zero_state
from edgedeploy.runner import StateCarrier


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorError:
    """How far one layer's result in the quantized model is from the float model's.

    Attributes:
        node: The layer.
        op: Its op type.
        tensor: Name of its result.
        sqnr_db: ``10 log10(sum x^2 / sum (x - x')^2)`` over all samples; what earlier layers
            broke is included. Infinite where there is no difference.
        input_sqnr_db: The same of its activation, None where that was not watched.
        samples: Samples in which the tensor had elements.
    """

    node: str
    op: str
    tensor: str
    sqnr_db: float
    input_sqnr_db: float | None
    samples: int

    @property
    def loss_db(self) -> float:
        """What the layer itself and its operands' rounding lose; what it is ranked by."""
        return 0.0 if self.input_sqnr_db is None else self.input_sqnr_db - self.sqnr_db

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON data; an infinite ratio is null."""
        return {
            key: None if isinstance(value, float) and math.isinf(value) else value
            for key, value in asdict(self).items()
        }


@dataclass(slots=True)
class _Sums:
    signal: float = 0.0
    noise: float = 0.0
    samples: int = 0

    @property
    def sqnr_db(self) -> float:
        if self.noise == 0.0:
            return math.inf
        return 10.0 * math.log10(self.signal / self.noise) if self.signal else -math.inf


def compare(
    model: Path,
    quantized: Path,
    samples: Path,
    *,
    state: Sequence[tuple[str, str]] = (),
    limit: int = 8,
) -> tuple[TensorError, ...]:
    """Return one row per layer, the worst ``sqnr_db`` first.

    Both models run without runtime optimisation, so that Q/DQ pairs mean what the specification
    says. Memory holds the layers' results of one sample.

    Args:
        model: The float model that was calibrated.
        quantized: What ``qdq.quantize`` made of it.
        samples: Tensor pack folder.
        state: As in ``calibrate``.
        limit: At most this many samples, from the start of the pack.
    """
    reference = load_checked(model)
    other = ir.load(quantized)
    layers, names = _watched(reference, other)
    sums = {name: _Sums() for name in names}
    _Pair(reference, model, other, quantized, names, state).run(samples, limit, sums)
    return _rows(layers, sums)


def compare_streaming(
    model: Path, quantized: Path, samples: Path, *, limit: int = 8, isolated: bool = False
) -> tuple[TensorError, ...]:
    """Return one row per layer as :func:`compare` does, for models that do not fit into memory.

    Both models run node by node, side by side: memory holds the weights of one node and the
    activations that later nodes still read, of all samples. Models with state are not for it.

    Args:
        model: The float model that was quantized.
        quantized: What ``weight_only.write`` or ``qdq.quantize`` made of it.
        samples: Tensor pack folder.
        limit: At most this many samples, from the start of the pack.
        isolated: Every layer of the quantized model gets what the float model computed up to it,
            so that a row tells what this layer alone breaks.

    Raises:
        DataError: A sample lacks an input (E267).
        ModelError: One model was not made of the other (E269).
        BuildError: See ``nodewise.run_nodes``.
    """
    reference = load_checked(model)
    other = ir.load(quantized)
    layers, names = _watched(reference, other)
    inputs = [str(value.name) for value in reference.graph.inputs]
    given = [sample_inputs(sample, inputs, ()) for sample in islice(PackReader(samples), limit)]
    sums = {name: _Sums() for name in names}
    forced: dict[str, Sequence[np.ndarray]] = {}
    pairs = zip(
        _only(run_nodes(reference, model.parent, given), names),
        _only(run_nodes(other, quantized.parent, given, forced), names),
        strict=True,
    )
    for (name, exact), (other_name, rounded) in pairs:
        if name != other_name:  # the quantizer keeps the order of the layers
            raise ModelError(
                f"the quantized model computes {other_name!r} where the float model computes "
                f"{name!r}",
                code="E269",
                subject=other_name,
                hint="Compare a quantized model with the very model that it was made of.",
            )
        for one, other_one in zip(exact, rounded, strict=True):
            _add(sums[name], one, other_one)
        if isolated:
            forced[name] = exact
    return _rows(layers, sums)


def _only(
    results: Iterator[Results], names: Sequence[str]
) -> Iterator[tuple[str, Sequence[np.ndarray]]]:
    """Yield the named tensors among the results of nodes."""
    kept = frozenset(names)
    for made in results:
        yield from ((name, arrays) for name, arrays in made.items() if name in kept)


def _watched(reference: ir.Model, other: ir.Model) -> tuple[list[Layer], list[str]]:
    """Return the layers, and the names of their activations and results that both models have."""
    layers = [layer for layer in find_layers(reference.graph) if layer.activation is not None]
    present = {str(value.name) for node in other.graph for value in node.outputs}
    names = [
        str(value.name)
        for layer in layers
        for value in (layer.activation, layer.output)
        if value is not None and value.name in present
    ]
    return layers, list(dict.fromkeys(names))


def _rows(layers: Sequence[Layer], sums: Mapping[str, _Sums]) -> tuple[TensorError, ...]:
    """Return one row per layer that was watched, the worst first."""
    rows = [
        TensorError(
            node=str(layer.node.name),
            op=layer.node.op_type,
            tensor=str(layer.output.name),
            sqnr_db=sums[str(layer.output.name)].sqnr_db,
            input_sqnr_db=found.sqnr_db if (found := _of(sums, layer.activation)) else None,
            samples=sums[str(layer.output.name)].samples,
        )
        for layer in layers
        if str(layer.output.name) in sums
    ]
    return tuple(sorted(rows, key=lambda row: (row.sqnr_db, row.node)))


def _of(sums: Mapping[str, _Sums], value: ir.Value | None) -> _Sums | None:
    return None if value is None else sums.get(str(value.name))


class _Pair:
    """The two models side by side, each with its own state."""

    def __init__(
        self,
        reference: ir.Model,
        reference_path: Path,
        other: ir.Model,
        other_path: Path,
        names: Sequence[str],
        state: Sequence[tuple[str, str]],
    ) -> None:
        self._names = names
        self._state = state
        self._inputs = [str(value.name) for value in reference.graph.inputs]
        self._sessions = []
        for model, path in ((reference, reference_path), (other, other_path)):
            outputs = {value.name for value in model.graph.outputs}
            values = {value.name: value for node in model.graph for value in node.outputs}
            values.update({value.name: value for value in model.graph.inputs})
            model.graph.outputs.extend(
                values[name] for name in names if name not in outputs and name in values
            )
            self._sessions.append(open_session(model, path.parent, optimise=False))

    def run(self, samples: Path, limit: int, sums: dict[str, _Sums]) -> None:
        """Add the first ``limit`` samples to ``sums``."""
        kept = [made for _, made in self._state]
        wanted = list(dict.fromkeys([*kept, *self._names]))
        carriers: list[StateCarrier] = []
        for sample in islice(PackReader(samples), limit):
            inputs = sample_inputs(sample, self._inputs, [given for given, _ in self._state])
            if not carriers:
                zeros = zero_state(self._sessions[0], self._state, inputs)
                carriers = [StateCarrier(self._state, zeros) for _ in self._sessions]
            results = []
            for session, carrier in zip(self._sessions, carriers, strict=True):
                found = session.run(wanted, carrier.feed(inputs, sample.sequence))
                results.append(dict(zip(wanted, found, strict=True)))
                carrier.keep(results[-1])
            for name in self._names:
                _add(sums[name], results[0][name], results[1][name])


def _add(sums: _Sums, wanted: np.ndarray, found: np.ndarray) -> None:
    if not wanted.size:
        return
    exact = wanted.astype(np.float64)
    sums.signal += float(np.sum(exact * exact))
    sums.noise += float(np.sum((exact - found) ** 2))
    sums.samples += 1
