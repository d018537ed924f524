"""Streaming calibration: one pass over the samples for all range methods and all targets.

The watched tensors leave the optimised graph as outputs, are reduced to extremes, statistics of
channels and a histogram, and are dropped before the next sample: peak memory does not depend on
the number of samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgedeploy.data.pack import PackReader, Sample, units
from edgedeploy.errors import DataError, ModelError
from edgedeploy.quant.identity import model_digest
from edgedeploy.quant.layers import (
    ELEMENTWISE_OPS,
    SAME_RANGE_OPS,
    VALUE_PRESERVING_OPS,
    Layer,
    carriers,
    find_layers,
    float_values,
    fused_output,
    load_checked,
)
from edgedeploy.quant.observer import Observer
from edgedeploy.quant.session import open_session, sample_inputs, zero_state
from edgedeploy.quant.table import UNIT_DIGITS, CalibrationTable
from edgedeploy.runner import StateCarrier


def calibrate(
    model: Path,
    samples: Path,
    table: Path,
    *,
    state: Sequence[tuple[str, str]] = (),
    histograms: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationTable:
    """Return, and write to ``table``, the ranges of all tensors that a scheme may quantize.

    Args:
        model: ONNX model in the normal form, its scales and shifts folded into weights.
        samples: Tensor pack folder; each sample holds all inputs except the state.
        table: JSON file to write.
        state: ``(input, output)`` names of state that is carried along each sequence of the pack.
        histograms: Whether the methods that need histograms, and the statistics of channels, are
            gathered as well; without, ``minmax`` and ``average`` alone, in about half the time.
        progress: Called with (samples done, samples in all).

    Raises:
        DataError: No sample (E260), or one that the model does not take (E267).
        ModelError: A tensor is not finite (E261); see also ``layers.load_checked``.
        BuildError: The runtime does not load the instrumented model (E270).
    """
    loaded = load_checked(model)
    pack = PackReader(samples)
    if not len(pack):
        raise DataError(
            "there is no calibration sample",
            code="E260",
            hint="Name at least one sample under `data: calibrate` in the profile.",
        )
    identity = model_digest(loaded)  # before outputs are added
    watch = _Watch(loaded, model.parent, histograms)
    if watch.sources:
        _run(watch, pack, state, progress)
    observers = watch.observers
    channels = {name: seen.channels() for name, seen in observers.items()}
    ranges = {name: seen.range() for name, seen in observers.items()}
    result = CalibrationTable(
        samples=len(pack),
        tensors={name: ranges[source] for name, source in watch.sources.items()},
        channels={
            name: found
            for name, source in watch.sources.items()
            if name == source and (found := channels[source]) is not None
        },
        model=identity,
        data=_digest(pack),
        units=tuple(sorted(digest[:UNIT_DIGITS] for _, digest in units(pack))),
    )
    result.write(table)
    return result


def _digest(pack: PackReader) -> str:
    """Return the digest of the samples in their order."""
    found = hashlib.sha256()
    for sample in pack:
        found.update(bytes.fromhex(sample.sha256))
    return found.hexdigest()


def watched_values(graph: ir.Graph, layers: Sequence[Layer]) -> dict[ir.Value, ir.Value]:
    """Return the values whose range some scheme may need, each with the value to be measured.

    The two differ where an op only moves values: then the range of its operand serves.
    """
    known = float_values(graph, list(layers))
    wanted: dict[ir.Value, None] = {}
    for layer in layers:
        if layer.activation is not None:
            wanted[layer.activation] = wanted[layer.output] = None
    for node, given in carriers(graph, frozenset(ELEMENTWISE_OPS + SAME_RANGE_OPS)):
        for value in (*given, fused_output(node.outputs[0])):
            if value in known:
                wanted[value] = None
    sources: dict[ir.Value, ir.Value] = {}
    for value in known:  # graph order: an operand stands before its result
        producer = value.producer()
        moved = producer is not None and producer.op_type in VALUE_PRESERVING_OPS
        operand = producer.inputs[0] if producer is not None and moved else None
        if operand is not None and operand in sources:
            sources[value] = sources[operand]
        elif value in wanted:
            sources[value] = value
    return {value: source for value, source in sources.items() if value in wanted}


class _Watch:
    """A session that gives the watched tensors, and what is observed of each.

    Attributes:
        sources: Watched tensor -> the tensor that is measured for it.
        observers: By measured tensor.
    """

    def __init__(self, model: ir.Model, folder: Path, histograms: bool) -> None:
        graph = model.graph
        layers = find_layers(graph)
        watched = watched_values(graph, layers)
        axes = _channel_axes(layers) if histograms else {}
        self.sources = {str(value.name): str(source.name) for value, source in watched.items()}
        self.inputs = [str(value.name) for value in graph.inputs]
        self.observers: dict[str, Observer] = {}
        self._outputs: list[str] = []
        present = set(graph.outputs)
        for source in dict.fromkeys(watched.values()):
            name = str(source.name)
            self.observers[name] = Observer(axes.get(source), histograms)
            if name in self.inputs:
                continue
            self._outputs.append(name)
            if source not in present:
                source.type = ir.TensorType(ir.DataType.FLOAT)
                graph.outputs.append(source)
        self.session = open_session(model, folder)

    def run(self, inputs: Mapping[str, np.ndarray], kept: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the state outputs and the measured tensors of one sample."""
        wanted = list(dict.fromkeys([*kept, *self._outputs]))
        found = dict(zip(wanted, self.session.run(wanted, dict(inputs)), strict=True))
        return {**{name: inputs[name] for name in self.observers if name in inputs}, **found}


