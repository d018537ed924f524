"""Operations that reduce axes.

MIL documentation: ``reduction`` of iOS15 and iOS17. Sums of floats are taken in float64; means and
roots of integers are cut to integers, as MIL's own evaluation of constants has it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgedeploy.mil.registry import Array, Compute, op

Reduce = Callable[[Array, tuple[int, ...] | None, bool], Array]


def _sum(x: Array, axes: tuple[int, ...] | None, keep: bool) -> Array:
    wide = np.float64 if x.dtype.kind == "f" else np.int64
    return np.sum(x, axis=axes, keepdims=keep, dtype=wide)


def _log_sum_exp(x: Array, axes: tuple[int, ...] | None, keep: bool) -> Array:
    highest = np.max(x, axis=axes, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0)
    logs = np.log(_sum(np.exp(x - highest), axes, True)) + highest
    kept: Array = np.max(logs, axis=axes, keepdims=keep)  # drops axes of size 1 where asked
    return kept


def _mean(x: Array, axes: tuple[int, ...] | None, keep: bool) -> Array:
    return np.mean(x, axis=axes, keepdims=keep, dtype=np.float64)


_KINDS: dict[str, Reduce] = {
    "reduce_l1_norm": lambda x, axes, keep: _sum(np.abs(x), axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: np.sqrt(_sum(np.square(x), axes, keep)),
    "reduce_log_sum": lambda x, axes, keep: np.log(_sum(x, axes, keep)),
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_max": lambda x, axes, keep: np.max(x, axis=axes, keepdims=keep),
    "reduce_mean": _mean,
    "reduce_min": lambda x, axes, keep: np.min(x, axis=axes, keepdims=keep),
    "reduce_prod": lambda x, axes, keep: np.prod(x, axis=axes, keepdims=keep),
    "reduce_sum": _sum,
    "reduce_sum_square": lambda x, axes, keep: _sum(np.square(x), axes, keep),
}


def _over_axes(reduce: Reduce) -> Compute:
    def compute(x: Array, axes: Array | None = None, keep_dims: Array = False) -> Array:
        chosen = None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes))
        return reduce(x, chosen, bool(keep_dims))

    return compute


for _kind, _reduce in _KINDS.items():
    op(_kind)(_over_axes(_reduce))


@op("reduce_argmax")
def reduce_argmax(
    x: Array, axis: Array = -1, keep_dims: Array = False, output_dtype: str = "int32"
) -> Array:
    """Return where the maximum along ``axis`` lies; the first of equal ones (MIL leaves it open).

    ``output_dtype`` is the declared type of the result.
    """
    return np.argmax(x, axis=int(axis), keepdims=bool(keep_dims))


@op("reduce_argmin")
def reduce_argmin(
    x: Array, axis: Array = -1, keep_dims: Array = False, output_dtype: str = "int32"
) -> Array:
    """Return where the minimum along ``axis`` lies; the first of equal ones (MIL leaves it open).

    ``output_dtype`` is the declared type of the result.
    """
    return np.argmin(x, axis=int(axis), keepdims=bool(keep_dims))
