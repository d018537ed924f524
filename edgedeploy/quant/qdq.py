"""Writing of QDQ models: int8 weights, and QuantizeLinear/DequantizeLinear around what computes.

A weight is stored as int8 behind a DequantizeLinear; a quantized activation has exactly one
QuantizeLinear/DequantizeLinear pair; graph inputs and outputs stay float.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.quant.layers import Layer, constant_of, constant_shape, load_checked
from edgedeploy.quant.names import Names, add_initializer
from edgedeploy.quant.numerics import (
    ActivationParameters,
    bias_floor,
    quantize_bias,
    quantize_weight,
    weight_scales,
)
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.selection import KeptFloat, Selection, select
from edgedeploy.quant.table import CalibrationTable

EXTERNAL_BYTES = 256 << 20
"""Above this the weights go to ``model.data``, written one at a time, so that memory stays low."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeReport:
    """What became of the layers.

    Attributes:
        quantized: Names of the nodes that compute on integers or read int8 weights, in order.
        kept: Nodes with weights that stay in float, with the reason.
        ops: How many nodes of each op type are in ``quantized``.
        activations: Values with a Q/DQ pair.
    """

    quantized: tuple[str, ...]
    kept: tuple[KeptFloat, ...]
    ops: dict[str, int]
    activations: int

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "quantized": list(self.quantized),
            "kept": [{"node": k.node, "op": k.op, "reason": k.reason} for k in self.kept],
            "ops": dict(sorted(self.ops.items())),
            "activations": self.activations,
        }


