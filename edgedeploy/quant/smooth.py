"""Moving what is hard to quantize from activations of matrix products into their weights.

A few channels of a transformer's activations are many times larger than the rest, and with one
scale per tensor leave the rest few steps. Every channel is divided by a factor, and the weights
that read it are multiplied by the same: the product stays what it is.

Source: Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models (arXiv:2211.10438), equation 4, with the exponent chosen for each activation by the
noise that the calibration table lets expect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgedeploy.quant.layers import Layer, constant_of
from edgedeploy.quant.names import Names, add_initializer
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.table import CalibrationTable, ChannelStatistics, TensorRange
from edgedeploy.quant.unfold import fold_weight, obstacle, unfold_weight

EXPONENTS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of a channel's size that move into the weights; the paper's alpha."""

WORTH = 0.7
"""Noise that is left over must be at most this share, 1.5 dB less, to be worth a multiplication."""

# Channels that never spoke, and weights of zero, count as this share of the greatest.
_LEAST = 1e-3
# A channel's greatest value over its standard deviation, where calibration tells only the former.
_CREST = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothed:
    """An activation whose channels were divided.

    Attributes:
        activation: Its name.
        folded: Whether the layer normalisation that makes it took the factors over; else a
            multiplication was inserted.
        nodes: Layers that read the result.
    """

    activation: str
    folded: bool
    nodes: tuple[str, ...]


def smooth(
    graph: ir.Graph,
    layers: Sequence[Layer],
    integer: set[ir.Value],
    table: CalibrationTable,
    scheme: Scheme,
) -> tuple[CalibrationTable, list[Smoothed]]:
    """Change a graph, without changing what it computes, so that activations need fewer steps.

    Args:
        graph: The main graph.
        layers: Those that are to be quantized.
        integer: Values that integer nodes make: a multiplication would tear these apart.
        table: The calibration table.
        scheme: How weights and activations are represented.

    Returns:
        The table of the changed graph, and what was changed.
    """
    readers: dict[ir.Value, list[Layer]] = {}
    for layer in layers:
        if layer.activation is not None:
            readers.setdefault(layer.activation, []).append(layer)
    names = Names(graph)
    done: list[Smoothed] = []
    for value, group in readers.items():
        seen = table.channels.get(str(value.name))
        if value in integer or seen is None or not all(map(_takes_factors, group)):
            continue
        factors = _best_factors(seen, group, table, scheme)
        if factors is None:
            continue
        source = str(value.name)
        folded = _fold_into_normalisation(graph, value, group, 1.0 / factors, names)
        if not folded:
            _insert_product(graph, value, group, 1.0 / factors, names)
        for layer in group:
            _scale_weight(graph, layer, factors, names)
        nodes = tuple(str(layer.node.name) for layer in group)
        result = str(group[0].node.inputs[0] and group[0].node.inputs[0].name)
        peak = _peaks(seen)
        table = _scaled(table, source, result, nodes, 1.0 / factors, peak)
        done.append(Smoothed(activation=source, folded=folded, nodes=nodes))
    return table, done


def _takes_factors(layer: Layer) -> bool:
    return layer.node.op_type in ("Gemm", "MatMul") and obstacle(layer) is None


def _best_factors(
    seen: ChannelStatistics, group: Sequence[Layer], table: CalibrationTable, scheme: Scheme
) -> np.ndarray | None:
    """Return what each channel is divided by, float64; None where nothing is worth it."""
    weights = [fold_weight(layer, constant_of(layer.weight).numpy())[0] for layer in group]
    if weights[0].shape[1] != len(seen.peak) or not any(seen.peak):
        return None
    peak = _peaks(seen)
    powers = [_power(seen, layer, table) for layer in group]
    bounds = _bounds(peak, table.tensors[str(group[0].activation and group[0].activation.name)])
    size = np.maximum(peak, _LEAST * peak.max())
    reach = np.max([np.abs(weight).max(axis=0) for weight in weights], axis=0)
    reach = np.maximum(reach, _LEAST * reach.max()) if reach.any() else np.ones_like(reach)
    ones = np.ones_like(size)
    plain = _noise(ones, weights, powers, bounds, scheme)
    found = [size**share / reach ** (1.0 - share) for share in EXPONENTS]
    losses = [_noise(factors, weights, powers, bounds, scheme) for factors in found]
    best = int(np.argmin(losses))
    if losses[best] > WORTH * plain:
        return None
    # Powers of two: no product changes by even a bit.
    return np.asarray(np.exp2(np.rint(np.log2(found[best] / np.exp(np.log(found[best]).mean())))))


def _power(seen: ChannelStatistics, layer: Layer, table: CalibrationTable) -> np.ndarray:
    """Return the mean square of each channel."""
    moments = None if table.moments is None else table.moments.of(str(layer.node.name))
    if moments is not None:
        return np.asarray(np.diagonal(moments[0]), np.float64)
    return np.asarray(seen.mean) ** 2 + (np.asarray(seen.peak) / _CREST) ** 2


