"""Writing of QDQ models: int8 weights, and QuantizeLinear/DequantizeLinear around what computes.

A weight is stored as int8 behind a DequantizeLinear; a quantized activation has exactly one
QuantizeLinear/DequantizeLinear pair; graph inputs and outputs stay float.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.quant.bias_correction import added_bias
from edgedeploy.quant.layers import Layer, constant_of, load_checked
from edgedeploy.quant.names import add_initializer
from edgedeploy.quant.numerics import (
    ActivationParameters,
    bias_floor,
    numpy_dtype,
    quantize_bias,
    weight_scales,
)
from edgedeploy.quant.refine import Refiner, Rounded
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.selection import Exempt, Selection, select
from edgedeploy.quant.smooth import Smoothed, smooth
from edgedeploy.quant.storage import MICROSOFT, Storage, save
from edgedeploy.quant.table import CalibrationTable

WIDE_PAIR_OPSET = 21
"""From here on ai.onnx has 16-bit pairs; older models take the operators of ``com.microsoft``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeReport:
    """What became of the layers.

    Attributes:
        quantized: Names of the nodes that compute on integers or read integer weights, in order.
        kept: Nodes with weights that stay in float, with the reason.
        wider: Nodes whose weights got 8 bits where the scheme asks for 4, with the reason.
        plain: Layers whose weights are rounded to the nearest, or whose biases stay as they are,
            where the scheme asks for more, with the reason.
        smoothed: Activations whose large channels moved into weights.
        ops: How many nodes of each op type are in ``quantized``.
        activations: Values with a Q/DQ pair.
    """

    quantized: tuple[str, ...]
    kept: tuple[Exempt, ...]
    ops: dict[str, int]
    activations: int
    wider: tuple[Exempt, ...] = ()
    plain: tuple[Exempt, ...] = ()
    smoothed: tuple[Smoothed, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "quantized": list(self.quantized),
            "kept": [asdict(item) for item in self.kept],
            "wider": [asdict(item) for item in self.wider],
            "plain": [asdict(item) for item in self.plain],
            "smoothed": [asdict(item) for item in self.smoothed],
            "ops": dict(sorted(self.ops.items())),
            "activations": self.activations,
        }


def quantize(model: Path, table: CalibrationTable, scheme: Scheme, folder: Path) -> QuantizeReport:
    """Write ``folder/model.onnx``, the QDQ form of ``model``, and return what was done.

    Args:
        model: ONNX model in the normal form, the one that was calibrated.
        table: Its calibration table.
        scheme: What to quantize and how.
        folder: Existing folder; big models also get ``model.onnx.data`` there.

    Raises:
        ModelError: Nothing can be quantized (E262), or see ``layers.load_checked``.
        ProfileError: A ``keep_float`` pattern matches no node (E266).
        DataError: The table belongs to another model (E263).
    """
    loaded = load_checked(model)
    report = quantize_loaded(loaded, table, scheme)
    save(loaded, folder)
    return report


def quantize_loaded(
    loaded: ir.Model,
    table: CalibrationTable,
    scheme: Scheme,
    only: str | None = None,
    known: Rounded | None = None,
) -> QuantizeReport:
    """Turn a loaded model into its QDQ form, in place; raises as :func:`quantize`.

    Args:
        loaded: The model, from ``layers.load_checked``.
        table: Its calibration table.
        scheme: What to quantize and how.
        only: Name of the one node to quantize, to see what it alone does; None for all.
        known: Weights that were rounded for other forms of the same model; added to.
    """
    graph = loaded.graph
    selection = select(graph, scheme, table, only)
    if not selection.layers and not selection.recurrent:
        raise nothing_to_quantize(selection.kept)
    smoothed: list[Smoothed] = []
    if scheme.smooth:
        table, smoothed = smooth(graph, selection.layers, selection.produced, table, scheme)
        selection = select(graph, scheme, table, only)
    nodes = [*(layer.node for layer in selection.layers), *selection.recurrent]
    report = report_of([*nodes, *selection.carriers], selection.kept, len(selection.values))
    refiner = Refiner(scheme, table, known)
    writer = _Writer(loaded, scheme, selection, refiner)
    for layer in selection.layers:
        writer.store_weight(layer)
    for node in selection.recurrent:
        writer.storage.store_recurrent(node)
    for value, parameters in selection.values.items():
        writer.insert_pair(value, parameters)
    writer.storage.remove_unused()
    return replace(report, plain=tuple(refiner.plain), smoothed=tuple(smoothed))


