"""Layers on integers, rewritten: float layers between conversions compute the same.

MIL has no integer convolution or product. Core ML joins ``dequantize``, a float layer and
``quantize`` itself, which is what the QLinear operators become. The Integer operators give the sum
before it is scaled; it is computed in float32, in parts below 2^24, where float32 is exact.
https://onnx.ai/onnx/operators/onnx__QLinearConv.html, .../onnx__ConvInteger.html,
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md (MatMulNBits)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgedeploy.backends.apple import precision
from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node, Value
from edgedeploy.backends.apple.ops.quantization import (
    Parameters,
    constant_weight,
    dequantized,
    kept,
    quantized,
)
from edgedeploy.backends.apple.registry import op, translations

EXACT = 2**24
"""float32 has every integer up to here."""


@op("QLinearConv")
def qlinear_conv(node: Node) -> Var:
    """Return the convolution of dequantized values, quantized; the bias is int32."""
    x_scale, w_scale = node.need_constant(1, "a scale"), node.need_constant(4, "a scale")
    bias = None
    if node.given(8):
        units = x_scale.astype(np.float64) * w_scale.astype(np.float64).reshape(-1)
        integers = node.need_constant(8, "the bias").astype(np.float64)
        bias = Value(dtype="float32", array=(integers * units).astype(np.float32))
    operands = [_float(node, 0, axis=1), _float(node, 3, axis=0), bias]
    return _rounded(node, _layer(node, "Conv", operands), 6)


@op("QLinearMatMul")
def qlinear_matmul(node: Node) -> Var:
    """Return the product of dequantized values, quantized."""
    rows, columns = node.rank(0) - 2, node.rank(3) - 1
    operands = [_float(node, 0, axis=rows), _float(node, 3, axis=columns)]
    return _rounded(node, _layer(node, "MatMul", operands), 6)


@op("ConvInteger")
def conv_integer(node: Node) -> Var:
    """Return the int32 sums of a convolution of integers less their zero points."""
    x, w = _centred(node, 0, 2, axis=1), _centred(node, 1, 3, axis=0)
    return _summed(node, "Conv", (x, w), (1, 1), splits=int(node.attribute("group", 1)) == 1)


@op("MatMulInteger")
def matmul_integer(node: Node) -> Var:
    """Return the int32 sums of a product of integers less their zero points."""
    ranks = node.rank(0), node.rank(1)
    x = _centred(node, 0, 2, axis=max(ranks[0] - 2, 0))
    w = _centred(node, 1, 3, axis=ranks[1] - 1)
    return _summed(node, "MatMul", (x, w), (ranks[0] - 1, max(ranks[1] - 2, 0)), splits=True)


@op("com.microsoft.MatMulNBits")
def matmul_n_bits(node: Node) -> Var:
    """Return the product with a weight of four or eight bits and one scale per block of inputs."""
    inputs, outputs = int(node.attribute("K")), int(node.attribute("N"))
    bits, block = int(node.attribute("bits", 4)), int(node.attribute("block_size"))
    if bits not in (4, 8) or node.given(4):
        node.refuse(f"weights of {bits} bits, or groups in another order", "use 4 or 8 bits")
    count = -(-inputs // block)
    integers = _unpacked(node.need_constant(1, "the weight"), bits)
    integers = integers.reshape(outputs, count * block)[:, :inputs]
    scale = node.need_constant(2, "the scales").reshape(outputs, count)
    zero = np.full((outputs, count), 1 << (bits - 1), np.int64)
    if node.given(3):
        zero = node.need_constant(3, "the zero points")
        if zero.dtype.kind == "f":
            node.refuse("zero points that are floats", "use integer zero points")
        zero = _unpacked(zero.reshape(outputs, -1), bits)[:, :count].astype(np.int64)
    elif bits == 4:
        # Centred already: four bits of either sign, and no zero points to keep.
        integers, zero = integers.astype(np.int8) - np.int8(8), zero * 0
    given = Parameters(scale=scale, zero=zero, axis=1, block=block)
    weight = kept(node, constant_weight(integers, given, bits=bits))
    x = node.var(0)
    bias = node.need_constant(5, "the bias") if node.given(5) else None
    if len(x.shape) <= 3:
        return mb.linear(x=x, weight=weight, bias=bias)
    product = mb.matmul(x=x, y=weight, transpose_y=True)
    return product if bias is None else mb.add(x=product, y=bias)


def _unpacked(data: np.ndarray, bits: int) -> np.ndarray:
    """Return bytes as uint8 values, two per byte (the lower first) where they have four bits."""
    if bits == 8:
        return data
    return np.stack([data & 15, data >> 4], axis=-1).reshape(*data.shape[:-1], -1)


def _layer(node: Node, name: str, operands: Sequence[Value | None]) -> Var:
    """Return what another operator makes of other inputs; the attributes are the node's."""
    made = translations()[name](dataclasses.replace(node, op=name, inputs=list(operands)))
    return made[0] if isinstance(made, (list, tuple)) else made


