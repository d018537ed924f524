"""How windows slide over the spatial axes of a tensor: what convolution and pooling share.

Sizes follow MIL's own shape rules: ``same`` pads so that ``out = ceil(in / stride)``, with the odd
element at the end (``same_lower``: at the start); ``pad`` counts only where ``pad_type`` is
``custom``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedeploy.mil.registry import Array


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one axis.

    Attributes:
        size: Of the input.
        kernel: Elements per window.
        stride: From window to window.
        dilation: From element to element.
        before: Elements of padding at the start.
        after: Elements of padding at the end.
        count: Of windows.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    count: int

    @property
    def reach(self) -> int:
        """Return from where to where one window goes, in elements."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def needed(self) -> int:
        """Return how many elements the windows touch, from the first padded one."""
        return (self.count - 1) * self.stride + self.reach


def plan(
    sizes: Sequence[int],
    kernel: Sequence[int],
    *,
    strides: Array | None,
    dilations: Array | None = None,
    pad_type: str,
    pad: Array | None,
    ceil_mode: bool = False,
) -> tuple[Axis, ...]:
    """Return where the windows lie.

    Args:
        sizes: Of the spatial axes.
        kernel: One size per spatial axis.
        strides: One per spatial axis; 1 by default.
        dilations: One per spatial axis; 1 by default.
        pad_type: ``valid``, ``same``, ``same_lower`` or ``custom``.
        pad: Two per spatial axis, for ``custom``; 0 by default.
        ceil_mode: Whether a last window may begin inside and end beyond the padded input.

    Raises:
        ValueError: The padding is unknown, or no window fits.
    """
    axes = []
    for place, (size, width) in enumerate(zip(sizes, kernel, strict=True)):
        stride = 1 if strides is None else int(strides[place])
        dilation = 1 if dilations is None else int(dilations[place])
        reach = (int(width) - 1) * dilation + 1
        if pad_type in ("same", "same_lower"):
            total = max(0, stride * -(-size // stride) - size + reach - stride)
            small, large = total // 2, total - total // 2
            before, after = (small, large) if pad_type == "same" else (large, small)
        elif pad_type in ("valid", "custom"):
            given = (0, 0) if pad is None or pad_type == "valid" else pad[2 * place :][:2]
            before, after = map(int, given)
        else:
            raise ValueError(f"padding {pad_type!r} is unknown")
        count = _count(size, before, after, reach, stride, ceil_mode)
        if count < 1:
            raise ValueError(f"no window of {reach} fits into {size} + {before} + {after}")
        axes.append(Axis(size, int(width), stride, dilation, before, after, count))
    return tuple(axes)


def _count(size: int, before: int, after: int, reach: int, stride: int, ceil_mode: bool) -> int:
    room = size + before + after - reach
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    # A window must not begin in the padding after the input.
    if (count - 1) * stride >= size + (before + after) / 2 and before + after:
        count -= 1
    return count


def padded(x: Array, axes: Sequence[Axis], fill: float) -> Array:
    """Return ``x`` with what its windows touch: ``fill`` added, superfluous ends cut off.

    Args:
        x: ``[N, C, *sizes]``.
        axes: One per spatial axis.
        fill: Value of the padding.
    """
    ends = [max(0, axis.needed - axis.size - axis.before) for axis in axes]
    if any(axis.before for axis in axes) or any(ends):
        widths = [(axis.before, end) for axis, end in zip(axes, ends, strict=True)]
        x = np.pad(x, [(0, 0), (0, 0), *widths], constant_values=fill)
    cut: tuple[slice, ...] = tuple(slice(axis.needed) for axis in axes)
    return x[(slice(None), slice(None), *cut)]


def slide(x: Array, axes: Sequence[Axis]) -> Array:
    """Return a view ``[N, C, *counts, *kernel]`` of a padded input; nothing is copied."""
    spatial = x.strides[2:]
    steps = [axis.stride * step for axis, step in zip(axes, spatial, strict=True)]
    inner = [axis.dilation * step for axis, step in zip(axes, spatial, strict=True)]
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], *(axis.count for axis in axes), *(axis.kernel for axis in axes)),
        (*x.strides[:2], *steps, *inner),
        writeable=False,
    )


def tap(axes: Sequence[Axis], element: Sequence[int]) -> tuple[slice, ...]:
    """Return the slices of a padded input that hold one element of every window."""
    return tuple(
        slice(
            start := place * axis.dilation, start + (axis.count - 1) * axis.stride + 1, axis.stride
        )
        for axis, place in zip(axes, element, strict=True)
    )
