"""Biases that make up for what rounding of weights does to the mean of a layer's results.

Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction
(arXiv:1906.04721), section 4.2, with calibrated means instead of those that batch normalisation
implies.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgedeploy.quant.layers import Layer, constant_shape
from edgedeploy.quant.unfold import fold_weight, groups_of


def mean_shift(layer: Layer, error: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return what an error of the weight adds to the mean of each channel of a layer's result.

    Args:
        layer: A plain product (``unfold.obstacle`` is None).
        error: Rounded weight minus exact weight, in the weight's shape.
        mean: Mean of what the weight is multiplied by, ``[groups, inputs]``.

    Returns:
        float64 ``[output channels]``.
    """
    folded = fold_weight(layer, error).astype(np.float64)
    return np.asarray(np.einsum("goi,gi->go", folded, mean.astype(np.float64))).reshape(-1)


def spread_means(layer: Layer, channels: np.ndarray) -> np.ndarray:
    """Return the mean of a layer's operands, ``[groups, inputs]``, from those of channels.

    Every position of a kernel is taken to see a channel's mean. That ignores the zeros of padding,
    which many positions see where images are small.

    Args:
        layer: A plain product.
        channels: Mean of each channel of the activation, ``[channels]``.
    """
    groups = groups_of(layer)
    means = np.asarray(channels, np.float64).reshape(groups, -1)
    inputs = int(np.prod(constant_shape(layer.weight))) // groups
    outputs = constant_shape(layer.weight)[layer.channel_axis or 0] // groups
    return np.repeat(means, inputs // outputs // means.shape[1], axis=1)


def added_bias(layer: Layer) -> tuple[ir.Node, int] | None:
    """Return the Add that alone reads a product, and which of its inputs is the constant bias.

    None where the layer's result has no such Add, or the constant is no vector of its channels.
    """
    result = layer.node.outputs[0]
    consumers = result.consumers()
    if len(consumers) != 1 or result.is_graph_output() or layer.channel_axis is None:
        return None
    node = consumers[0]
    if node.op_type != "Add" or node.domain or node.graph is not result.graph:
        return None
    place = 1 if node.inputs[0] is result else 0
    given = node.inputs[place]
    if given is None or given.const_value is None or not given.is_initializer():
        return None
    weight = layer.weight.const_value
    shape = tuple(given.const_value.shape.numpy())
    fits = weight is not None and bool(shape) and shape[-1] == weight.shape[layer.channel_axis]
    vector = fits and all(size == 1 for size in shape[:-1])
    return (node, place) if vector and given.const_value.dtype == ir.DataType.FLOAT else None
