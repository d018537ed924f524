"""Convolutions over one to three spatial axes, as matrix products.

Source: ``conv`` and ``conv_transpose`` of the MIL operations, iOS 15 and 17 (where weights may have
another float type than the input).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgedeploy.mil.registry import Array, op
from edgedeploy.mil.windows import Axis, padded, plan, slide, tap

SCRATCH_ELEMENTS = 1 << 23
"""How many elements of windows are copied at a time (32 MB): layers are cut into row strips."""


@op("conv")
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: Array | int = 1,
) -> Array:
    """Return the convolution (cross-correlation) of ``x`` with ``weight``.

    Args:
        x: ``[N, C_in, *D]``.
        weight: ``[C_out, C_in / groups, *K]``.
        bias: ``[C_out]``.
        strides: ``[len(D)]``.
        pad_type: ``valid``, ``same``, ``same_lower`` or ``custom``.
        pad: ``[2 len(D)]``, for ``custom``.
        dilations: ``[len(D)]``.
        groups: Divides both channel counts.

    Returns:
        ``[N, C_out, *D_out]``.
    """
    axes = plan(
        x.shape[2:],
        weight.shape[2:],
        strides=strides,
        dilations=dilations,
        pad_type=pad_type,
        pad=pad,
    )
    parts = int(groups)
    if x.shape[1] != parts * weight.shape[1] or weight.shape[0] % parts:
        raise ValueError(f"{x.shape[1]} channels and {parts} groups of weights {weight.shape}")
    area = padded(x, axes, 0.0)
    if weight.shape[1] == 1 and parts > 1:
        out = _depthwise(area, weight, axes, parts)
    else:
        out = _grouped(area, weight, axes, parts)
    return out if bias is None else out + _per_channel(bias, out.ndim)


def _per_channel(values: Array, rank: int) -> Array:
    return values.reshape(-1, *[1] * (rank - 2))


def _depthwise(area: Array, weight: Array, axes: Sequence[Axis], channels: int) -> Array:
    """Return the sum over the kernel's elements, each a product with all pixels at once."""
    counts = [axis.count for axis in axes]
    each = weight.shape[0] // channels
    factors = weight.reshape(channels, each, *weight.shape[2:])
    out = np.zeros((len(area), channels, each, *counts), np.result_type(area, weight))
    for element in np.ndindex(*weight.shape[2:]):
        pixels = area[(slice(None), slice(None), *tap(axes, element))]
        factor = factors[(slice(None), slice(None), *element)]
        out += pixels[:, :, None] * factor.reshape(channels, each, *[1] * len(axes))
    return out.reshape(len(area), channels * each, *counts)


def _grouped(area: Array, weight: Array, axes: Sequence[Axis], groups: int) -> Array:
    """Return weights times windows, a strip of rows at a time."""
    counts = tuple(axis.count for axis in axes)
    depth = math.prod(weight.shape[1:])
    matrices = weight.reshape(groups, -1, depth)
    out = np.empty((len(area), weight.shape[0], *counts), np.result_type(area, weight))
    windows = slide(area, axes)
    rank = len(axes)
    # From [C, *counts, *kernel] to [C, *kernel, *counts].
    order = (0, *range(rank + 1, 2 * rank + 1), *range(1, rank + 1))
    rows = max(1, SCRATCH_ELEMENTS // (groups * depth * math.prod(counts[1:])))
    for item in range(len(area)):
        for first in range(0, counts[0], rows):
            strip = windows[item][:, first : first + rows].transpose(order)
            columns = strip.reshape(groups, depth, -1)
            made = np.matmul(matrices, columns)
            target = out[item, :, first : first + rows]
            target[...] = made.reshape(target.shape)
    return out


@op("conv_transpose")
def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Array | None = None,
    output_shape: Array | None = None,
    pad_type: str = "valid",
    strides: Array | None = None,
    dilations: Array | None = None,
    groups: Array | int = 1,
) -> Array:
    """Return the transposed convolution: the gradient of :func:`conv` for its input.

    Args:
        x: ``[N, C_in, *D]``.
        weight: ``[C_in, C_out / groups, *K]``.
        bias: ``[C_out]``.
        pad: ``[2 len(D)]``, for ``custom``: what is cut off the full result.
        output_shape: ``[N, C_out, *D_out]``. With ``same`` it chooses among the sizes that a
            convolution maps to ``D``; else it must be what the padding leaves.
        pad_type: ``valid``, ``same`` (``D_out = D * strides`` by default) or ``custom``.
        strides: ``[len(D)]``.
        dilations: ``[len(D)]``.
        groups: Divides both channel counts.

    Returns:
        ``[N, C_out, *D_out]``.

    Raises:
        ValueError: The padding is unknown, or contradicts ``output_shape``: nothing says which of
            them counts.
    """
    rank, parts = x.ndim - 2, int(groups)
    steps = [1] * rank if strides is None else [int(step) for step in strides]
    spread = [1] * rank if dilations is None else [int(step) for step in dilations]
    full = _scattered(x, weight, steps, spread, parts)
    given = np.zeros(2 * rank, int) if pad is None or pad_type == "valid" else pad
    sizes, starts = [], []
    for place, size in enumerate(full.shape[2:]):
        before, after = map(int, given[2 * place : 2 * place + 2])
        wanted = None if output_shape is None else int(output_shape[2 + place])
        if pad_type == "same":
            wanted = wanted or x.shape[2 + place] * steps[place]
            before = max(0, size - wanted) // 2
        elif pad_type not in ("valid", "custom"):
            raise ValueError(f"padding {pad_type!r} is unknown")
        elif wanted not in (None, size - before - after):
            raise ValueError(f"{size} less padding {before} and {after} is not {wanted}")
        sizes.append(size - before - after if wanted is None else wanted)
        starts.append(before)
    out = _window_of(full, starts, sizes)
    return out if bias is None else out + _per_channel(bias, out.ndim)


def _scattered(
    x: Array, weight: Array, steps: Sequence[int], spread: Sequence[int], groups: int
) -> Array:
    """Return the full result: every input pixel adds its multiple of the kernel."""
    count, channels, *sizes = x.shape
    if channels != weight.shape[0] or channels % groups:
        raise ValueError(f"{channels} channels and {groups} groups of weights {weight.shape}")
    each = weight.shape[1]
    axes = [
        Axis(0, kernel, step, dilation, 0, 0, size)
        for size, kernel, step, dilation in zip(sizes, weight.shape[2:], steps, spread, strict=True)
    ]
    whole = [axis.needed for axis in axes]
    out = np.zeros((count, groups * each, *whole), np.result_type(x, weight))
    pixels = x.reshape(count, groups, channels // groups, -1)
    for element in np.ndindex(*weight.shape[2:]):
        taken = weight[(slice(None), slice(None), *element)]
        matrices = taken.reshape(groups, -1, each).swapaxes(1, 2)
        made = np.matmul(matrices, pixels).reshape(count, groups * each, *sizes)
        out[(slice(None), slice(None), *tap(axes, element))] += made
    return out


def _window_of(full: Array, starts: Sequence[int], sizes: Sequence[int]) -> Array:
    """Return ``sizes`` of ``full`` from ``starts`` on, with zeros beyond its end."""
    beyond = [
        max(0, start + size - have)
        for start, size, have in zip(starts, sizes, full.shape[2:], strict=True)
    ]
    if any(beyond):
        full = np.pad(full, [(0, 0), (0, 0), *((0, end) for end in beyond)])
    cut = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    return full[(slice(None), slice(None), *cut)]
