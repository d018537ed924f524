"""Attention and what surrounds it in transformers (ONNX Attention-23 to 25, RotaryEmbedding-23)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.backends.apple.mil_api import Var, is_symbolic, mb, types
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op
from edgedeploy.backends.apple.shapes import Size, alike, reshape, scalar, sizes

RAW, CAPPED, BIASED, WEIGHTS = range(4)
"""What ``qk_matmul_output_mode`` asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Which keys a query attends to; each part broadcasts to [batch, heads, queries, keys].

    Attributes:
        allowed: Where attending is allowed; None for everywhere.
        added: What is added to the scores; None for nothing.
        complete: Whether each query certainly attends to a key.
    """

    allowed: Var | None
    added: Var | None
    complete: bool

    def bias(self, like: Var) -> Var | None:
        """Return all of it as something to add: minus infinity where attending is forbidden."""
        if self.allowed is None:
            return self.added
        forbidden = _bias(self.allowed, like)
        return forbidden if self.added is None else mb.add(x=forbidden, y=self.added)

    def dead(self, like: Var) -> Var | None:
        """Return which queries attend to nothing, [..., queries, 1]; None if there is none."""
        if self.complete:
            return None
        if self.added is not None:
            best = mb.reduce_max(x=self.bias(like), axes=[-1], keep_dims=True)
            return mb.equal(x=best, y=_number(-np.inf, like))
        counts = mb.reduce_max(x=mb.cast(x=self.allowed, dtype="int32"), axes=[-1], keep_dims=True)
        return mb.equal(x=counts, y=np.int32(0))


@op("Attention")
def attention(node: Node) -> list[Var | None]:
    """Return the attended values, the caches, and the scores in the form that was asked for.

    From iOS 18 on one operation does it, unless something between its steps is wanted.
    """
    flat = node.rank(0) == 3
    query = _heads(node, 0, "q_num_heads")
    key, value = _heads(node, 1, "kv_num_heads"), _heads(node, 2, "kv_num_heads")
    if node.given(4):
        key = mb.concat(values=[node.var(4), key], axis=2)
        value = mb.concat(values=[node.var(5), value], axis=2)
    caches = [key, value]
    mask = _mask(node, query, key)
    key, value = (_repeated(node, item, query) for item in caches)
    capped = node.attribute("softcap", 0.0) > 0
    if node.ios >= 18 and not capped and not node.wants(3):
        made, scores = _at_once(node, query, key, value, mask), None
    else:
        made, scores = _in_steps(node, query, key, value, mask)
    if flat:
        batch, heads, length, width = sizes(made)
        made = reshape(mb.transpose(x=made, perm=[0, 2, 1, 3]), [batch, length, heads * width])
    return [made, *caches, scores]


def _heads(node: Node, index: int, heads: str) -> Var:
    """Return an input as [batch, heads, length, width]."""
    x = node.var(index)
    if x.rank == 4:
        return x
    count = node.attribute(heads)
    batch, length, width = sizes(x)
    if not count or not isinstance(width, int):
        node.refuse(f"input {index} does not say how wide a head is", f"give the node {heads}")
    return mb.transpose(x=reshape(x, [batch, length, count, width // count]), perm=[0, 2, 1, 3])


def _repeated(node: Node, x: Var, query: Var) -> Var:
    """Return keys or values with each head as often as queries share it."""
    batch, have, length, width = sizes(x)
    wanted = query.shape[1]
    if is_symbolic(wanted) or not isinstance(have, int) or wanted % have:
        node.refuse(f"{wanted} heads of queries share {have} of keys", "fix the numbers of heads")
    if wanted == have:
        return x
    times = int(wanted) // have
    copies = mb.tile(x=mb.expand_dims(x=x, axes=[2]), reps=[1, 1, times, 1, 1])
    return reshape(copies, [batch, int(wanted), length, width])


def _factor(node: Node, query: Var) -> tuple[float, float]:
    """Return the factor of the scores, and the one that is usual."""
    width = query.shape[3]
    if is_symbolic(width):
        node.refuse("the width of a head is open", "bind the model's dims")
    usual = 1 / math.sqrt(int(width))
    return node.attribute("scale", usual), usual


def _at_once(node: Node, query: Var, key: Var, value: Var, mask: Mask) -> Var:
    factor, usual = _factor(node, query)
    if factor != usual:
        query = mb.mul(x=query, y=_number(factor / usual, query))
    given = mask.allowed if mask.added is None else mask.bias(query)
    masked = {} if given is None else {"attn_mask": given}
    made = mb.scaled_dot_product_attention(query=query, key=key, value=value, **masked)
    return _zero_where(mask.dead(query), made)


def _in_steps(node: Node, query: Var, key: Var, value: Var, mask: Mask) -> tuple[Var, Var]:
    """Return the attended values, and what ``qk_matmul_output_mode`` asks for."""
    scaled = mb.mul(x=query, y=_number(_factor(node, query)[0], query))
    stages = {RAW: mb.matmul(x=scaled, y=key, transpose_y=True)}
    scores = stages[RAW]
    cap = node.attribute("softcap", 0.0)
    if cap > 0:
        bent = mb.tanh(x=mb.mul(x=scores, y=_number(1 / cap, scores)))
        scores = mb.mul(x=bent, y=_number(cap, scores))
    stages[CAPPED] = scores
    bias = mask.bias(scores)
    if bias is not None:
        scores = mb.add(x=scores, y=bias)
    stages[BIASED] = scores
    weights = mb.softmax(x=_precise(node, scores), axis=-1)
    if weights.dtype != query.dtype:
        weights = mb.cast(x=weights, dtype=types.builtin_to_string(query.dtype))
    stages[WEIGHTS] = _zero_where(mask.dead(query), weights)
    made = mb.matmul(x=stages[WEIGHTS], y=value)
    return made, stages[node.attribute("qk_matmul_output_mode", RAW)]


def _precise(node: Node, scores: Var) -> Var:
    """Return the scores in the type that ``softmax_precision`` names, float32 for wider ones."""
    single, double = 1, 11
    if node.attribute("softmax_precision") in (single, double) and scores.dtype == types.fp16:
        return mb.cast(x=scores, dtype="fp32")
    return scores


def _mask(node: Node, query: Var, key: Var) -> Mask:
    """Return the mask that the inputs 3 and 6 and the attributes make."""
    allowed: list[Var] = []
    added = None
    if node.given(3):
        given = _padded(node, query, key)
        if given.dtype == types.bool:
            allowed.append(given)
        else:
            added = given
    allowed += _positional(node, query, key)
    # Counted from the past on, key 0 comes before every query; a limit to the left may exclude it.
    left = node.attribute("left_window_size", -1)
    complete = not node.given(3) and not node.given(6) and left < 0
    together = allowed[0] if allowed else None
    for other in allowed[1:]:
        together = mb.logical_and(x=together, y=other)
    if together is not None and together.val is not None and added is None:
        complete = bool(np.any(together.val, axis=-1).all())
    return Mask(allowed=together, added=added, complete=complete)


def _padded(node: Node, query: Var, key: Var) -> Var:
    """Return the mask input; where it is shorter than the keys, the rest is forbidden."""
    mask = node.var(3)
    if mask.dtype not in (types.bool, query.dtype):
        mask = mb.cast(x=mask, dtype=types.builtin_to_string(query.dtype))
    have, wanted = mask.shape[-1], key.shape[2]
    if is_symbolic(have) or is_symbolic(wanted):
        if have == 1:
            node.refuse("a mask of one key against an open number of keys", "expand the mask")
        return mask
    if have == wanted:
        return mask
    bias = _bias(mask, query) if mask.dtype == types.bool else mask
    pad = [0, 0] * (bias.rank - 1) + [0, int(wanted) - int(have)]
    return mb.pad(x=bias, pad=pad, mode="constant", constant_val=_number(-np.inf, query))


def _positional(node: Node, query: Var, key: Var) -> list[Var]:
    """Return what positions alone allow: causality, windows, the length of a cache."""
    left, right = node.attribute("left_window_size", -1), node.attribute("right_window_size", -1)
    right = 0 if node.attribute("is_causal", 0) else right
    found = []
    if left >= 0 or right >= 0:
        ahead = _ahead(node, query, key)
        if right >= 0:
            found.append(mb.greater_equal(x=ahead, y=np.int32(-right)))
        if left >= 0:
            found.append(mb.less_equal(x=ahead, y=np.int32(left)))
    if node.given(6):
        lengths = mb.reshape(x=node.var(6), shape=[-1, 1, 1, 1])
        found.append(mb.less(x=_range(sizes(key)[2]), y=lengths))
    return found


def _ahead(node: Node, query: Var, key: Var) -> Var:
    """Return by how many positions a query is ahead of a key, [queries, keys] or per batch."""
    length = sizes(query)[2]
    position = mb.expand_dims(x=_range(length), axes=[1])
    if node.given(4):
        position = mb.add(x=position, y=scalar(sizes(node.var(4))[2]))
    elif node.given(6):
        valid = mb.reshape(x=node.var(6), shape=[-1, 1, 1, 1])
        position = mb.add(x=position, y=mb.sub(x=valid, y=scalar(length)))
    return mb.sub(x=position, y=_range(sizes(key)[2]))


def _range(size: Size) -> Var:
    if isinstance(size, int):
        return mb.const(val=np.arange(size, dtype=np.int32))
    return mb.range_1d(start=np.int32(0), end=scalar(size), step=np.int32(1))


def _number(value: float, like: Var) -> Any:
    """Return a number in the type of a value."""
    return types.nptype_from_builtin(like.dtype)(value)


def _bias(allowed: Var, like: Var) -> Var:
    """Return 0 where attending is allowed, else minus infinity."""
    none, all_ = _number(-np.inf, like), _number(0, like)
    if allowed.val is not None:
        return mb.const(val=np.where(allowed.val, all_, none))
    cond, a, b = alike(allowed, mb.const(val=all_), mb.const(val=none))
    return mb.select(cond=cond, a=a, b=b)


def _zero_where(dead: Var | None, x: Var) -> Var:
    """Return rows of zeros for the queries that attend to nothing."""
    if dead is None:
        return x
    cond, a, b = alike(dead, mb.const(val=_number(0, x)), x)
    return mb.select(cond=cond, a=a, b=b)


@op("RotaryEmbedding")
def rotary_embedding(node: Node) -> Var:
    """Rotate pairs of entries by angles that depend on the position (ONNX RotaryEmbedding-23)."""
    x = node.var(0)
    heads = _rotated_heads(node, x)
    width = heads.shape[3]
    if is_symbolic(width):
        node.refuse("the width of a head is open", "bind the model's dims")
    turned = node.attribute("rotary_embedding_dim", 0) or int(width)
    cos, sin = (_angles(node, index) for index in (1, 2))
    part = heads if turned == width else _columns(heads, 0, turned)
    interleaved = bool(node.attribute("interleaved", 0))
    if interleaved:
        first, second = _columns(part, 0, turned, 2), _columns(part, 1, turned, 2)
    else:
        first, second = mb.split(x=part, num_splits=2, axis=3)
    real = mb.sub(x=mb.mul(x=cos, y=first), y=mb.mul(x=sin, y=second))
    imaginary = mb.add(x=mb.mul(x=sin, y=first), y=mb.mul(x=cos, y=second))
    if interleaved:
        pairs = mb.stack(values=[real, imaginary], axis=4)
        made = reshape(pairs, [*sizes(part)[:3], turned])
    else:
        made = mb.concat(values=[real, imaginary], axis=3)
    if turned != width:
        made = mb.concat(values=[made, _columns(heads, turned, int(width))], axis=3)
    if x.rank == 4:
        return made
    return reshape(mb.transpose(x=made, perm=[0, 2, 1, 3]), sizes(x))


def _rotated_heads(node: Node, x: Var) -> Var:
    if x.rank == 4:
        return x
    return _heads(node, 0, "num_heads")


def _angles(node: Node, index: int) -> Var:
    """Return cosines or sines as [batch, 1, length, width / 2]."""
    cache = node.var(index)
    if node.given(3):
        checked = {"validate_indices": False} if node.ios >= 17 else {}
        cache = mb.gather(x=cache, indices=node.var(3), axis=0, **checked)
    return mb.expand_dims(x=cache, axes=[1])


def _columns(x: Var, begin: int, end: int, step: int = 1) -> Var:
    return mb.slice_by_index(
        x=x,
        begin=[0, 0, 0, begin],
        end=[0, 0, 0, end],
        stride=[1, 1, 1, step],
        begin_mask=[True] * 3 + [False],
        end_mask=[True] * 3 + [False],
    )


@op("TensorScatter")
def tensor_scatter(node: Node) -> Var:
    """Write an update into a cache at each sample's own place (ONNX TensorScatter-24).

    Written as a gather from both: entry ``i`` of the cache comes from the update where
    ``i - start`` is a place in it.
    """
    cache, update = node.var(0), node.var(1)
    axis = node.axis(node.attribute("axis", -2), cache.rank)
    total, length = sizes(cache)[axis], sizes(update)[axis]
    if not isinstance(total, int) or not isinstance(length, int):
        node.refuse("the cache or the update has an open length", "bind the model's dims")
    start = node.var(2) if node.given(2) else mb.const(val=np.zeros(1, np.int32))
    lanes = [-1] + [1] * (cache.rank - 1)
    grid = [1] * cache.rank
    grid[axis] = total
    place = mb.sub(
        x=np.arange(total, dtype=np.int32).reshape(grid), y=mb.reshape(x=start, shape=lanes)
    )
    if node.attribute("mode", "linear") == "circular":
        place = mb.mod(x=place, y=np.int32(total))
    inside = mb.logical_and(
        x=mb.greater_equal(x=place, y=np.int32(0)), y=mb.less(x=place, y=np.int32(length))
    )
    pad = [0, 0] * axis + [0, total - length] + [0, 0] * (cache.rank - axis - 1)
    long = mb.pad(x=update, pad=pad, mode="constant", constant_val=_number(0, update))
    bounded = mb.minimum(x=mb.maximum(x=place, y=np.int32(0)), y=np.int32(total - 1))
    bounded, long = alike(bounded, long)
    checked = {"validate_indices": False} if node.ios >= 17 else {}
    moved = mb.gather_along_axis(x=long, indices=bounded, axis=axis, **checked)
    cond, a, b = alike(inside, moved, cache)
    return mb.select(cond=cond, a=a, b=b)
