"""Activation functions.

MIL documentation: ``activation`` of iOS15 and iOS17 (which differ in the types of constants).
"""

from __future__ import annotations

import math

import numpy as np

from edgedeploy.mil.erf import erf
from edgedeploy.mil.registry import Array, op


@op("relu")
def relu(x: Array) -> Array:
    """Return ``max(x, 0)``."""
    return np.maximum(x, 0)


@op("relu6")
def relu6(x: Array) -> Array:
    """Return ``min(max(x, 0), 6)``."""
    return np.clip(x, 0, 6)


@op("clamped_relu")
def clamped_relu(x: Array, alpha: Array, beta: Array) -> Array:
    """Return ``min(x, beta)`` for ``x >= 0`` and ``min(alpha * x, beta)`` below."""
    return np.minimum(np.where(x >= 0, x, alpha * x), beta)


@op("elu")
def elu(x: Array, alpha: Array) -> Array:
    """Return ``x`` for ``x > 0`` and ``alpha * (exp(x) - 1)`` elsewhere."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


@op("gelu")
def gelu(x: Array, mode: str = "EXACT") -> Array:
    """Return the Gaussian error linear unit, exact or one of MIL's two approximations."""
    if mode == "EXACT":
        return 0.5 * x * (1 + erf(x / math.sqrt(2)))
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * sigmoid(1.702 * x)
    raise ValueError(f"mode {mode}")


@op("leaky_relu")
def leaky_relu(x: Array, alpha: Array) -> Array:
    """Return ``x`` for ``x >= 0`` and ``alpha * x`` below."""
    return np.where(x >= 0, x, alpha * x)


@op("linear_activation")
def linear_activation(x: Array, alpha: Array, beta: Array) -> Array:
    """Return ``alpha * x + beta``."""
    return alpha * x + beta


@op("prelu")
def prelu(x: Array, alpha: Array) -> Array:
    """Return ``x`` for ``x > 0`` and ``alpha * x`` elsewhere.

    Args:
        x: ``[B, C, ...]`` of rank 3 to 5.
        alpha: One factor per channel.
    """
    return np.where(x > 0, x, _per_channel(alpha, x) * x)


@op("scaled_tanh")
def scaled_tanh(x: Array, alpha: Array, beta: Array) -> Array:
    """Return ``alpha * tanh(beta * x)``."""
    return alpha * np.tanh(beta * x)


@op("sigmoid")
def sigmoid(x: Array) -> Array:
    """Return ``1 / (1 + exp(-x))``."""
    return 1 / (1 + np.exp(-x))


@op("sigmoid_hard")
def sigmoid_hard(x: Array, alpha: Array, beta: Array) -> Array:
    """Return ``min(max(alpha * x + beta, 0), 1)``."""
    return np.clip(alpha * x + beta, 0, 1)


@op("silu")
def silu(x: Array) -> Array:
    """Return ``x * sigmoid(x)``."""
    return x * sigmoid(x)


@op("softplus")
def softplus(x: Array) -> Array:
    """Return ``log(1 + exp(x))``."""
    return np.logaddexp(x, np.zeros((), x.dtype))


@op("softplus_parametric")
def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    """Return ``alpha * log(1 + exp(beta * x))`` with factors per channel (axis 1)."""
    return _per_channel(alpha, x) * softplus(_per_channel(beta, x) * x)


@op("softmax")
def softmax(x: Array, axis: Array = -1) -> Array:
    """Return ``exp(x) / sum(exp(x))``, the sum over ``axis``."""
    powers = np.exp(x - np.max(x, axis=int(axis), keepdims=True))
    return powers / np.sum(powers, axis=int(axis), keepdims=True)


@op("softsign")
def softsign(x: Array) -> Array:
    """Return ``x / (1 + |x|)``."""
    return x / (1 + np.abs(x))


@op("thresholded_relu")
def thresholded_relu(x: Array, alpha: Array) -> Array:
    """Return ``x`` for ``x >= alpha`` and 0 below."""
    return np.where(x >= alpha, x, np.zeros((), x.dtype))


def _per_channel(factors: Array, x: Array) -> Array:
    """Return one factor per channel in a shape that broadcasts against ``[B, C, ...]``."""
    return np.reshape(factors, (-1,) + (1,) * (x.ndim - 2))