def _peaks(seen: ChannelStatistics) -> np.ndarray:
    """Return the greatest absolute value that is to be expected of each channel.

    A channel that stayed silent on few samples may speak on others, as loud as most do: ranges cut
    to what each channel reached alone would clip it, what all reached together does not.
    """
    return np.maximum(seen.peak, np.median(seen.peak))


def _bounds(peak: np.ndarray, whole: TensorRange) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and greatest value that each channel may have."""
    return np.maximum(-peak, min(whole.low, 0.0)), np.minimum(peak, max(whole.high, 0.0))


def _noise(
    factors: np.ndarray,
    weights: Sequence[np.ndarray],
    powers: Sequence[np.ndarray],
    bounds: tuple[np.ndarray, np.ndarray],
    scheme: Scheme,
) -> float:
    """Return the expected square of what rounding of both operands does to the results."""
    low, high = (end / factors for end in bounds)
    activation_step = (high.max() - low.min()) / 255.0
    total = 0.0
    for weight, power in zip(weights, powers, strict=True):
        scaled = weight * factors
        steps = np.abs(scaled).max(axis=1) / scheme.greatest_weight
        if not scheme.per_channel:
            steps = np.full_like(steps, steps.max())
        total += activation_step**2 * float(np.sum(scaled.astype(np.float64) ** 2))
        total += float(np.sum(steps**2)) * float(np.sum(power / factors**2))
    return total / 12.0


def _fold_into_normalisation(
    graph: ir.Graph, value: ir.Value, group: Sequence[Layer], inverse: np.ndarray, names: Names
) -> bool:
    """Multiply scale and shift of the layer normalisation that only these layers read."""
    node = value.producer()
    users = {layer.node for layer in group}
    if node is None or node.op_type != "LayerNormalization" or node.domain:
        return False
    if value.is_graph_output() or not users.issuperset(value.consumers()):
        return False
    constants = node.inputs[1:3]
    arrays = [None if item is None else item.const_value for item in constants]
    if any(array is None or array.shape.numpy() != inverse.shape for array in arrays):
        return False
    for place, array in enumerate(arrays, start=1):
        if array is not None:
            content = (array.numpy() * inverse).astype(np.float32)
            node.replace_input_with(place, _constant(graph, content, f"{node.name}_smooth", names))
    value.name = names.free(f"{value.name}_smooth")  # it holds other numbers now
    return True


def _insert_product(
    graph: ir.Graph, value: ir.Value, group: Sequence[Layer], inverse: np.ndarray, names: Names
) -> None:
    """Let the layers read the product of the activation and the factors."""
    by = _constant(graph, inverse.astype(np.float32), f"{value.name}_smooth_factors", names)
    result = ir.Value(
        name=names.free(f"{value.name}_smooth"),
        shape=value.shape,
        type=ir.TensorType(ir.DataType.FLOAT),
    )
    node = ir.node("Mul", [value, by], outputs=[result], name=names.free(f"{value.name}_Mul"))
    producer = value.producer()
    if producer is None:
        graph.insert_before(next(iter(graph)), node)
    else:
        graph.insert_after(producer, node)
    for layer in group:
        layer.node.replace_input_with(0, result)


def _scale_weight(graph: ir.Graph, layer: Layer, factors: np.ndarray, names: Names) -> None:
    """Give a layer a weight of its own with its inputs multiplied."""
    folded = fold_weight(layer, constant_of(layer.weight).numpy()) * factors
    content = unfold_weight(layer, folded.astype(np.float32))
    fresh = _constant(graph, content, f"{layer.weight.name}_smooth", names)
    layer.node.replace_input_with(1, fresh)


def _constant(graph: ir.Graph, array: np.ndarray, name: str, names: Names) -> ir.Value:
    fresh = names.free(name)
    return add_initializer(graph, fresh, ir.Tensor(array, name=fresh))


def _scaled(
    table: CalibrationTable,
    source: str,
    result: str,
    nodes: Sequence[str],
    inverse: np.ndarray,
    peak: np.ndarray,
) -> CalibrationTable:
    """Return the table with what is known of the divided activation, under its own name."""
    seen, whole = table.channels[source], table.tensors[source]
    low, high = (end * inverse for end in _bounds(peak, whole))
    bound = (float(low.min()), float(high.max()))
    tensors: Mapping[str, TensorRange] = {
        result: TensorRange(
            low=bound[0],
            high=bound[1],
            mean_low=bound[0],
            mean_high=bound[1],
            count=whole.count,
            ranges=dict.fromkeys(whole.ranges, bound),
        )
    }
    channels = {
        result: ChannelStatistics(
            mean=tuple((np.asarray(seen.mean) * inverse).tolist()),
            peak=tuple((np.asarray(seen.peak) * inverse).tolist()),
        )
    }
    moments = table.moments
    if moments is not None:
        moments = moments.scaled(dict.fromkeys(nodes, inverse))
    return replace(
        table,
        tensors={**table.tensors, **tensors},
        channels={**table.channels, **channels},
        moments=moments,
    )
