"""Operations that give the same elements another shape or order of axes.

MIL documentation: ``tensor_transformation`` of iOS15 to iOS17, and ``flatten2d``.
"""

from __future__ import annotations

import math

import numpy as np

from edgedeploy.mil.interpreter import Call
from edgedeploy.mil.registry import Array, op

_STRICT_ZEROS = ("CoreML5", "CoreML6")
"""Operation sets (iOS15, iOS16) in which a 0 in a shape needs an axis at the same place."""


@op("reshape", call=True)
def reshape(call: Call, x: Array, shape: Array) -> Array:
    """Return ``x`` in another shape.

    Args:
        call: Tells the operation set.
        x: Any tensor.
        shape: One -1 is what remains. A 0 takes over a size of ``x``: up to iOS16 at the same
            axis, with as many axes as ``x`` has; from iOS17 counted from the last axis, and 1
            where ``x`` has none.

    Raises:
        ValueError: The elements do not fit, or a 0 has no axis.
    """
    wanted = [int(size) for size in shape]
    if 0 in wanted and call.machine.program.opset in _STRICT_ZEROS and len(wanted) != x.ndim:
        raise ValueError(f"shape {wanted} has a 0, and x has {x.ndim} axes")
    for index, size in enumerate(wanted):
        place = index + x.ndim - len(wanted)
        if size == 0:
            wanted[index] = x.shape[place] if place >= 0 else 1
    return x.reshape(wanted)


@op("reshape_like")
def reshape_like(
    x: Array,
    ref_tensors: Array | tuple[Array, ...],
    begins: Array | tuple[Array, ...],
    ends: Array | tuple[Array, ...],
    end_masks: Array | tuple[Array, ...],
) -> Array:
    """Return ``x`` in a shape put together from pieces of the shapes of others.

    Piece ``i`` is ``ref_tensors[i].shape[begins[i]:ends[i]]``, to the end where ``end_masks[i]``.
    """
    sizes: list[int] = []
    pieces = (_several(given) for given in (ref_tensors, begins, ends, end_masks))
    for ref, begin, end, to_end in zip(*pieces, strict=True):
        sizes += ref.shape[int(begin) : None if to_end else int(end)]
    return x.reshape(sizes)


@op("transpose")
def transpose(x: Array, perm: Array) -> Array:
    """Return ``x`` with axis ``perm[i]`` at place ``i``."""
    return np.transpose(x, [int(axis) for axis in perm])


@op("expand_dims")
def expand_dims(x: Array, axes: Array) -> Array:
    """Return ``x`` with axes of size 1 at these places of the result."""
    return np.expand_dims(x, tuple(int(axis) for axis in np.atleast_1d(axes)))


@op("squeeze")
def squeeze(x: Array, axes: Array | None = None) -> Array:
    """Return ``x`` without those of ``axes`` (default: all) that have size 1; the others stay."""
    given = range(x.ndim) if axes is None else [int(axis) for axis in np.atleast_1d(axes)]
    return np.squeeze(x, tuple(axis for axis in given if x.shape[axis] == 1))


@op("flatten2d")
def flatten2d(x: Array, axis: Array = 1) -> Array:
    """Return a matrix: the axes before ``axis`` are its rows, the others its columns."""
    return x.reshape(math.prod(x.shape[: int(axis)]), math.prod(x.shape[int(axis) :]))


@op("pixel_shuffle")
def pixel_shuffle(x: Array, upscale_factor: Array) -> Array:
    """Move channels ``[n, C*f*f, H, W]`` into pixels ``[n, C, H*f, W*f]``, channels outermost."""
    factor = int(upscale_factor)
    n, depth, height, width = x.shape
    split = x.reshape(n, depth // factor**2, factor, factor, height, width)
    moved = split.transpose(0, 1, 4, 2, 5, 3)
    return moved.reshape(n, depth // factor**2, height * factor, width * factor)


@op("pixel_unshuffle")
def pixel_unshuffle(x: Array, downscale_factor: Array) -> Array:
    """Undo :func:`pixel_shuffle`."""
    factor = int(downscale_factor)
    n, depth, height, width = x.shape
    split = x.reshape(n, depth, height // factor, factor, width // factor, factor)
    moved = split.transpose(0, 1, 3, 5, 2, 4)
    return moved.reshape(n, depth * factor**2, height // factor, width // factor)


@op("depth_to_space")
def depth_to_space(x: Array, block_size: Array) -> Array:
    """Move channels ``[n, b*b*C, H, W]`` into pixels ``[n, C, H*b, W*b]``, blocks outermost."""
    block = int(block_size)
    n, depth, height, width = x.shape
    split = x.reshape(n, block, block, depth // block**2, height, width)
    moved = split.transpose(0, 3, 4, 1, 5, 2)
    return moved.reshape(n, depth // block**2, height * block, width * block)


@op("space_to_depth")
def space_to_depth(x: Array, block_size: Array) -> Array:
    """Undo :func:`depth_to_space`."""
    block = int(block_size)
    n, depth, height, width = x.shape
    split = x.reshape(n, depth, height // block, block, width // block, block)
    moved = split.transpose(0, 3, 5, 1, 2, 4)
    return moved.reshape(n, depth * block**2, height // block, width // block)


@op("space_to_batch")
def space_to_batch(x: Array, block_shape: Array, paddings: Array) -> Array:
    """Pad the pixels of ``[n, C, H, W]`` with zeros and move the blocks into the batch."""
    high, wide = (int(size) for size in block_shape)
    padded = np.pad(x, ((0, 0), (0, 0), *((int(low), int(up)) for low, up in paddings)))
    n, depth, height, width = padded.shape
    split = padded.reshape(n, depth, height // high, high, width // wide, wide)
    moved = split.transpose(3, 5, 0, 1, 2, 4)
    return moved.reshape(n * high * wide, depth, height // high, width // wide)


@op("batch_to_space")
def batch_to_space(x: Array, block_shape: Array, crops: Array) -> Array:
    """Undo :func:`space_to_batch`: move the batch into blocks of pixels, then crop these."""
    high, wide = (int(size) for size in block_shape)
    n, depth, height, width = x.shape
    split = x.reshape(high, wide, n // (high * wide), depth, height, width)
    moved = split.transpose(2, 3, 4, 0, 5, 1)
    whole = moved.reshape(n // (high * wide), depth, height * high, width * wide)
    (top, bottom), (left, right) = ((int(low), int(up)) for low, up in crops)
    return whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]


def _several(given: Array | tuple[Array, ...]) -> tuple[Array, ...]:
    """Return a parameter that takes several tensors as a tuple also where it has one."""
    return given if isinstance(given, tuple) else (given,)
