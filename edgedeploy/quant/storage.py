"""Integer weights in a graph: initialisers, each made once, and the nodes that make them float."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgedeploy.model.files import (
    DATA_NAME,
    INLINE_BYTES,
    MODEL_NAME,
    SMALLEST_EXTERNAL_BYTES,
)
from edgedeploy.quant.layers import (
    RECURRENT_WEIGHTS,
    Layer,
    constant_of,
    constant_shape,
    float_attribute,
    int_attribute,
    recurrent_weights,
)
from edgedeploy.quant.names import Names, add_initializer
from edgedeploy.quant.numerics import (
    float8_weight,
    numpy_dtype,
    quantize_weight,
    weight_scales,
)
from edgedeploy.quant.scheme import Scheme

MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


class Storage:
    """Adds integer initialisers and DequantizeLinear nodes to one graph.

    Args:
        graph: The main graph; only added to.
        scheme: Bits and granularity of the weights.
    """

    def __init__(self, graph: ir.Graph, scheme: Scheme) -> None:
        self.graph = graph
        self.names = Names(graph)
        self._scheme = scheme
        self._greatest = scheme.greatest_weight
        self._weights: dict[tuple[ir.Value, int | None, bytes], ir.Value] = {}
        self._constants: dict[tuple[str, bytes], ir.Value] = {}

    def constant(self, array: np.ndarray | np.generic, name: str) -> ir.Value:
        """Return an initialiser with this content; equal content is stored once."""
        array = np.asarray(array)
        key = (f"{array.dtype.name}{array.shape}", array.tobytes())
        if key not in self._constants:
            fresh = self.names.free(name)
            tensor = ir.Tensor(array, name=fresh)
            self._constants[key] = add_initializer(self.graph, fresh, tensor)
        return self._constants[key]

    def weight(
        self,
        weight: ir.Value,
        axis: int | None,
        scales: np.ndarray,
        integers: np.ndarray | None = None,
    ) -> ir.Value:
        """Return the int8 initialiser of a weight, made once per weight, axis, scales, integers.

        Args:
            weight: The float initialiser.
            axis: Channel axis; None where one scale serves the whole weight.
            scales: float32 ``[channels]`` or ``[]``.
            integers: int8 of the weight's shape; None rounds it to the nearest.
        """
        if integers is not None:
            rounded = (weight, axis, hashlib.sha256(integers.tobytes() + scales.tobytes()).digest())
            if rounded not in self._weights:
                self._weights[rounded] = self.integers(weight, integers)
            return self._weights[rounded]
        key = (weight, axis, scales.tobytes())
        if key not in self._weights:
            source = constant_of(weight)
            name = self.names.free(f"{weight.name}_quantized")

            store, dtype = quantize_weight, ir.DataType.INT8
            if self._scheme.weights == "float8":
                store, dtype = float8_weight, ir.DataType.FLOAT8E4M3FN

            def compute() -> ir.TensorProtocol:
                return ir.Tensor(store(source.numpy(), scales, axis), name=name)

            lazy = ir.LazyTensor(compute, dtype, ir.Shape(constant_shape(weight)), name=name)
            self._weights[key] = add_initializer(self.graph, name, lazy)
        return self._weights[key]

    def integers(self, weight: ir.Value, array: np.ndarray) -> ir.Value:
        """Return a new initialiser with the integers of a weight in another layout."""
        name = self.names.free(f"{weight.name}_quantized")
        return add_initializer(self.graph, name, ir.Tensor(array, name=name))

    def parameters(
        self, weight: ir.Value, stored: ir.Value, scales: np.ndarray
    ) -> tuple[ir.Value, ir.Value]:
        """Return the initialisers of a stored weight's scales and zero points."""
        scale = self.constant(scales, f"{weight.name}_scale")
        dtype = numpy_dtype("float8e4m3fn" if self._scheme.weights == "float8" else "int8")
        zero = self.constant(np.zeros(scales.shape, dtype), f"{stored.name}_zero_point")
        return scale, zero

    def dequantized(
        self,
        stored: ir.Value,
        scale: ir.Value,
        zero: ir.Value,
        axis: int | None,
        name: str,
        before: ir.Node,
    ) -> ir.Value:
        """Return the result of a new DequantizeLinear that stands before the node ``before``."""
        read = ir.Value(
            name=self.names.free(f"{stored.name}_dequantized"),
            shape=stored.shape,
            type=ir.TensorType(ir.DataType.FLOAT),
        )
        attributes = {} if axis is None else {"axis": axis}
        node = ir.node(
            "DequantizeLinear",
            [stored, scale, zero],
            attributes,
            outputs=[read],
            name=self.names.free(name),
        )
        self.graph.insert_before(before, node)
        return read

    def read_weight(
        self,
        weight: ir.Value,
        axis: int | None,
        scales: np.ndarray,
        reader: ir.Node,
        integers: np.ndarray | None = None,
    ) -> ir.Value:
        """Return the float form of a weight that is stored as int8, for one reader."""
        stored = self.weight(weight, axis, scales, integers)
        scale, zero = self.parameters(weight, stored, scales)
        name = f"{weight.name}_DequantizeLinear"
        return self.dequantized(stored, scale, zero, axis, name, reader)

    def store_table(self, layer: Layer) -> ir.Value:
        """Look up int8 rows, and dequantize what was looked up instead of the whole table.

        One scale per column: with one in all, the few columns with large values, which the
        embeddings of transformers have, leave the others little resolution.

        Returns:
            The float value that takes the place of the layer's result.
        """
        node, result = layer.node, layer.node.outputs[0]
        axis = layer.channel_axis if self._scheme.per_channel else None
        scales = weight_scales(
            constant_of(layer.weight).numpy(), axis, self._scheme.greatest_weight
        )
        stored = self.weight(layer.weight, axis, scales)
        scale, zero = self.parameters(layer.weight, stored, scales)
        node.replace_input_with(0, stored)
        name = str(result.name)
        result.name = self.names.free(f"{name}_quantized")
        read = ir.Value(name=name, shape=result.shape, type=result.type)
        result.type = ir.TensorType(ir.DataType.INT8)
        result.replace_all_uses_with(read, replace_graph_outputs=True)
        dq = ir.node(
            "DequantizeLinear",
            [result, scale, zero],
            {} if axis is None else {"axis": -1},
            outputs=[read],
            name=self.names.free(f"{name}_DequantizeLinear"),
        )
        self.graph.insert_after(node, dq)
        return read

    def store_recurrent(self, node: ir.Node) -> None:
        """Store the weights of a recurrent node, one scale per row of all gates.

        Where the scheme says ``integer`` an LSTM computes on them: with the dynamic ranges of
        ``com.microsoft.DynamicQuantizeLSTM``, the one integer form that there is. Anything else
        reads them as float.
        """
        weights = recurrent_weights(node)
        computes = self._scheme.recurrent == "integer" and len(weights) == len(RECURRENT_WEIGHTS)
        if computes and node.op_type == "LSTM" and not int_attribute(node, "layout", 0):
            self._replace_lstm(node, weights)
            return
        for position, weight in weights.items():
            axis = 1 if self._scheme.per_channel else None
            scales = weight_scales(constant_of(weight).numpy(), axis, self._greatest)
            node.replace_input_with(position, self.read_weight(weight, axis, scales, node))

    def _replace_lstm(self, node: ir.Node, weights: Mapping[int, ir.Value]) -> None:
        tail: list[ir.Value] = []
        for position, weight in weights.items():
            array = np.ascontiguousarray(constant_of(weight).numpy().transpose(0, 2, 1))
            scales = np.stack([weight_scales(part, 1, self._greatest) for part in array])
            parts = zip(array, scales, strict=True)
            integers = np.stack([quantize_weight(part, unit, 1) for part, unit in parts])
            stored = self.integers(weight, integers)
            node.replace_input_with(position, stored)
            tail += self.parameters(weight, stored, scales)
        node.resize_inputs(8 + len(tail))
        for position, value in enumerate(tail, start=8):
            node.replace_input_with(position, value)
        node.attributes.pop("layout", None)
        node.op_type, node.domain = "DynamicQuantizeLSTM", MICROSOFT
        self.graph.opset_imports.setdefault(MICROSOFT, 1)

    def add(
        self,
        before: ir.Node,
        op_type: str,
        inputs: list[ir.Value],
        name: str,
        attributes: Mapping[str, int] | None = None,
        domain: str = "",
    ) -> ir.Value:
        """Return the result of a new node that stands before the node ``before``."""
        fresh = self.names.free(f"{name}_{op_type}")
        made = ir.Value(name=self.names.free(f"{fresh}_output"))
        node = ir.node(
            op_type, inputs, dict(attributes or {}), domain=domain, outputs=[made], name=fresh
        )
        self.graph.insert_before(before, node)
        return made

    def with_bias(self, layer: Layer, product: ir.Value) -> ir.Value:
        """Return a product with the bias added that its layer, a MatMul or Gemm, has."""
        node, bias = layer.node, layer.bias
        if node.op_type != "Gemm" or bias is None:
            return product
        beta = float_attribute(node, "beta", 1.0)
        if beta != 1.0:
            factor = self.constant(np.float32(beta), f"{node.name}_beta")
            bias = self.add(node, "Mul", [bias, factor], f"{node.name}_bias")
        return self.add(node, "Add", [product, bias], str(node.name))

    def replace(self, node: ir.Node, last: ir.Value) -> None:
        """Let ``last`` take the place and the name of a node's only result; remove the node."""
        result = node.outputs[0]
        last.shape, last.type = result.shape, result.type
        given = str(result.name)
        result.replace_all_uses_with(last, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)
        last.name = given

    def remove_unused(self) -> None:
        """Remove the initialisers that nothing reads any more."""
        for value in list(self.graph.initializers.values()):
            if not value.uses() and not value.is_graph_output():
                del self.graph.initializers[str(value.name)]


def save(model: ir.Model, folder: Path) -> None:
    """Write ``folder/model.onnx``, and the data file beside it where the weights are many.

    With a data file no more than one weight is in memory at a time.
    """
    total = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    ir.save(
        model,
        folder / MODEL_NAME,
        external_data=DATA_NAME if total > INLINE_BYTES else None,
        size_threshold_bytes=SMALLEST_EXTERNAL_BYTES,
    )
