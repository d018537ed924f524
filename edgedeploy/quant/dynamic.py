"""Writing of models with dynamic activations: their 8-bit ranges are found at run time.

A matrix product by a constant becomes ``DynamicQuantizeLinear`` and ``MatMulInteger``, which ONNX
Runtime fuses into one kernel; an LSTM becomes ``com.microsoft.DynamicQuantizeLSTM``. Convolutions
stay in float: the runtime's ``ConvInteger`` is several times slower than its float convolution.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgedeploy.quant.layers import (
    Layer,
    constant_of,
    find_layers,
    float_attribute,
    inputs_last,
    load_checked,
    product_obstacle,
)
from edgedeploy.quant.numerics import quantize_weight, weight_scales
from edgedeploy.quant.qdq import QuantizeReport, nothing_to_quantize, report_of
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.selection import Exempt, check_patterns, choose
from edgedeploy.quant.storage import Storage, save


def quantize_dynamic(model: Path, scheme: Scheme, folder: Path) -> QuantizeReport:
    """Write ``folder/model.onnx``, the dynamically quantized form of ``model``.

    Args:
        model: ONNX model in the normal form; no calibration is needed.
        scheme: What to quantize; its ``activations`` are ``dynamic``.
        folder: Existing folder; big models also get ``model.onnx.data`` there.

    Raises:
        ModelError: Nothing can be quantized (E262), or see ``layers.load_checked``.
        ProfileError: A ``keep_float`` pattern matches no node (E266).
    """
    loaded = load_checked(model)
    graph = loaded.graph
    check_patterns(graph, scheme)
    chosen, recurrent, kept = choose(graph, find_layers(graph), scheme, None)
    possible = [layer for layer in chosen if _obstacle(layer) is None]
    kept += [
        Exempt(node=str(layer.node.name), op=layer.node.op_type, reason=reason)
        for layer in chosen
        if (reason := _obstacle(layer)) is not None
    ]
    if not possible and not recurrent:
        raise nothing_to_quantize(kept)
    nodes = [*(layer.node for layer in possible), *recurrent]
    report = report_of(nodes, kept, 0)
    writer = _Writer(loaded, scheme)
    for layer in possible:
        writer.replace(layer)
    for node in recurrent:
        writer.storage.store_recurrent(node)
    writer.storage.remove_unused()
    save(loaded, folder)
    return report


def _obstacle(layer: Layer) -> str | None:
    """Return why a layer has no dynamic form, None where it has one."""
    node = layer.node
    if node.op_type == "Gather":
        return None
    if node.op_type not in ("Gemm", "MatMul"):
        return f"{node.op_type} has no fast kernel with dynamic activations"
    return product_obstacle(layer)


class _Writer:
    """Replaces layers of one model by their dynamic form."""

    def __init__(self, model: ir.Model, scheme: Scheme) -> None:
        self._graph = model.graph
        self._scheme = scheme
        self._activations: dict[ir.Value, tuple[ir.Value, ...]] = {}
        self.storage = Storage(model.graph, scheme)

    def replace(self, layer: Layer) -> None:
        """Replace a matrix product, or the table of a lookup."""
        node = layer.node
        if node.op_type == "Gather":
            self.storage.store_table(layer)
            return
        name, add = str(node.name), self.storage.add
        stored, scales = self._matrix(layer)
        integer, scale, zero = self._activation(layer, node)
        zero_weight = self.storage.constant(np.zeros(scales.shape, np.int8), f"{name}_zero_point")
        product = add(node, "MatMulInteger", [integer, stored, zero, zero_weight], name)
        unscaled = add(node, "Cast", [product], name, {"to": ir.DataType.FLOAT})
        weight_scale = self.storage.constant(scales, f"{name}_scale")
        unit = add(node, "Mul", [scale, weight_scale], name)
        last = self.storage.with_bias(layer, add(node, "Mul", [unscaled, unit], name))
        self.storage.replace(node, last)

    def _matrix(self, layer: Layer) -> tuple[ir.Value, np.ndarray]:
        """Return the weight as int8 ``[inputs, outputs]``, and its scales with ``alpha`` in."""
        node = layer.node
        array = constant_of(layer.weight).numpy()
        axis = layer.channel_axis if self._scheme.per_channel else None
        scales = weight_scales(array, axis, self._scheme.greatest_weight)
        if inputs_last(node):
            integers = np.ascontiguousarray(quantize_weight(array, scales, axis).T)
            stored = self.storage.integers(layer.weight, integers)
        else:
            stored = self.storage.weight(layer.weight, axis, scales)
        return stored, (scales * float_attribute(node, "alpha", 1.0)).astype(np.float32)

    def _activation(self, layer: Layer, before: ir.Node) -> tuple[ir.Value, ...]:
        """Return the activation as uint8 with its scale and zero point, made once for all."""
        value = layer.activation
        if value is None:
            raise ValueError(f"{layer.node.name} has no activation")
        if value not in self._activations:
            name = f"{value.name}_DynamicQuantizeLinear"
            made = [
                ir.Value(name=self.storage.names.free(f"{value.name}_{part}"))
                for part in ("quantized", "scale", "zero_point")
            ]
            node = ir.node(
                "DynamicQuantizeLinear", [value], outputs=made, name=self.storage.names.free(name)
            )
            self._graph.insert_before(before, node)
            self._activations[value] = tuple(made)
        return self._activations[value]
