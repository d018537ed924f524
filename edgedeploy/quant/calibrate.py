"""Streaming calibration: one pass over the samples, statistics computed inside the graph.

The float model is extended by nodes that reduce every watched tensor to a few scalars; only these
scalars leave the session, so activations live no longer than in plain inference and peak memory
does not depend on the number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgedeploy.data.pack import PackReader, Sample
from edgedeploy.errors import DataError, ModelError
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
from edgedeploy.quant.names import Names
from edgedeploy.quant.session import open_session, sample_inputs, zero_state
from edgedeploy.quant.statistic import MinMax, Statistic
from edgedeploy.quant.table import CalibrationTable, TensorRange
from edgedeploy.runner import StateCarrier


def calibrate(
    model: Path,
    samples: Path,
    table: Path,
    *,
    state: Sequence[tuple[str, str]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationTable:
    """Return, and write to ``table``, the ranges of all tensors that a scheme may quantize.

    Args:
        model: ONNX model in the normal form, its scales and shifts folded into weights.
        samples: Tensor pack folder; each sample holds all inputs except the state.
        table: JSON file to write.
        state: ``(input, output)`` names of state that is carried along each sequence of the pack.
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
    instrumented = _Instrumented(loaded, model.parent, MinMax())
    found = _run(instrumented, pack, state, progress) if instrumented.watched else {}
    result = CalibrationTable(samples=len(pack), tensors=found)
    result.write(table)
    return result


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


class _Instrumented:
    """A session of the model with a statistic's nodes added."""

    def __init__(self, model: ir.Model, folder: Path, statistic: Statistic) -> None:
        graph = model.graph
        names = Names(graph)
        self.statistic = statistic
        self.watched = {
            str(value.name): str(source.name)
            for value, source in watched_values(graph, find_layers(graph)).items()
        }
        self.inputs = [str(value.name) for value in graph.inputs]
        by_name = {str(value.name): value for value in _values(graph)}
        self.summaries: dict[str, list[str]] = {}
        for source in dict.fromkeys(self.watched.values()):
            made = statistic.watch(graph, by_name[source], names)
            graph.outputs.extend(made)
            self.summaries[source] = [str(value.name) for value in made]
        self.session = open_session(model, folder)

    def run(self, inputs: Mapping[str, np.ndarray], kept: Sequence[str]) -> dict[str, np.ndarray]:
        wanted = [*kept, *(name for made in self.summaries.values() for name in made)]
        return dict(zip(wanted, self.session.run(wanted, dict(inputs)), strict=True))


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(value for node in graph for value in node.outputs)]


def _run(
    instrumented: _Instrumented,
    pack: PackReader,
    state: Sequence[tuple[str, str]],
    progress: Callable[[int, int], None] | None,
) -> dict[str, TensorRange]:
    kept = [made for _, made in state]
    carrier: StateCarrier | None = None
    sequence: str | None = None
    for done, sample in enumerate(pack, start=1):
        if done > 1 and (sample.sequence is None or sample.sequence != sequence):
            instrumented.statistic.end_group()
        sequence = sample.sequence
        inputs = sample_inputs(sample, instrumented.inputs, [given for given, _ in state])
        if carrier is None:
            carrier = StateCarrier(state, zero_state(instrumented.session, state, inputs))
        try:
            outputs = instrumented.run(carrier.feed(inputs, sample.sequence), kept)
        except Exception as error:  # the runtime raises many undocumented types
            raise DataError(
                f"the model does not run on calibration sample {sample.id!r}: {error}",
                code="E267",
                subject=sample.id,
                hint="Check the shapes and dtypes of the calibration data against the inputs.",
            ) from error
        carrier.keep(outputs)
        _take_in(instrumented, sample, outputs)
        if progress is not None:
            progress(done, len(pack))
    instrumented.statistic.end_group()
    ranges = instrumented.statistic.ranges()
    return {name: ranges[source] for name, source in instrumented.watched.items()}


def _take_in(
    instrumented: _Instrumented, sample: Sample, outputs: Mapping[str, np.ndarray]
) -> None:
    for tensor, names in instrumented.summaries.items():
        if not instrumented.statistic.update(tensor, [outputs[name] for name in names]):
            raise ModelError(
                f"tensor {tensor!r} has a NaN or infinite element on sample {sample.id!r}",
                code="E261",
                subject=tensor,
                hint="Check that sample's preprocessing, and whether the float model overflows.",
            )
