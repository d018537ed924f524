"""A layer's product as plain matrices: what convolutions and matrix products have in common.

``output[row, group, o] = sum over i of weight[group, o, i] * operand[row, group, i]``: a row is one
position of the result, an operand what the layer multiplies there (a patch, for a convolution).
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgedeploy.quant.layers import Layer, constant_shape, int_attribute

# Fraction of the golden ratio: multiples of it, modulo 1, fill an interval evenly, and stay in
# step with no width of an image.
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def obstacle(layer: Layer) -> str | None:
    """Return why a layer is no such product, None where it is one."""
    if layer.node.op_type not in ("Conv", "Gemm", "MatMul"):
        return f"{layer.node.op_type} is no plain product"
    if layer.channel_axis is None:
        return "its weight is the left operand or no plain matrix"
    if int_attribute(layer.node, "transA", 0):
        return "its activation is transposed"
    return None


def groups_of(layer: Layer) -> int:
    """Return the groups of a layer; 1 for a matrix product."""
    return int_attribute(layer.node, "group", 1) if layer.node.op_type == "Conv" else 1


def fold_weight(layer: Layer, weight: np.ndarray) -> np.ndarray:
    """Return a layer's weight as ``[groups, outputs, inputs]``, a view where that is possible."""
    outputs_first = weight if layer.channel_axis == 0 else weight.T
    groups = groups_of(layer)
    return outputs_first.reshape(groups, outputs_first.shape[0] // groups, -1)


def unfold_weight(layer: Layer, folded: np.ndarray) -> np.ndarray:
    """Return what :func:`fold_weight` folded in its own shape again, C-contiguous."""
    shape = constant_shape(layer.weight)
    if layer.channel_axis == 0:
        return np.ascontiguousarray(folded.reshape(shape))
    return np.ascontiguousarray(folded.reshape(shape[1], shape[0]).T)


def operands(layer: Layer, activation: np.ndarray, limit: int) -> np.ndarray:
    """Return what a layer multiplies by its weight, at evenly spread positions of its result.

    Args:
        layer: One without an :func:`obstacle`.
        activation: Its activation: ``[n, channels, ...]`` for a convolution, ``[..., inputs]``.
        limit: At most this many positions.

    Returns:
        ``[rows, groups, inputs]`` in the activation's type, inputs ordered as in the weight.
    """
    if layer.node.op_type == "Conv":
        return _patches(layer, activation, limit)
    rows = activation.reshape(-1, activation.shape[-1])
    return np.asarray(rows[_spread(len(rows), limit)][:, None, :])


def geometry(layer: Layer) -> tuple[object, ...]:
    """Return what the operands depend on besides the activation; equal layers share operands."""
    if layer.node.op_type != "Conv":
        return ()
    names = ("strides", "dilations", "pads")
    given = (layer.node.attributes.get(name) for name in names)
    numbers = tuple(None if item is None else tuple(item.as_ints()) for item in given)
    return (constant_shape(layer.weight)[2:], groups_of(layer), _padding(layer.node), *numbers)


def _spread(count: int, limit: int) -> np.ndarray:
    """Return at most ``limit`` of ``count`` positions, ascending, spread evenly."""
    if count <= limit:
        return np.arange(count)
    return np.unique(np.floor(np.arange(limit) * _GOLDEN % 1.0 * count).astype(np.int64))


def _padding(node: ir.Node) -> str:
    attribute = node.attributes.get("auto_pad")
    return "NOTSET" if attribute is None else attribute.as_string()


def _patches(layer: Layer, activation: np.ndarray, limit: int) -> np.ndarray:
    kernel = constant_shape(layer.weight)[2:]
    rank = len(kernel)
    ones = [1] * rank
    strides = _ints(layer.node, "strides", ones)
    dilations = _ints(layer.node, "dilations", ones)
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    pads = _pads(layer.node, activation.shape[2:], spans, strides)
    if any(map(any, pads)):
        activation = np.pad(activation, [(0, 0), (0, 0), *pads])
    axes = tuple(range(2, 2 + rank))
    windows = np.lib.stride_tricks.sliding_window_view(activation, spans, axis=axes)
    every = slice(None)
    steps = [slice(None, None, step) for step in (*strides, *dilations)]
    windows = np.moveaxis(windows[(every, every, *steps)], 1, 1 + rank)
    positions = windows.shape[: 1 + rank]
    chosen = np.unravel_index(_spread(math.prod(positions), limit), positions)
    return windows[chosen].reshape(len(chosen[0]), groups_of(layer), -1)


def _pads(
    node: ir.Node, sizes: tuple[int, ...], spans: list[int], strides: list[int]
) -> list[tuple[int, int]]:
    """Return the zeros before and after each spatial axis (ONNX operator Conv, ``auto_pad``)."""
    mode = _padding(node)
    if mode == "VALID":
        return [(0, 0)] * len(sizes)
    if mode == "NOTSET":
        flat = _ints(node, "pads", [0] * (2 * len(sizes)))
        return list(zip(flat[: len(sizes)], flat[len(sizes) :], strict=True))
    found = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + span - size, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if mode == "SAME_UPPER" else (more, less))
    return found


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    attribute = node.attributes.get(name)
    return default if attribute is None else list(attribute.as_ints())
