"""Quantization of activations, and weights that a package keeps smaller than they are.

Source: ``quantize`` and ``dequantize`` of iOS 17, ``constexpr_*`` of iOS 16 and 18. In iOS 16
masks and indices are bytes with packed bits; from iOS 18 on they have types of less than a byte,
which the reader has unpacked.
"""

from __future__ import annotations

import math

import numpy as np

from edgedeploy.mil.blobs import unpack
from edgedeploy.mil.registry import Array, op


def _along(values: Array, data: Array, axis: Array | int | None) -> Array:
    """Return a scalar as it is, or one value per place of an axis ready to broadcast."""
    if values.ndim == 0:
        return values
    if axis is None:
        raise ValueError("one scale per channel needs an axis")
    shape = [1] * data.ndim
    shape[int(axis)] = -1
    return values.reshape(shape)


def _widest(values: Array) -> Array:
    """Return integers in a type in which their differences cannot overflow."""
    return values.astype(np.int32) if values.dtype.kind in "iu" else values


@op("quantize")
def quantize(
    input: Array,
    scale: Array,
    output_dtype: str,
    zero_point: Array | None = None,
    axis: Array | None = None,
) -> Array:
    """Return ``clip(round(input / scale) + zero_point)``, halves rounded to even.

    Args:
        input: Any shape, float.
        scale: A scalar, or one per place of ``axis``.
        output_dtype: ``int8`` or ``uint8``.
        zero_point: Shaped as ``scale``; 0 by default.
        axis: Which one vectors belong to.
    """
    bounds = np.iinfo(output_dtype)
    steps = np.rint(input / _along(scale, input, axis))
    if zero_point is not None:
        steps = steps + _along(_widest(zero_point), input, axis)
    return np.clip(steps, bounds.min, bounds.max).astype(output_dtype)


@op("dequantize")
def dequantize(
    input: Array,
    scale: Array,
    zero_point: Array | None = None,
    axis: Array | None = None,
) -> Array:
    """Return ``scale * (input - zero_point)``.

    Args:
        input: Any shape, ``int8`` or ``uint8``.
        scale: A scalar, or one per place of ``axis``.
        zero_point: Shaped as ``scale``; 0 by default.
        axis: Which one vectors belong to.
    """
    steps = _widest(input)
    if zero_point is not None:
        steps = steps - _along(_widest(zero_point), input, axis)
    return steps.astype(np.float32) * _along(scale, input, axis)


@op("constexpr_affine_dequantize")
def constexpr_affine_dequantize(
    quantized_data: Array, zero_point: Array, scale: Array, axis: Array
) -> Array:
    """Return a constant, as :func:`dequantize`; ``axis`` counts only for vectors."""
    return dequantize(quantized_data, scale, zero_point, axis)


@op("constexpr_cast")
def constexpr_cast(source_val: Array, output_dtype: str) -> Array:
    """Return a float16 constant as float32, which is the only case that MIL has."""
    if output_dtype != "fp32":
        raise ValueError(f"a constant cannot be cast to {output_dtype}")
    return source_val


def _spread(values: Array, data_shape: tuple[int, ...]) -> Array:
    """Return one value per block as one per element of the data, or 1 where one serves an axis."""
    for axis, size in enumerate(data_shape):
        blocks = values.shape[axis]
        if size % blocks:
            raise ValueError(f"{blocks} blocks do not divide {size}")
        if blocks > 1:
            values = np.repeat(values, size // blocks, axis)
    return values


@op("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(
    data: Array, scale: Array, offset: Array | None = None
) -> Array:
    """Return ``scale * (data - offset)`` with one scale and offset per block.

    Args:
        data: Any shape.
        scale: Of the same rank; its sizes divide the data's.
        offset: Shaped as ``scale``; 0 by default.
    """
    steps = _widest(data)
    if offset is not None:
        steps = steps - _spread(_widest(offset), data.shape)
    return steps.astype(np.float32) * _spread(scale, data.shape)


@op("constexpr_lut_to_dense")
def constexpr_lut_to_dense(
    indices: Array, lut: Array, shape: Array | None = None, vector_axis: Array | None = None
) -> Array:
    """Return the values that indices have in lookup tables.

    Args:
        indices: From iOS 18 on ``[*D]``; in iOS 16 bytes with packed indices.
        lut: From iOS 18 on ``[*T, palettes, vector]``, where ``T`` divides ``D``: one table per
            block; in iOS 16 ``[palettes]``.
        shape: Of the result, in iOS 16.
        vector_axis: Which axis an index' several values are laid along.

    Returns:
        ``[*D]``, ``vector`` times larger along ``vector_axis``.
    """
    if shape is not None:
        sizes = [int(size) for size in shape]
        bits = int(math.log2(lut.size))
        places = unpack(indices.tobytes(), bits, math.prod(sizes), signed=False)
        return lut[places].reshape(sizes)
    tables = [
        np.arange(size) // (size // count)
        for size, count in zip(indices.shape, lut.shape[:-2], strict=True)
    ]
    vectors = lut[(*np.ix_(*tables), indices)]
    if vector_axis is None:
        return vectors[..., 0]
    along = int(vector_axis) % indices.ndim
    sizes = list(indices.shape)
    sizes[along] *= lut.shape[-1]
    return np.moveaxis(vectors, -1, along + 1).reshape(sizes)


@op("constexpr_sparse_to_dense")
def constexpr_sparse_to_dense(
    nonzero_data: Array, mask: Array, shape: Array | None = None
) -> Array:
    """Return values where a mask is set, and zeros elsewhere.

    Args:
        nonzero_data: ``[count]``.
        mask: From iOS 18 on ``[*D]`` of 0 and 1; in iOS 16 bytes with packed bits.
        shape: Of the result, in iOS 16.

    Returns:
        ``[*D]``.
    """
    if shape is not None:
        sizes = [int(size) for size in shape]
        mask = unpack(mask.tobytes(), 1, math.prod(sizes), signed=False).reshape(sizes)
    out = np.zeros(mask.shape, nonzero_data.dtype)
    out[mask != 0] = nonzero_data
    return out


@op("constexpr_lut_to_sparse")
def constexpr_lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Array | None = None
) -> tuple[Array, Array]:
    """Return the mask and the values of sparse data whose values are indices into tables.

    Args:
        indices_mask: ``[*D]`` of 0 and 1.
        indices_nonzero_data: ``[count]``.
        lut: As for :func:`constexpr_lut_to_dense`.
        vector_axis: As for :func:`constexpr_lut_to_dense`.

    Returns:
        The mask, ``vector`` times larger along ``vector_axis``, and one value per 1 in it.
    """
    indices = constexpr_sparse_to_dense(indices_nonzero_data, indices_mask)
    dense = constexpr_lut_to_dense(indices, lut, vector_axis=vector_axis)
    mask = indices_mask
    if vector_axis is not None:
        mask = np.repeat(mask, lut.shape[-1], int(vector_axis))
    return mask, dense[mask != 0]


@op("constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    """Return the mask and the values of sparse data with one scale and offset per block.

    Args:
        data_mask: ``[*D]`` of 0 and 1.
        nonzero_data: ``[count]``.
        scale: As for :func:`constexpr_blockwise_shift_scale`, of the rank of the mask.
        offset: Shaped as ``scale``; 0 by default.
    """
    data = constexpr_sparse_to_dense(nonzero_data, data_mask)
    dense = constexpr_blockwise_shift_scale(data, scale, offset)
    return data_mask, dense[data_mask != 0]
