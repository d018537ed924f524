"""Pooling over one to three spatial axes.

Source: ``avg_pool``, ``l2_pool`` and ``max_pool`` of the MIL operations, iOS 15.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from edgedeploy.mil.registry import Array, op
from edgedeploy.mil.windows import Axis, padded, plan, tap


def _windows(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None,
    pad_type: str,
    pad: Array | None,
    ceil_mode: Array | bool,
) -> tuple[Axis, ...]:
    """Return where the windows lie.

    Raises:
        ValueError: One has no element of the input. With ``ceil_mode`` and no padding MIL declares
            such windows where the stride exceeds the kernel; nothing says what they hold.
    """
    axes = plan(
        x.shape[2:],
        kernel_sizes,
        strides=strides,
        pad_type=pad_type,
        pad=pad,
        ceil_mode=bool(ceil_mode),
    )
    for axis in axes:
        last = (axis.count - 1) * axis.stride - axis.before
        if axis.before >= axis.reach or last >= axis.size:
            raise ValueError("a window has no element of the input")
    return axes


def _fold(area: Array, axes: Sequence[Axis], into: Callable[[Array, Array], Array]) -> Array:
    """Return all elements of each window taken together, pixels at once."""
    elements = np.ndindex(*(axis.kernel for axis in axes))
    parts = (area[(slice(None), slice(None), *tap(axes, element))] for element in elements)
    out = next(parts).copy()
    for part in parts:
        out = into(out, part)
    return out


@op("max_pool")
def max_pool(
    x: Array,
    kernel_sizes: Array,
    pad_type: str,
    strides: Array | None = None,
    pad: Array | None = None,
    ceil_mode: Array | bool = False,
) -> Array:
    """Return the largest element of each window; padding is never the largest.

    Args:
        x: ``[N, C, *D]``.
        kernel_sizes: ``[len(D)]``.
        pad_type: ``valid``, ``same``, ``same_lower`` or ``custom``.
        strides: ``[len(D)]``.
        pad: ``[2 len(D)]``, for ``custom``.
        ceil_mode: Whether a last window may reach beyond the padded input.

    Returns:
        ``[N, C, *D_out]``.
    """
    axes = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return _fold(padded(x, axes, -math.inf), axes, np.maximum)


@op("avg_pool")
def avg_pool(
    x: Array,
    kernel_sizes: Array,
    pad_type: str,
    strides: Array | None = None,
    pad: Array | None = None,
    exclude_padding_from_average: Array | bool = False,
    ceil_mode: Array | bool = False,
) -> Array:
    """Return the mean of each window.

    Args:
        x: ``[N, C, *D]``.
        kernel_sizes: ``[len(D)]``.
        pad_type: ``valid``, ``same``, ``same_lower`` or ``custom``.
        strides: ``[len(D)]``.
        pad: ``[2 len(D)]``, for ``custom``.
        exclude_padding_from_average: Whether padding counts in the divisor. What a window of
            ``ceil_mode`` has beyond the padding never counts, as in PyTorch.
        ceil_mode: Whether a last window may reach beyond the padded input.

    Returns:
        ``[N, C, *D_out]``.
    """
    axes = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    total = _fold(padded(x, axes, 0.0), axes, np.add)
    for place, axis in enumerate(axes):
        starts = np.arange(axis.count) * axis.stride - axis.before
        ends = starts + axis.kernel
        if exclude_padding_from_average:
            number = np.minimum(ends, axis.size) - np.maximum(starts, 0)
        else:
            number = np.minimum(ends, axis.size + axis.after) - starts
        total /= number.astype(total.dtype).reshape(-1, *[1] * (len(axes) - 1 - place))
    return total


@op("l2_pool")
def l2_pool(
    x: Array,
    kernel_sizes: Array,
    pad_type: str,
    strides: Array | None = None,
    pad: Array | None = None,
    ceil_mode: Array | bool = False,
) -> Array:
    """Return the root of the sum of the squares of each window.

    Args:
        x: ``[N, C, *D]``.
        kernel_sizes: ``[len(D)]``.
        pad_type: ``valid``, ``same``, ``same_lower`` or ``custom``.
        strides: ``[len(D)]``.
        pad: ``[2 len(D)]``, for ``custom``.
        ceil_mode: Whether a last window may reach beyond the padded input.

    Returns:
        ``[N, C, *D_out]``.
    """
    axes = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return np.sqrt(_fold(np.square(padded(x, axes, 0.0)), axes, np.add))
