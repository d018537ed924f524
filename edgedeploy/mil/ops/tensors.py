"""Operations that make tensors, and those on whole tensors that fit no other family.

MIL documentation: ``tensor_operation`` of iOS15 to iOS17.
"""

from __future__ import annotations

import math

import numpy as np

from edgedeploy.mil.registry import Array, op


@op("shape")
def shape(x: Array) -> Array:
    """Return the sizes of ``x`` as int32."""
    return np.array(x.shape, np.int32)


@op("fill")
def fill(shape: Array, value: Array = 0.0) -> Array:
    """Return a tensor of one value."""
    return np.full([int(size) for size in shape], value)


@op("fill_like")
def fill_like(ref_tensor: Array, value: Array = 0.0) -> Array:
    """Return a tensor of one value in the shape of another."""
    return np.full(ref_tensor.shape, value)


@op("range_1d")
def range_1d(start: Array, end: Array, step: Array) -> Array:
    """Return ``start, start + step, ...`` as long as they stay before ``end``."""
    if not step:
        raise ValueError("a step of 0")
    count = max(math.ceil((float(end) - float(start)) / float(step)), 0)
    return start + step * np.arange(count, dtype=np.result_type(start, step))


@op("non_zero")
def non_zero(x: Array) -> Array:
    """Return the indices of the elements that are not 0, one per row."""
    return np.argwhere(x)


@op("one_hot")
def one_hot(
    indices: Array,
    one_hot_vector_size: Array,
    axis: Array = -1,
    on_value: Array = 1,
    off_value: Array = 0,
) -> Array:
    """Return ``on_value`` where the index along a new axis is the given one, else ``off_value``.

    Raises:
        ValueError: An index outside: MIL does not say what becomes of it.
    """
    size = int(one_hot_vector_size)
    if np.any((indices < 0) | (indices >= size)):
        raise ValueError(f"indices from {indices.min()} to {indices.max()} for size {size}")
    chosen: Array = np.where(indices[..., None] == np.arange(size), on_value, off_value)
    return np.moveaxis(chosen, -1, int(axis))


@op("cumsum")
def cumsum(x: Array, axis: Array = 0, exclusive: Array = False, reverse: Array = False) -> Array:
    """Return running sums along ``axis``.

    Args:
        x: Any tensor.
        axis: The axis.
        exclusive: Leave each element out of its own sum.
        reverse: Sum from the end.
    """
    ordered = np.flip(x, int(axis)) if reverse else x
    wide = np.float64 if x.dtype.kind == "f" else np.int64
    sums = np.cumsum(ordered, axis=int(axis), dtype=wide)
    if exclusive:
        sums = np.roll(sums, 1, axis=int(axis))
        sums[(slice(None),) * (int(axis) % x.ndim) + (slice(0, 1),)] = 0
    return np.flip(sums, int(axis)) if reverse else sums


@op("band_part")
def band_part(x: Array, lower: Array = -1, upper: Array = -1) -> Array:
    """Return ``x`` with zeros off the band of the last two axes.

    Args:
        x: ``[..., M, N]``.
        lower: Diagonals kept below the main one; all where negative.
        upper: Diagonals kept above it; all where negative.
    """
    rows, columns = np.indices(x.shape[-2:], sparse=True)
    below = (int(lower) < 0) | (rows - columns <= int(lower))
    above = (int(upper) < 0) | (columns - rows <= int(upper))
    return np.where(below & above, x, np.zeros((), x.dtype))


@op("argsort")
def argsort(x: Array, axis: Array = -1, ascending: Array = False) -> Array:
    """Return the indices that sort ``x`` along ``axis``; equal elements keep their order."""
    if ascending:
        return np.argsort(x, axis=int(axis), kind="stable")
    size = x.shape[int(axis)]
    backwards = np.argsort(np.flip(x, int(axis)), axis=int(axis), kind="stable")
    return size - 1 - np.flip(backwards, int(axis))


@op("topk")
def topk(
    x: Array,
    k: Array = 1,
    axis: Array = -1,
    ascending: Array = False,
    sort: Array = True,
    return_indices: Array = True,
    output_indices_dtype: str = "int32",
) -> Array | tuple[Array, Array]:
    """Return the ``k`` highest elements along ``axis`` and their indices, the highest first.

    Args:
        x: Any tensor.
        k: How many; -1 takes all.
        axis: The axis.
        ascending: Return the lowest ones, the lowest first.
        sort: Where false, MIL leaves the order open; it is the same here.
        return_indices: Where false, the elements are the only output.
        output_indices_dtype: Declared type of the indices.
    """
    size = x.shape[int(axis)]
    count = size if int(k) == -1 else int(k)
    if not 0 < count <= size:
        raise ValueError(f"{count} of {size} elements")
    order = argsort(x, axis, ascending)
    indices = np.take(order, range(count), axis=int(axis))
    values = np.take_along_axis(x, indices, int(axis))
    return (values, indices) if return_indices else values


@op("classify")
def classify(
    probabilities: Array, classes: tuple[object, ...]
) -> tuple[object, dict[object, float]]:
    """Return the label of the highest probability and the probabilities by label.

    Raises:
        ValueError: Their numbers differ.
    """
    labels = [
        label.item() if isinstance(label, np.generic | np.ndarray) else label for label in classes
    ]
    scores = np.ravel(probabilities)
    found = dict(zip(labels, map(float, scores), strict=True))
    return labels[int(np.argmax(scores))], found
