"""The arithmetic of quantization: scales, zero points and integer weights.

Formulas: ONNX operator specification, QuantizeLinear-13: ``q = saturate(round_half_even(x / scale)
+ zero_point)``, ``x' = (q - zero_point) * scale``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgedeploy.quant.scheme import GREATEST_FLOAT8

# A part of a weight that stays in the processor's cache from one step of the work to the next.
BLOCK_BYTES = 1 << 20
# Below this a range is as good as a constant zero; products of scales stay normal float32 numbers.
LEAST_SCALE = 1e-18
LEAST_PRODUCT = 1e-36
# A bias must fit int32 with head room for the sums that are added to it.
GREATEST_BIAS = float(2**30)


Dtype = Literal["uint8", "int8", "uint16", "int16", "float8e4m3fn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationParameters:
    """Scale (float32 value) and zero point of one tensor."""

    scale: float
    zero_point: int
    dtype: Dtype


def activation_parameters(
    low: float, high: float, dtype: Dtype, symmetric: bool
) -> ActivationParameters:
    """Return the parameters for values in ``[low, high]``; zero is always represented exactly."""
    if dtype == "float8e4m3fn":
        scale = _float32(max(-low, high, 0.0) / GREATEST_FLOAT8)
        return ActivationParameters(scale=scale, zero_point=0, dtype=dtype)
    limits = np.iinfo(dtype)
    least, greatest = int(limits.min), int(limits.max)
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        middle = (least + greatest + 1) // 2
        scale = max(-low, high) / (greatest - middle)
        return ActivationParameters(scale=_float32(scale), zero_point=middle, dtype=dtype)
    scale = _float32((high - low) / (greatest - least))
    zero_point = round(least - low / scale)
    return ActivationParameters(
        scale=scale, zero_point=min(max(zero_point, least), greatest), dtype=dtype
    )


def _float32(scale: float) -> float:
    """Return the scale as a float32 value, 1 where the range is (almost) zero."""
    return float(np.float32(scale)) if scale >= LEAST_SCALE else 1.0


def weight_scales(
    weight: np.ndarray, axis: int | None, greatest: int, floor: np.ndarray | float = 0.0
) -> np.ndarray:
    """Return symmetric scales, float32 ``[channels]``, or ``[]`` when ``axis`` is None.

    Args:
        weight: Float array; read in blocks of rows, so that it may be a mapped file.
        axis: Channel axis.
        greatest: What the largest element becomes, such as 127
            (:attr:`edgedeploy.quant.scheme.Scheme.greatest_weight`).
        floor: Least scale, one or per channel.
    """
    if axis is None:
        peak = max((float(_peaks(block, None)) for _, block in _blocks(weight)), default=0.0)
        scales = np.asarray(peak / greatest, np.float64)
    else:
        peaks = np.zeros(weight.shape[axis], np.float64)
        others = tuple(index for index in range(weight.ndim) if index != axis)
        for rows, block in _blocks(weight):
            found = _peaks(block, others)
            if axis == 0:
                peaks[rows] = found
            else:
                np.maximum(peaks, found, out=peaks)
        scales = peaks / greatest
    scales = np.maximum(scales, floor)
    return np.where(scales < LEAST_SCALE, 1.0, scales).astype(np.float32)


def quantize_weight(weight: np.ndarray, scales: np.ndarray, axis: int | None) -> np.ndarray:
    """Return ``weight`` as int8 (same shape), zero point 0; worked off in blocks of rows."""
    result = np.empty(weight.shape, np.int8)
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    divisor = scales.reshape(shape) if axis is not None else scales
    for rows, block in _blocks(weight):
        part = block / (divisor[rows] if axis == 0 else divisor)
        np.rint(part, out=part)
        np.clip(part, -127, 127, out=part)
        result[rows] = part
    return result


def float8_weight(weight: np.ndarray, scales: np.ndarray, axis: int | None) -> np.ndarray:
    """Return ``weight`` as float8e4m3fn (same shape), rounded to the nearest, ties to even."""
    import ml_dtypes

    result = np.empty(weight.shape, ml_dtypes.float8_e4m3fn)
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    divisor = scales.reshape(shape) if axis is not None else scales
    for rows, block in _blocks(weight):
        part = block / (divisor[rows] if axis == 0 else divisor)
        np.clip(part, -GREATEST_FLOAT8, GREATEST_FLOAT8, out=part)
        result[rows] = part.astype(ml_dtypes.float8_e4m3fn)
    return result


def numpy_dtype(dtype: Dtype) -> np.dtype[Any]:
    """Return the NumPy dtype of quantized values; that of float8 comes from ml_dtypes."""
    if dtype == "float8e4m3fn":
        import ml_dtypes

        float8: np.dtype[Any] = np.dtype(ml_dtypes.float8_e4m3fn)
        return float8
    return np.dtype(dtype)


def _peaks(block: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    """Return the greatest absolute values along ``axes``, without a copy of the block."""
    high = np.max(block, axis=axes, initial=0.0)
    low = np.min(block, axis=axes, initial=0.0)
    return np.asarray(np.maximum(high, -low))


def bias_floor(bias: np.ndarray, activation_scale: float) -> np.ndarray:
    """Return the least weight scale per channel with which the bias still fits int32."""
    least = np.abs(bias.astype(np.float64)) / (GREATEST_BIAS * activation_scale)
    return np.asarray(np.maximum(least, LEAST_PRODUCT / activation_scale))


def quantize_bias(bias: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return the bias as int32 in units of ``scales`` (``activation scale * weight scale``).

    It saturates: ``bias_floor`` leaves head room, but a correction may be of any size.
    """
    limits = np.iinfo(np.int32)
    units = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    return np.clip(units, limits.min, limits.max).astype(np.int32)


def _blocks(array: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, that part of the array) along axis 0, each of about BLOCK_BYTES."""
    if not array.size:
        return
    rows = max(1, BLOCK_BYTES // max(1, array.nbytes // array.shape[0]))
    for start in range(0, array.shape[0], rows):
        part = slice(start, min(start + rows, array.shape[0]))
        yield part, array[part]
