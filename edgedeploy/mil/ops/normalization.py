"""Normalization. Statistics are taken in float64: the sum of many float32 is not exact.

Source: ``batch_norm``, ``instance_norm``, ``layer_norm``, ``l2_norm`` and ``local_response_norm``
of the MIL operations, iOS 15 and 17.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgedeploy.mil.registry import Array, op


def _channels(values: Array, rank: int) -> Array:
    """Return one value per channel, ready to broadcast with ``[N, C, *D]``."""
    return values.reshape(-1, *[1] * (rank - 2))


def _standardized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """Return ``x`` less its mean, over its deviation, in float64."""
    centred = x - x.mean(axis=axes, keepdims=True, dtype=np.float64)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    return centred / np.sqrt(variance + epsilon)


@op("batch_norm")
def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Array | float = 1e-5,
) -> Array:
    """Return ``gamma (x - mean) / sqrt(variance + epsilon) + beta`` per channel.

    Args:
        x: ``[N, C, *D]``.
        mean: ``[C]``.
        variance: ``[C]``.
        gamma: ``[C]``; 1 by default.
        beta: ``[C]``; 0 by default.
        epsilon: Added to the variance.
    """
    scale = 1 / np.sqrt(variance.astype(np.float64) + epsilon)
    if gamma is not None:
        scale = scale * gamma
    offset = -mean * scale if beta is None else beta - mean * scale
    return x * _channels(scale, x.ndim) + _channels(offset, x.ndim)


@op("instance_norm")
def instance_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Array | float = 1e-5,
) -> Array:
    """Return each channel of each item with mean 0 and variance 1, scaled and moved.

    Args:
        x: ``[N, C, *D]``.
        gamma: ``[C]``; 1 by default.
        beta: ``[C]``; 0 by default.
        epsilon: Added to the variance.
    """
    out = _standardized(x, tuple(range(2, x.ndim)), float(epsilon))
    if gamma is not None:
        out = out * _channels(gamma, x.ndim)
    return out if beta is None else out + _channels(beta, x.ndim)


@op("layer_norm")
def layer_norm(
    x: Array,
    axes: Array | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Array | float = 1e-5,
) -> Array:
    """Return ``x`` with mean 0 and variance 1 over some axes, scaled and moved.

    Args:
        x: Any shape.
        axes: What is normalized; all by default.
        gamma: Of the sizes of these axes, in the order of ``x``; 1 by default.
        beta: As ``gamma``; 0 by default.
        epsilon: Added to the variance.
    """
    every: Sequence[int] = range(x.ndim) if axes is None else [int(axis) for axis in axes]
    chosen = tuple(sorted(axis % x.ndim for axis in every))
    shape = [size if axis in chosen else 1 for axis, size in enumerate(x.shape)]
    out = _standardized(x, chosen, float(epsilon))
    if gamma is not None:
        out = out * gamma.reshape(shape)
    return out if beta is None else out + beta.reshape(shape)


@op("l2_norm")
def l2_norm(x: Array, epsilon: Array | float = 1e-6) -> Array:
    """Return ``x`` over the root of its sum of squares, over the last three axes.

    Args:
        x: Rank 3 or more.
        epsilon: Added to the sum.
    """
    total = np.square(x, dtype=np.float64).sum(axis=(-3, -2, -1), keepdims=True)
    return x / np.sqrt(total + epsilon)


@op("local_response_norm")
def local_response_norm(
    x: Array,
    size: Array,
    alpha: Array | float = 1e-4,
    beta: Array | float = 0.75,
    k: Array | float = 1.0,
) -> Array:
    """Return ``x / (k + alpha / size * sum of squares of near channels) ** beta``.

    Args:
        x: ``[N, C, *D]``.
        size: How many channels are near; odd.
        alpha: Factor.
        beta: Exponent.
        k: Added to the sum.

    Raises:
        ValueError: ``size`` is even. Apple's own tests contradict one another there: one expects
            PyTorch's window, with one more channel before than after, another that of the odd
            size below.
    """
    count = int(size)
    if count % 2 == 0:
        raise ValueError(f"an even size, {count}: Core ML does not say which channels are near")
    squares = np.square(x, dtype=np.float64)
    widths = [(0, 0), (count // 2, count // 2), *[(0, 0)] * (x.ndim - 2)]
    around = np.pad(squares, widths)
    total = sum(around[:, start : start + x.shape[1]] for start in range(count))
    return x / (k + alpha / count * total) ** beta