def _parameters(node: Node, scale: int, zero: int, axis: int) -> Parameters:
    """Return constant inputs as parameters: scalars, or vectors along an axis."""
    values = node.need_constant(scale, "a scale"), node.need_constant(zero, "a zero point")
    if values[0].size == 1 and values[1].size == 1:
        return Parameters(
            scale=values[0].reshape(()), zero=values[1].reshape(()).astype(np.int64), axis=None
        )
    both = [np.broadcast_to(value.reshape(-1), (max(v.size for v in values),)) for value in values]
    return Parameters(scale=both[0], zero=both[1].astype(np.int64), axis=axis)


def _float(node: Node, index: int, *, axis: int) -> Value:
    """Return a quantized input, whose scale and zero point follow it, in float."""
    given = _parameters(node, index + 1, index + 2, axis)
    integers = node.constant(index)
    if integers is None:
        var = dequantized(node, node.var(index, raw=True), given)
    else:
        var = kept(node, constant_weight(integers, given))
    return Value(dtype="float32", var=var)


def _rounded(node: Node, made: Var, index: int) -> Var:
    return quantized(node, made, _parameters(node, index, index + 1, 0), node.made_dtype())


@dataclasses.dataclass(frozen=True, slots=True)
class _Centred:
    """An integer operand less its zero point: as floats, or constant integers yet to be stored."""

    var: Var | None
    integers: np.ndarray | None
    given: Parameters

    def part(self, node: Node, axis: int, start: int, stop: int) -> Value:
        """Return a range of an axis, a constant one in 8 bits."""
        if self.integers is not None:
            cut = np.take(self.integers, range(start, stop), axis)
            return Value(dtype="float32", var=kept(node, constant_weight(cut, self.given)))
        x: Any = self.var
        if stop - start < x.shape[axis]:
            sizes = [-1] * len(x.shape)
            sizes[axis] = stop - start
            begin = [start if place == axis else 0 for place in range(len(sizes))]
            x = mb.slice_by_size(x=x, begin=begin, size=sizes)
        return Value(dtype="float32", var=x)


def _centred(node: Node, index: int, zero_index: int, *, axis: int) -> _Centred:
    zero: Any = node.constant(zero_index) if node.given(zero_index) else np.zeros((), np.int64)
    if zero is None:
        zero = node.var(zero_index)
    else:
        zero = zero.reshape(() if zero.size == 1 else (-1,)).astype(np.int64)
    fixed = isinstance(zero, np.ndarray)
    scale = np.ones(zero.shape if fixed else (), np.float32)
    given = Parameters(scale=scale, zero=zero, axis=axis if zero.shape else None)
    integers = node.constant(index)
    if integers is not None and fixed and integers.ndim > 1:
        return _Centred(None, integers, given)
    x = node.var(index)
    moved = given.along(zero, tuple(x.shape))
    moved = moved.astype(np.int32) if fixed else moved
    return _Centred(mb.cast(x=mb.sub(x=x, y=moved), dtype="fp32"), None, given)


def _summed(
    node: Node,
    layer: str,
    operands: tuple[_Centred, _Centred],
    axes: tuple[int, int],
    *,
    splits: bool,
) -> Var:
    """Return a layer's int32 sums, in as many parts as keep each of them exact in float32.

    Args:
        node: The node.
        layer: The float operator.
        operands: The activation and the weight.
        axes: The axis of each that is summed over.
        splits: Whether the sum may be split along it.
    """
    x, w = operands
    depth = node.shape(1)[axes[1]]
    largest = _largest_sums(w, axes[1])
    if largest is None and not isinstance(depth, (int, np.integer)):
        node.refuse("integer sums over an open number of products", "bind the model's dims")
    bounds = np.full(int(depth), 255.0 * 255.0) if largest is None else largest
    parts = 1
    while parts < int(depth) and _worst(bounds, parts) >= EXACT:
        parts *= 2
    if _worst(bounds, parts) >= EXACT or (parts > 1 and not splits):
        node.refuse(
            "integer sums that float32 does not hold exactly",
            "use QuantizeLinear and DequantizeLinear around the float operator",
        )
    total: Var = None
    with precision.float32(True):
        for part in np.array_split(np.arange(int(depth)), min(parts, int(depth))):
            start, stop = int(part[0]), int(part[-1]) + 1
            given = [x.part(node, axes[0], start, stop), w.part(node, axes[1], start, stop)]
            exact = mb.cast(x=_layer(node, layer, given), dtype="int32")
            total = exact if total is None else mb.add(x=total, y=exact)
    return total


def _largest_sums(weight: _Centred, axis: int) -> np.ndarray | None:
    """Return the largest sums that 255 times a constant weight can make, ``[depth, outputs]``."""
    if weight.integers is None:
        return None
    zero = weight.given.along(weight.given.zero, weight.integers.shape)
    sizes = np.moveaxis(np.abs(weight.integers.astype(np.int64) - zero), axis, 0)
    if axis == 1:  # a convolution: outputs first, then the kernel
        sizes = sizes.reshape(*sizes.shape[:2], -1).sum(axis=2)
    return np.asarray(255.0 * sizes.reshape(sizes.shape[0], -1))


def _worst(bounds: np.ndarray, parts: int) -> float:
    split = np.array_split(bounds, parts)
    return max(float(part.sum(axis=0).max(initial=0.0)) for part in split)