def quantize(model: Path, table: CalibrationTable, scheme: Scheme, folder: Path) -> QuantizeReport:
    """Write ``folder/model.onnx``, the QDQ form of ``model``, and return what was done.

    Args:
        model: ONNX model in the normal form, the one that was calibrated.
        table: Its calibration table.
        scheme: What to quantize and how.
        folder: Existing folder; big models also get ``model.data`` there.

    Raises:
        ModelError: Nothing can be quantized (E262), or see ``layers.load_checked``.
        ProfileError: See ``selection.select``.
        DataError: See ``selection.select``.
    """
    loaded = load_checked(model)
    graph = loaded.graph
    selection = select(graph, scheme, table)
    if not selection.layers:
        raise _nothing(selection)
    writer = _Writer(graph, scheme, selection)
    for layer in selection.layers:
        writer.store_weight(layer)
    for value, parameters in selection.values.items():
        writer.insert_pair(value, parameters)
    for value in list(graph.initializers.values()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[str(value.name)]
    total = sum(
        value.const_value.nbytes for value in graph.initializers.values() if value.const_value
    )
    external = "model.data" if total > EXTERNAL_BYTES else None
    ir.save(loaded, folder / "model.onnx", external_data=external)
    nodes = [*(layer.node for layer in selection.layers), *selection.carriers]
    return QuantizeReport(
        quantized=tuple(str(node.name) for node in nodes),
        kept=tuple(selection.kept),
        ops=dict(Counter(node.op_type for node in nodes)),
        activations=len(selection.values),
    )


def _nothing(selection: Selection) -> ModelError:
    first = selection.kept[0] if selection.kept else None
    why = f"; {first.op} {first.node!r} stays in float because {first.reason}" if first else ""
    return ModelError(
        f"no node of the model can be quantized to int8 under this scheme{why}",
        code="E262",
        subject=first.node if first else None,
        hint="Set `quantize: fp16` or `none` for this target, or loosen `keep_float`.",
    )


class _Writer:
    """Adds initialisers, Q and DQ nodes to one graph."""

    def __init__(self, graph: ir.Graph, scheme: Scheme, selection: Selection) -> None:
        self._graph = graph
        self._scheme = scheme
        self._selection = selection
        self._names = Names(graph)
        self._weights: dict[tuple[ir.Value, int | None, bytes], tuple[ir.Value, ir.Value]] = {}
        self._constants: dict[tuple[str, bytes], ir.Value] = {}
        self._readers = {layer.node for layer in selection.layers} | set(selection.carriers)
        self._start = next(iter(graph))

    def store_weight(self, layer: Layer) -> None:
        """Replace the weight (and bias) of a layer by integer initialisers behind a DQ."""
        if layer.node.op_type == "Gather":
            self._store_table(layer)
            return
        axis = layer.channel_axis if self._scheme.per_channel else None
        weight = constant_of(layer.weight)
        array = weight.numpy()
        bias = self._bias(layer, array)
        floor: np.ndarray | float = 0.0
        activation_scale = 0.0
        if bias is not None and layer.activation is not None:
            activation_scale = self._selection.values[layer.activation].scale
            floor = bias_floor(bias, activation_scale)
            floor = floor if axis is not None else float(floor.max(initial=0.0))
        scales = weight_scales(array, axis, self._scheme.weight_bits, floor)
        stored, scale = self._stored(layer.weight, axis, scales)
        zero = self._constant(np.zeros(scales.shape, np.int8), f"{stored.name}_zero_point")
        name = self._names.free(f"{layer.weight.name}_DequantizeLinear")
        read = self._dequantized(name, stored, scale, zero, axis, layer.node)
        _swap(layer.node, layer.weight, read)
        if bias is not None:
            self._store_bias(layer, bias, activation_scale * scales.astype(np.float64))

    def _bias(self, layer: Layer, weight: np.ndarray) -> np.ndarray | None:
        """Return the bias as ``[channels]`` if it is to be int32, else None."""
        channel_axis = layer.channel_axis
        if not self._scheme.quantize_bias or channel_axis is None or not layer.bias_is_constant:
            return None
        channels = weight.shape[channel_axis]
        if layer.bias is None:
            wanted = self._scheme.bias_always and layer.node.op_type == "Conv"
            return np.zeros(channels, np.float32) if wanted else None
        array = constant_of(layer.bias).numpy()
        if array.dtype != np.float32 or array.size != channels:
            return None
        return array.reshape(-1)

    def _stored(
        self, weight: ir.Value, axis: int | None, scales: np.ndarray
    ) -> tuple[ir.Value, ir.Value]:
        """Return (int8 initialiser, scale initialiser), made once per weight, axis and scales."""
        key = (weight, axis, scales.tobytes())
        if key not in self._weights:
            source = constant_of(weight)
            name = self._names.free(f"{weight.name}_quantized")

            def compute() -> ir.TensorProtocol:
                return ir.Tensor(quantize_weight(source.numpy(), scales, axis), name=name)

            lazy = ir.LazyTensor(
                compute, ir.DataType.INT8, ir.Shape(constant_shape(weight)), name=name
            )
            stored = add_initializer(self._graph, name, lazy)
            self._weights[key] = stored, self._constant(scales, f"{weight.name}_scale")
        return self._weights[key]

    def _store_bias(self, layer: Layer, array: np.ndarray, scales: np.ndarray) -> None:
        units = scales.astype(np.float32)
        name = self._names.free(f"{layer.node.name}_bias_quantized")
        integers = quantize_bias(array, units)
        if self._scheme.bias_always and not integers.any():
            integers[0] = 1
        stored = add_initializer(self._graph, name, ir.Tensor(integers, name=name))
        axis = 0 if units.ndim else None
        read = self._dequantized(
            self._names.free(f"{layer.node.name}_bias_DequantizeLinear"),
            stored,
            self._constant(units, f"{layer.node.name}_bias_scale"),
            self._constant(np.zeros(units.shape, np.int32), f"{name}_zero_point"),
            axis,
            layer.node,
        )
        if len(layer.node.inputs) == 2:
            layer.node.resize_inputs(3)
        layer.node.replace_input_with(2, read)

    def _store_table(self, layer: Layer) -> None:
        """Look up int8 rows, and dequantize what was looked up instead of the whole table."""
        node, result = layer.node, layer.node.outputs[0]
        scales = weight_scales(constant_of(layer.weight).numpy(), None, self._scheme.weight_bits)
        stored, scale = self._stored(layer.weight, None, scales)
        zero = self._constant(np.zeros((), np.int8), f"{stored.name}_zero_point")
        node.replace_input_with(0, stored)
        name = str(result.name)
        result.name = self._names.free(f"{name}_quantized")
        read = ir.Value(name=name, shape=result.shape, type=result.type)
        result.type = ir.TensorType(ir.DataType.INT8)
        result.replace_all_uses_with(read, replace_graph_outputs=True)
        dq = ir.node(
            "DequantizeLinear",
            [result, scale, zero],
            outputs=[read],
            name=self._names.free(f"{name}_DequantizeLinear"),
        )
        self._graph.insert_after(node, dq)

    def insert_pair(self, value: ir.Value, parameters: ActivationParameters) -> None:
        """Insert the Q/DQ pair of an activation and let its consumers read the dequantized one."""
        uses = list(value.uses())
        name = str(value.name)
        dtype = np.dtype(parameters.dtype)
        scale = self._constant(np.float32(parameters.scale), f"{name}_scale")
        zero = self._constant(dtype.type(parameters.zero_point), f"{name}_zero_point")
        is_output = value.is_graph_output()
        dequantized = ir.Value(
            name=self._names.free(f"{name}_dequantized"), shape=value.shape, type=value.type
        )
        quantized = ir.Value(
            name=self._names.free(f"{name}_quantized"),
            shape=value.shape,
            type=ir.TensorType(ir.DataType.from_numpy(dtype)),
        )
        everyone = value in self._selection.produced
        for use in uses:
            if everyone or use.node in self._readers:
                use.node.replace_input_with(use.idx, dequantized)
        if everyone and is_output:
            self._give_output(value, dequantized)
        q = ir.node(
            "QuantizeLinear",
            [value, scale, zero],
            outputs=[quantized],
            name=self._names.free(f"{name}_QuantizeLinear"),
        )
        dq = ir.node(
            "DequantizeLinear",
            [quantized, scale, zero],
            outputs=[dequantized],
            name=self._names.free(f"{name}_DequantizeLinear"),
        )
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._start, [q, dq])
        else:
            self._graph.insert_after(producer, [q, dq])

    def _give_output(self, value: ir.Value, dequantized: ir.Value) -> None:
        """Make the dequantized value the graph output of this name."""
        name, spare = str(value.name), self._names.free(f"{value.name}_float")
        for position, output in enumerate(self._graph.outputs):
            if output is value:
                self._graph.outputs[position] = dequantized
        value.name = spare
        dequantized.name = name

    def _constant(self, array: np.ndarray | np.generic, name: str) -> ir.Value:
        """Return an initialiser with this content; equal content is stored once."""
        array = np.asarray(array)
        key = (f"{array.dtype.name}{array.shape}", array.tobytes())
        if key not in self._constants:
            fresh = self._names.free(name)
            tensor = ir.Tensor(array, name=fresh)
            self._constants[key] = add_initializer(self._graph, fresh, tensor)
        return self._constants[key]

    def _dequantized(
        self,
        name: str,
        stored: ir.Value,
        scale: ir.Value,
        zero: ir.Value,
        axis: int | None,
        before: ir.Node,
    ) -> ir.Value:
        """Return the result of a new DequantizeLinear that stands before the node ``before``."""
        read = ir.Value(
            name=self._names.free(f"{stored.name}_dequantized"),
            shape=stored.shape,
            type=ir.TensorType(ir.DataType.FLOAT),
        )
        attributes = {} if axis is None else {"axis": axis}
        node = ir.node(
            "DequantizeLinear", [stored, scale, zero], attributes, outputs=[read], name=name
        )
        self._graph.insert_before(before, node)
        return read


def _swap(node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    for position, value in enumerate(node.inputs):
        if value is old:
            node.replace_input_with(position, new)