def _channel_axes(layers: Sequence[Layer]) -> dict[ir.Value, int]:
    """Return the axis of input channels of every activation that layers read along one axis."""
    found: dict[ir.Value, set[int]] = {}
    for layer in layers:
        if layer.activation is not None:
            axis = 1 if layer.node.op_type in ("Conv", "ConvTranspose") else -1
            found.setdefault(layer.activation, set()).add(axis)
    return {value: next(iter(axes)) for value, axes in found.items() if len(axes) == 1}


def _run(
    watch: _Watch,
    pack: PackReader,
    state: Sequence[tuple[str, str]],
    progress: Callable[[int, int], None] | None,
) -> None:
    kept = [made for _, made in state]
    carrier: StateCarrier | None = None
    sequence: str | None = None
    for done, sample in enumerate(pack, start=1):
        if done > 1 and (sample.sequence is None or sample.sequence != sequence):
            _end_group(watch)
        sequence = sample.sequence
        inputs = sample_inputs(sample, watch.inputs, [given for given, _ in state])
        if carrier is None:
            carrier = StateCarrier(state, zero_state(watch.session, state, inputs))
        try:
            outputs = watch.run(carrier.feed(inputs, sample.sequence), kept)
        except Exception as error:  # the runtime raises many undocumented types
            raise DataError(
                f"the model does not run on calibration sample {sample.id!r}: {error}",
                code="E267",
                subject=sample.id,
                hint="Check the shapes and dtypes of the calibration data against the inputs.",
            ) from error
        carrier.keep({name: outputs[name] for name in kept})
        _take_in(watch, sample, outputs)
        del outputs  # its memory serves the next sample
        if progress is not None:
            progress(done, len(pack))
    _end_group(watch)


def _end_group(watch: _Watch) -> None:
    for observer in watch.observers.values():
        observer.end_group()


def _take_in(watch: _Watch, sample: Sample, outputs: Mapping[str, np.ndarray]) -> None:
    for tensor, observer in watch.observers.items():
        if not observer.update(outputs[tensor]):
            raise ModelError(
                f"tensor {tensor!r} has a NaN or infinite element on sample {sample.id!r}",
                code="E261",
                subject=tensor,
                hint="Check that sample's preprocessing, and whether the float model overflows.",
            )
