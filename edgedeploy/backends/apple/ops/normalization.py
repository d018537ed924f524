"""Normalizations.

``stash_type`` is not looked at: what a program computes in is chosen for the whole package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.scalars import like
from edgedeploy.backends.apple.shapes import product, quotient, reshape, sizes


@op("BatchNormalization")
def batch_normalization(node: Node) -> list[Var | None]:
    """Return ``[N, C, *D]`` normalized per channel, and in training mode the new statistics.

    Source: ONNX BatchNormalization-15; MIL ``batch_norm`` takes constants and ranks 3 to 5.
    """
    x, epsilon = node.var(0), node.attribute("epsilon", 1e-5)
    if node.rank(0) < 2:
        node.refuse("an input without channels", "repair the model")
    if node.attribute("training_mode", 0):
        return _training(node, x, epsilon)
    gamma, beta, mean, variance = (node.var(place) for place in range(1, 5))
    fixed = all(value.val is not None for value in (gamma, beta, mean, variance))
    if not fixed or node.rank(0) > 5:
        spread = mb.sqrt(x=mb.add(x=variance, y=like(variance, epsilon)))
        scale = mb.real_div(x=gamma, y=spread)
        centred = mb.sub(x=x, y=_per_channel(mean, x))
        return [_affine(centred, _per_channel(scale, x), _per_channel(beta, x)), None, None]
    flat = node.rank(0) == 2
    made = mb.batch_norm(
        x=mb.expand_dims(x=x, axes=[2]) if flat else x,
        mean=like(x, mean.val),
        variance=like(x, variance.val),
        gamma=like(x, gamma.val),
        beta=like(x, beta.val),
        epsilon=like(x, epsilon),
    )
    return [mb.squeeze(x=made, axes=[2]) if flat else made, None, None]


def _training(node: Node, x: Var, epsilon: float) -> list[Var | None]:
    axes = [axis for axis in range(x.rank) if axis != 1]
    momentum = node.attribute("momentum", 0.9)
    mean, variance = _moments(x, axes)
    normal = _standardized(x, mean, variance, epsilon)
    made = _affine(normal, _per_channel(node.var(1), x), _per_channel(node.var(2), x))
    running: list[Var | None] = []
    for place, current in ((3, mean), (4, variance)):
        kept = mb.mul(x=node.var(place), y=like(x, momentum))
        fresh = mb.mul(x=mb.squeeze(x=current, axes=axes), y=like(x, 1 - momentum))
        running.append(mb.add(x=kept, y=fresh))
    return [made, *running]


@op("InstanceNormalization")
def instance_normalization(node: Node) -> Var:
    """Return ``[N, C, *D]`` normalized per instance and channel.

    Source: ONNX InstanceNormalization-22; MIL ``instance_norm`` takes constants, ranks 3 and 4.
    """
    x, gamma, beta = node.var(0), node.var(1), node.var(2)
    epsilon = node.attribute("epsilon", 1e-5)
    if x.rank in (3, 4) and gamma.val is not None and beta.val is not None:
        return mb.instance_norm(
            x=x, gamma=like(x, gamma.val), beta=like(x, beta.val), epsilon=like(x, epsilon)
        )
    mean, variance = _moments(x, list(range(2, x.rank)))
    normal = _standardized(x, mean, variance, epsilon)
    return _affine(normal, _per_channel(gamma, x), _per_channel(beta, x))


@op("LayerNormalization")
def layer_normalization(node: Node) -> list[Var | None]:
    """Return the input normalized over its last axes; the mean and 1 / deviation where wanted.

    Source: ONNX LayerNormalization-17; MIL ``layer_norm`` takes constants of just these axes.
    """
    x, scale, axes = node.var(0), node.var(1), _last_axes(node)
    epsilon = node.attribute("epsilon", 1e-5)
    bias = node.var(2) if node.given(2) else None
    inner = tuple(x.shape[axes[0] :])
    given = [scale] if bias is None else [scale, bias]
    fits = all(item.val is not None and tuple(item.shape) == inner for item in given)
    if fits and not node.wants(1) and not node.wants(2):
        beta = {} if bias is None else {"beta": like(x, bias.val)}
        made = mb.layer_norm(
            x=x, axes=axes, gamma=like(x, scale.val), epsilon=like(x, epsilon), **beta
        )
        return [made, None, None]
    mean, variance = _moments(x, axes)
    inverse = mb.rsqrt(x=mb.add(x=variance, y=like(x, epsilon)), epsilon=like(x, 0.0))
    normal = mb.mul(x=mb.sub(x=x, y=mean), y=inverse)
    return [_affine(normal, scale, bias), mean, inverse]


@op("GroupNormalization")
def group_normalization(node: Node) -> Var:
    """Return ``[N, C, *D]`` normalized per instance and group of channels.

    Scale and bias are one per channel since opset 21, one per group before.
    """
    x, groups = node.var(0), node.attribute("num_groups")
    shape = sizes(x)
    epsilon = node.attribute("epsilon", 1e-5)
    inner = product([quotient(shape[1], groups), *shape[2:]])
    grouped = reshape(x, [shape[0], groups, inner])
    mean, variance = _moments(grouped, [2])
    normal = _standardized(grouped, mean, variance, epsilon)
    scale, bias = node.var(1), node.var(2)
    if node.since < 21:
        per_group = [mb.expand_dims(x=item, axes=[0, 2]) for item in (scale, bias)]
        return reshape(_affine(normal, *per_group), shape)
    normal = reshape(normal, shape)
    return _affine(normal, _per_channel(scale, x), _per_channel(bias, x))


@op("RMSNormalization")
def rms_normalization(node: Node) -> Var:
    """Return ``x / sqrt(mean(x ** 2) + epsilon) * scale`` over the last axes."""
    x = node.var(0)
    mean = mb.reduce_mean(x=mb.mul(x=x, y=x), axes=_last_axes(node), keep_dims=True)
    inner = mb.add(x=mean, y=like(x, node.attribute("epsilon", 1e-5)))
    inverse = mb.rsqrt(x=inner, epsilon=like(x, 0.0))
    return mb.mul(x=mb.mul(x=x, y=inverse), y=node.var(1))


@op("LpNormalization")
def lp_normalization(node: Node) -> Var:
    """Return the input over its norm (p of 1 or 2) along an axis; zeros stay zero."""
    x = node.var(0)
    axes = [node.axis(node.attribute("axis", -1), x.rank)]
    if node.attribute("p", 2) == 1:
        norm = mb.reduce_l1_norm(x=x, axes=axes, keep_dims=True)
    else:
        norm = mb.reduce_l2_norm(x=x, axes=axes, keep_dims=True)
    kind = "fp16" if node.dtype(0) == "float16" else "fp32"
    zero = mb.cast(x=mb.equal(x=norm, y=like(x, 0.0)), dtype=kind)
    return mb.real_div(x=x, y=mb.add(x=norm, y=zero))


@op("MeanVarianceNormalization")
def mean_variance_normalization(node: Node) -> Var:
    """Return ``(x - mean) / (deviation + 1e-9)`` over axes.

    Source: the function body of ONNX MeanVarianceNormalization-13, which holds the 1e-9.
    """
    x = node.var(0)
    axes = [node.axis(axis, x.rank) for axis in node.attribute("axes") or [0, 2, 3]]
    mean, variance = _moments(x, axes)
    spread = mb.add(x=mb.sqrt(x=variance), y=like(x, 1e-9))
    return mb.real_div(x=mb.sub(x=x, y=mean), y=spread)


@op("LRN")
def lrn(node: Node) -> Var:
    """Return ``x / (bias + alpha / size * sum of neighbours' squares) ** beta`` over channels.

    MIL's ``local_response_norm`` does not say where an even window lies, and ONNX Runtime computes
    none.
    """
    x, size = node.var(0), node.attribute("size")
    if not size % 2 or x.rank not in (3, 4):
        node.refuse(f"a window of {size} channels in rank {x.rank}", "use an odd size in rank 4")
    return mb.local_response_norm(
        x=x,
        size=size,
        alpha=like(x, node.attribute("alpha", 1e-4)),
        beta=like(x, node.attribute("beta", 0.75)),
        k=like(x, node.attribute("bias", 1.0)),
    )


def _last_axes(node: Node) -> list[int]:
    rank = node.rank(0)
    return list(range(node.axis(node.attribute("axis", -1), rank), rank))


def _moments(x: Var, axes: Sequence[int]) -> tuple[Var, Var]:
    """Return mean and population variance over axes that are kept with size 1."""
    mean = mb.reduce_mean(x=x, axes=axes, keep_dims=True)
    centred = mb.sub(x=x, y=mean)
    return mean, mb.reduce_mean(x=mb.mul(x=centred, y=centred), axes=axes, keep_dims=True)


def _standardized(x: Var, mean: Var, variance: Var, epsilon: float) -> Var:
    inner = mb.add(x=variance, y=like(x, epsilon))
    return mb.mul(x=mb.sub(x=x, y=mean), y=mb.rsqrt(x=inner, epsilon=like(x, 0.0)))


def _affine(x: Var, scale: Var, bias: Var | None) -> Var:
    made = mb.mul(x=x, y=scale)
    return made if bias is None else mb.add(x=made, y=bias)


def _per_channel(value: Var, x: Var) -> Any:
    """Return a ``[C]`` in the shape that broadcasts to ``x`` of ``[N, C, *D]``."""
    if value.val is not None:
        return np.asarray(value.val).reshape([-1] + [1] * (x.rank - 2))
    return mb.expand_dims(x=value, axes=list(range(1, x.rank - 1))) if x.rank > 2 else value
