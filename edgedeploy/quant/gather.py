"""Gathering of the second moments of what layers multiply by their weights.

One pass over the calibration samples; memory does not depend on their number. What is kept of each
activation is a matrix of its inputs, never a value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from edgedeploy.data.pack import PackReader
from edgedeploy.errors import DataError
from edgedeploy.quant.layers import Layer, constant_shape, find_layers, load_checked
from edgedeploy.quant.moments import FORMAT, INDEX, Moments
from edgedeploy.quant.session import open_session, sample_inputs, zero_state
from edgedeploy.quant.unfold import geometry, groups_of, obstacle, operands
from edgedeploy.runner import StateCarrier

ROWS = 128
"""Positions of a layer's result that are looked at in a sample."""

MAX_INPUTS = 4608
"""Most inputs of one output: a 3 x 3 kernel over 512 channels, with a matrix of 85 MB. Wider
layers have no moments."""


def gather(
    model: Path,
    samples: Path,
    folder: Path,
    *,
    state: Sequence[tuple[str, str]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Moments:
    """Return, and write into ``folder``, the moments of every layer that has some.

    Args:
        model: ONNX model in the normal form, the one that is calibrated and quantized.
        samples: Tensor pack folder; each sample holds all inputs except the state.
        folder: Existing folder; gets ``moments.json`` and ``.npy`` files.
        state: As in ``calibrate``.
        progress: Called with (samples done, samples in all).

    Raises:
        DataError: No sample (E260), or one that the model does not take (E267).
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
    shared: dict[tuple[object, ...], list[Layer]] = {}
    for layer in find_layers(loaded.graph):
        if layer.activation is not None and _fits(layer):
            shared.setdefault((layer.activation, *geometry(layer)), []).append(layer)
    sums = [_Sum(layers[0]) for layers in shared.values()]
    for position, values in enumerate(_activations(loaded, model.parent, pack, state, sums)):
        for item in sums:
            item.add(values[item.activation])
        if progress is not None:
            progress(position + 1, len(pack))
    files: dict[str, str] = {}
    for number, (item, layers) in enumerate(zip(sums, shared.values(), strict=True)):
        moments = item.moments() if item.rows else None
        if moments is not None and np.isfinite(moments).all():  # squares may leave float32
            np.save(folder / f"{number:04d}.npy", moments)
            np.save(folder / f"{number:04d}-mean.npy", item.mean())
            files.update({str(layer.node.name): f"{number:04d}" for layer in layers})
    text = json.dumps({"moments": FORMAT, "files": files}, sort_keys=True, indent=1)
    (folder / INDEX).write_text(text + "\n", encoding="utf-8")
    return Moments(folder=folder, files=files)


def _fits(layer: Layer) -> bool:
    return obstacle(layer) is None and _inputs(layer) <= MAX_INPUTS


def _inputs(layer: Layer) -> int:
    """Return the inputs of one output."""
    shape = constant_shape(layer.weight)
    return math.prod(shape) // shape[layer.channel_axis or 0]


class _Sum:
    """The sums of ``x`` and ``x x^T`` over one activation's operands."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self.activation = str(layer.activation and layer.activation.name)
        self.rows = 0
        inputs = _inputs(layer)
        self._total = np.zeros((groups_of(layer), inputs))
        self._products = np.zeros((groups_of(layer), inputs, inputs))

    def add(self, activation: np.ndarray) -> None:
        """Take in the activation of one sample."""
        if not activation.size:
            return
        found = operands(self._layer, activation, ROWS).transpose(1, 0, 2)
        self._total += found.sum(axis=1, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            self._products += found.transpose(0, 2, 1) @ found
        self.rows += found.shape[1]

    def mean(self) -> np.ndarray:
        """Return the mean of ``x`` over all rows, float32."""
        return (self._total / self.rows).astype(np.float32)

    def moments(self) -> np.ndarray:
        """Return the mean of ``x x^T`` over all rows, float32; not finite where that overflows."""
        with np.errstate(over="ignore", invalid="ignore"):
            return (self._products / self.rows).astype(np.float32)


def _activations(
    model: ir.Model,
    folder: Path,
    pack: PackReader,
    state: Sequence[tuple[str, str]],
    sums: Sequence[_Sum],
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the activations of every sample, by name."""
    inputs = [str(value.name) for value in model.graph.inputs]
    wanted = list(dict.fromkeys(item.activation for item in sums))
    made = [name for name in wanted if name not in inputs]
    session = _session(model, folder, made)
    carrier: StateCarrier | None = None
    kept = [name for _, name in state]
    for sample in pack:
        given = sample_inputs(sample, inputs, [name for name, _ in state])
        if carrier is None:
            carrier = StateCarrier(state, zero_state(session, state, given))
        fed = carrier.feed(given, sample.sequence)
        asked = list(dict.fromkeys([*kept, *made]))
        try:
            found = dict(zip(asked, session.run(asked, dict(fed)), strict=True)) if asked else {}
        except Exception as error:  # the runtime raises many undocumented types
            raise DataError(
                f"the model does not run on calibration sample {sample.id!r}: {error}",
                code="E267",
                subject=sample.id,
                hint="Check the shapes and dtypes of the calibration data against the inputs.",
            ) from error
        carrier.keep({name: found[name] for name in kept})
        yield {name: found[name] if name in found else fed[name] for name in wanted}


def _session(model: ir.Model, folder: Path, names: Sequence[str]) -> ort.InferenceSession:
    """Return a session that also gives the values of these names."""
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    present = {value.name for value in model.graph.outputs}
    for name in names:
        if name not in present:
            values[name].type = ir.TensorType(ir.DataType.FLOAT)
            model.graph.outputs.append(values[name])
    return open_session(model, folder)