def report_of(
    nodes: Sequence[ir.Node],
    kept: Sequence[Exempt],
    activations: int,
    wider: Sequence[Exempt] = (),
) -> QuantizeReport:
    """Return the report on nodes that became integer and nodes that did not."""
    return QuantizeReport(
        quantized=tuple(str(node.name) for node in nodes),
        kept=tuple(kept),
        ops=dict(Counter(node.op_type for node in nodes)),
        activations=activations,
        wider=tuple(wider),
    )


def nothing_to_quantize(kept: Sequence[Exempt]) -> ModelError:
    """Return the error for a model without anything that the scheme could quantize."""
    first = kept[0] if kept else None
    why = f"; {first.op} {first.node!r} stays in float because {first.reason}" if first else ""
    return ModelError(
        f"no node of the model can be quantized under this scheme{why}",
        code="E262",
        subject=first.node if first else None,
        hint="Set `quantize: fp16` or `none` for this target, or loosen `keep_float`.",
    )


class _Writer:
    """Adds initialisers, Q and DQ nodes to one model."""

    def __init__(
        self, model: ir.Model, scheme: Scheme, selection: Selection, refiner: Refiner
    ) -> None:
        self._graph = model.graph
        self._refiner = refiner
        self._scheme = scheme
        self._selection = selection
        self.storage = Storage(model.graph, scheme)
        self._readers = {layer.node for layer in selection.layers} | set(selection.carriers)
        self._start = next(iter(model.graph))
        # Results of lookups, which are int8 now -> what is read in their place.
        self._looked_up: dict[ir.Value, ir.Value] = {}
        self._domain = ""
        if scheme.activations == "static16" and model.graph.opset_imports[""] < WIDE_PAIR_OPSET:
            self._domain = MICROSOFT
            model.graph.opset_imports.setdefault(self._domain, 1)

    def store_weight(self, layer: Layer) -> None:
        """Replace the weight (and bias) of a layer by integer initialisers behind a DQ."""
        if layer.node.op_type == "Gather":
            result = layer.node.outputs[0]
            self._looked_up[result] = self.storage.store_table(layer)
            return
        axis = layer.channel_axis if self._scheme.per_channel else None
        array = constant_of(layer.weight).numpy()
        correct = self._refiner.correctable(layer)
        bias = self._bias(layer, array, correct)
        floor: np.ndarray | float = 0.0
        activation_scale = 0.0
        if bias is not None and layer.activation is not None:
            activation_scale = self._selection.values[layer.activation].scale
            floor = bias_floor(bias, activation_scale)
            floor = floor if axis is not None else float(floor.max(initial=0.0))
        scales = weight_scales(array, axis, self._scheme.greatest_weight, floor)
        integers = self._refiner.integers(layer, array, scales)
        shift = self._refiner.shift(layer, array, scales, integers) if correct else np.zeros(1)
        read = self.storage.read_weight(layer.weight, axis, scales, layer.node, integers)
        _swap(layer.node, layer.weight, read)
        if bias is not None:
            units = activation_scale * scales.astype(np.float64)
            self._store_bias(layer, bias - shift, units)
        elif correct:
            self._correct_float_bias(layer, shift)

    def _bias(self, layer: Layer, weight: np.ndarray, wanted: bool) -> np.ndarray | None:
        """Return the bias as ``[channels]`` if it is to be int32, else None.

        Args:
            layer: The layer.
            weight: Its weight.
            wanted: Whether a layer that can have a bias gets one of zeros where it has none.
        """
        channel_axis = layer.channel_axis
        if not self._scheme.quantize_bias or channel_axis is None or not layer.bias_is_constant:
            return None
        channels = weight.shape[channel_axis]
        if layer.bias is None:
            wanted = layer.node.op_type in ("Conv", "Gemm") and wanted
            wanted |= self._scheme.bias_always and layer.node.op_type == "Conv"
            return np.zeros(channels, np.float32) if wanted else None
        array = constant_of(layer.bias).numpy()
        by_row = array.ndim > 0 and array.shape[-1] != channels  # a column, as long as channels are
        if array.dtype != np.float32 or array.size != channels or by_row:
            return None
        return array.reshape(-1)

    def _correct_float_bias(self, layer: Layer, shift: np.ndarray) -> None:
        """Take ``shift`` out of a bias that stays float: the layer's own, or that of an Add."""
        node, place = layer.node, 2
        if node.op_type == "MatMul":
            found = added_bias(layer)
            if found is None:
                self._refiner.leave(layer, "it has no bias that could be corrected")
                return
            node, place = found
        elif len(node.inputs) == 2:
            node.resize_inputs(3)
        old = node.inputs[place]
        array = np.zeros(shift.shape) if old is None else constant_of(old).numpy()
        name = f"{layer.node.name}_bias_corrected"
        corrected = (array - shift.reshape(-1)).astype(np.float32)
        node.replace_input_with(place, self.storage.constant(corrected, name))

    def _store_bias(self, layer: Layer, array: np.ndarray, scales: np.ndarray) -> None:
        units = scales.astype(np.float32)
        name = self.storage.names.free(f"{layer.node.name}_bias_quantized")
        integers = quantize_bias(array, units)
        if self._scheme.bias_always and not integers.any():
            integers[0] = 1
        stored = add_initializer(self._graph, name, ir.Tensor(integers, name=name))
        read = self.storage.dequantized(
            stored,
            self.storage.constant(units, f"{layer.node.name}_bias_scale"),
            self.storage.constant(np.zeros(units.shape, np.int32), f"{name}_zero_point"),
            0 if units.ndim else None,
            f"{layer.node.name}_bias_DequantizeLinear",
            layer.node,
        )
        if len(layer.node.inputs) == 2:
            layer.node.resize_inputs(3)
        layer.node.replace_input_with(2, read)

    def insert_pair(self, value: ir.Value, parameters: ActivationParameters) -> None:
        """Insert the Q/DQ pair of an activation and let its consumers read the dequantized one."""
        everyone = value in self._selection.produced
        value = self._looked_up.get(value, value)
        uses = list(value.uses())
        name = str(value.name)
        dtype = numpy_dtype(parameters.dtype)
        scale = self.storage.constant(np.float32(parameters.scale), f"{name}_scale")
        zero = self.storage.constant(dtype.type(parameters.zero_point), f"{name}_zero_point")
        is_output = value.is_graph_output()
        dequantized = ir.Value(
            name=self.storage.names.free(f"{name}_dequantized"), shape=value.shape, type=value.type
        )
        quantized = ir.Value(
            name=self.storage.names.free(f"{name}_quantized"),
            shape=value.shape,
            type=ir.TensorType(ir.DataType.from_numpy(dtype)),
        )
        for use in uses:
            if everyone or use.node in self._readers:
                use.node.replace_input_with(use.idx, dequantized)
        if everyone and is_output:
            self._give_output(value, dequantized)
        q = ir.node(
            "QuantizeLinear",
            [value, scale, zero],
            domain=self._domain,
            outputs=[quantized],
            name=self.storage.names.free(f"{name}_QuantizeLinear"),
        )
        dq = ir.node(
            "DequantizeLinear",
            [quantized, scale, zero],
            domain=self._domain,
            outputs=[dequantized],
            name=self.storage.names.free(f"{name}_DequantizeLinear"),
        )
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._start, [q, dq])
        else:
            self._graph.insert_after(producer, [q, dq])

    def _give_output(self, value: ir.Value, dequantized: ir.Value) -> None:
        """Make the dequantized value the graph output of this name."""
        name, spare = str(value.name), self.storage.names.free(f"{value.name}_float")
        for position, output in enumerate(self._graph.outputs):
            if output is value:
                self._graph.outputs[position] = dequantized
        value.name = spare
        dequantized.name = name


def _swap(node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    for position, value in enumerate(node.inputs):
        if value is old:
            node.replace_input_with(position, new)
