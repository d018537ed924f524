"""Activation functions."""

from __future__ import annotations

import numpy as np

from edgedeploy.backends.apple import dtypes
from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import is_float, like
from edgedeploy.backends.apple.shapes import expand, sizes


@op("Relu")
def relu(node: Node) -> Var:
    """Return ``max(x, 0)``."""
    x = node.var(0)
    return mb.relu(x=x) if is_float(x) else mb.maximum(x=x, y=np.int32(0))


@op("Sigmoid")
def sigmoid(node: Node) -> Var:
    """Return ``1 / (1 + exp(-x))``."""
    return mb.sigmoid(x=node.var(0))


@op("Tanh")
def tanh(node: Node) -> Var:
    """Return the hyperbolic tangent."""
    return mb.tanh(x=node.var(0))


@op("Softplus")
def softplus(node: Node) -> Var:
    """Return ``log(1 + exp(x))``."""
    return mb.softplus(x=node.var(0))


@op("Softsign")
def softsign(node: Node) -> Var:
    """Return ``x / (1 + |x|)``."""
    return mb.softsign(x=node.var(0))


@op("LeakyRelu")
def leaky_relu(node: Node) -> Var:
    """Return ``x``, times ``alpha`` below zero."""
    x = node.var(0)
    return mb.leaky_relu(x=x, alpha=like(x, node.attribute("alpha", 0.01)))


@op("PRelu")
def prelu(node: Node) -> Var:
    """Return ``x``, times a slope that broadcasts to it below zero.

    MIL's ``prelu`` knows one constant slope per channel of a rank-4 tensor; all other forms become
    ``max(x, 0) + slope * min(x, 0)``.
    """
    x, slope = node.var(0), node.var(1)
    per_channel = [1, x.shape[1], 1, 1] if x.rank == 4 else []
    padded = [1] * (4 - slope.rank) + list(slope.shape)
    if is_float(x) and slope.val is not None and padded == per_channel:
        return mb.prelu(x=x, alpha=np.reshape(slope.val, -1))
    zero = like(x, 0)
    below = mb.mul(x=mb.minimum(x=x, y=zero), y=slope)
    return mb.add(x=mb.maximum(x=x, y=zero), y=below)


@op("Elu")
def elu(node: Node) -> Var:
    """Return ``x``, and ``alpha * (exp(x) - 1)`` below zero."""
    x = node.var(0)
    return mb.elu(x=x, alpha=like(x, node.attribute("alpha", 1.0)))


