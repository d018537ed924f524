"""Attention.

Source: ``scaled_dot_product_attention`` of the MIL operations, iOS 18.
"""

from __future__ import annotations

import math

import numpy as np

from edgedeploy.mil.registry import Array, op


@op("scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None
) -> Array:
    """Return ``softmax(query @ key.T / sqrt(E) + attn_mask) @ value``.

    Args:
        query: ``[B, *, L, E]``.
        key: ``[B, *, S, E]``.
        value: ``[B, *, S, V]``.
        attn_mask: Broadcast to ``[B, *, L, S]``: added if float, else True where a key counts. A
            row in which none counts is NaN, as the formula has it.

    Returns:
        ``[B, *, L, V]``.
    """
    scores = np.matmul(query, key.swapaxes(-1, -2)) / np.float32(math.sqrt(query.shape[-1]))
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        scores = np.where(attn_mask, scores, -np.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.matmul(weights / weights.sum(axis=-1, keepdims=True), value)