@op("Celu")
def celu(node: Node) -> Var:
    """Return ``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""
    x = node.var(0)
    alpha = float(node.attribute("alpha", 1.0))
    if alpha <= 0:
        node.refuse(f"alpha {alpha}", "Celu is meant for positive alpha")
    if alpha == 1:
        return mb.elu(x=x, alpha=like(x, 1.0))
    scaled = mb.mul(x=x, y=like(x, 1 / alpha))
    return mb.mul(x=mb.elu(x=scaled, alpha=like(x, 1.0)), y=like(x, alpha))


@op("Selu")
def selu(node: Node) -> Var:
    """Return ``gamma * elu(x, alpha)``."""
    x = node.var(0)
    # The defaults are those that ONNX Selu-22 writes down, as floats.
    alpha = node.attribute("alpha", 1.67326319217681884765625)
    gamma = node.attribute("gamma", 1.05070102214813232421875)
    return mb.mul(x=mb.elu(x=x, alpha=like(x, alpha)), y=like(x, gamma))


@op("HardSigmoid")
def hard_sigmoid(node: Node) -> Var:
    """Return ``max(0, min(1, alpha * x + beta))``."""
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    return _hard_sigmoid(node.var(0), alpha, beta)


@op("HardSwish")
def hard_swish(node: Node) -> Var:
    """Return ``x * max(0, min(1, x / 6 + 1 / 2))``."""
    x = node.var(0)
    return mb.mul(x=x, y=_hard_sigmoid(x, 1 / 6, 0.5))


def _hard_sigmoid(x: Var, alpha: float, beta: float) -> Var:
    return mb.sigmoid_hard(x=x, alpha=like(x, alpha), beta=like(x, beta))


@op("Mish")
def mish(node: Node) -> Var:
    """Return ``x * tanh(log(1 + exp(x)))``."""
    x = node.var(0)
    return mb.mul(x=x, y=mb.tanh(x=mb.softplus(x=x)))


@op("Gelu")
def gelu(node: Node) -> Var:
    """Return ``x * Phi(x)``, or its approximation by ``tanh``."""
    modes = {"none": "EXACT", "tanh": "TANH_APPROXIMATION"}
    return mb.gelu(x=node.var(0), mode=modes[node.attribute("approximate", "none")])


@op("Swish")
def swish(node: Node) -> Var:
    """Return ``x * sigmoid(alpha * x)``."""
    return _swish(node.var(0), node.attribute("alpha", 1.0))


@op("SwiGLU")
def swiglu(node: Node) -> Var:
    """Return ``swish(a) * b``."""
    return mb.mul(x=_swish(node.var(0), node.attribute("alpha", 1.0)), y=node.var(1))


def _swish(x: Var, alpha: float) -> Var:
    if alpha == 1:
        return mb.silu(x=x)
    return mb.mul(x=x, y=mb.sigmoid(x=mb.mul(x=x, y=like(x, alpha))))


@op("ThresholdedRelu")
def thresholded_relu(node: Node) -> Var:
    """Return ``x`` where it is more than ``alpha``, else 0.

    MIL keeps ``alpha`` itself too, ONNX does not: the next float is passed.
    """
    x = node.var(0)
    alpha = np.nextafter(like(x, node.attribute("alpha", 1.0)), like(x, np.inf))
    return mb.thresholded_relu(x=x, alpha=alpha)


@op("Shrink")
def shrink(node: Node) -> Var:
    """Return ``x + bias`` below ``-lambd``, ``x - bias`` above ``lambd``, else 0."""
    x = node.var(0)
    if not is_float(x):
        node.refuse("integers", "cast to float first")
    lambd, bias = node.attribute("lambd", 0.5), node.attribute("bias", 0.0)
    if lambd < 0:
        node.refuse(f"lambd {lambd}", "Shrink is meant for lambd of at least 0")
    kind = "fp16" if node.dtype(0) == "float16" else "fp32"
    above = mb.cast(x=mb.greater(x=x, y=like(x, lambd)), dtype=kind)
    below = mb.cast(x=mb.less(x=x, y=like(x, -lambd)), dtype=kind)
    kept = mb.mul(x=x, y=mb.add(x=above, y=below))
    shift = mb.mul(x=mb.sub(x=below, y=above), y=like(x, bias))
    return mb.add(x=kept, y=shift)


@op("Clip")
def clip(node: Node) -> Var:
    """Return ``min(max(x, low), high)``; each limit may be missing, or computed.

    Where ``low`` is more than ``high``, all become ``high`` (ONNX Clip-13).
    """
    x = node.var(0)
    low, high = _limit(node, 1), _limit(node, 2)
    alpha, beta = (None if limit is None else limit.val for limit in (low, high))
    # MIL's clip takes constant floats, the low one first.
    if is_float(x) and alpha is not None and beta is not None and alpha <= beta:
        return mb.clip(x=x, alpha=alpha, beta=beta)
    if low is not None:
        x = mb.maximum(x=x, y=low)
    if high is not None:
        x = mb.minimum(x=x, y=high)
    return x


def _limit(node: Node, index: int) -> Var | None:
    """Return a limit; one beyond 32 bits is as good as the end of what ``x`` is held in."""
    if not node.given(index):
        return None
    value = node.constant(index)
    return node.var(index) if value is None else mb.const(val=dtypes.constant(value))


@op("Dropout")
def dropout(node: Node) -> list[Var | None]:
    """Return the input, for nothing is dropped outside of training; and a mask of ones."""
    training = node.given(2) and bool(node.need_constant(2, "training_mode"))
    ratio = float(node.need_constant(1, "ratio")) if node.given(1) else 0.5
    if training and ratio > 0:
        node.refuse("training_mode", "export the model for inference")
    x = node.var(0)
    mask = expand(mb.const(val=np.bool_(True)), sizes(x)) if node.wants(1) else None
    return [mb.identity(x=x), mask]
