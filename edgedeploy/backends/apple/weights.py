"""Constant weights that a program keeps in fewer bits than it computes with.

A program holds them as a ``constexpr`` operation (``constexpr_affine_dequantize`` of iOS 16,
``constexpr_blockwise_shift_scale`` of iOS 18), which Core ML expands when it loads the program or
while it runs. What changes the layout of such a weight must change its integers: any other
operation on it would run at every prediction, or make it float in the file.
https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgedeploy.backends.apple.mil_api import NARROW_TYPES, Var, mb, type_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """An integer tensor and what makes it float: ``scale * (integers - zero)``.

    Attributes:
        integers: int8 or uint8, of any rank but 0.
        bits: 8, or 4 where every value fits into four bits of its signedness.
        scale: float16 or float32, of the integers' rank; each size divides the integers' one, and
            each value serves a block of that many integers.
        zero: Like ``scale``, in the integers' dtype; None where all are 0.
    """

    integers: np.ndarray
    bits: int
    scale: np.ndarray
    zero: np.ndarray | None

    def expanded(self) -> np.ndarray:
        """Return the weight in its float type."""
        shape = self.integers.shape
        centred = self.integers.astype(self.scale.dtype)
        if self.zero is not None:
            centred = centred - spread(self.zero, shape).astype(self.scale.dtype)
        return np.asarray(spread(self.scale, shape) * centred)

    def at(self, place: int) -> Packed:
        """Return one entry of the first axis, which goes away."""
        return self._each(lambda array: array[min(place, len(array) - 1)])

    def gates(self, order: Sequence[int]) -> Packed:
        """Return it with equal parts of its first axis in another order."""
        rows = self.integers.shape[0]
        places = np.arange(rows).reshape(len(order), -1)[list(order)].reshape(-1)
        return self._each(lambda array: array[places] if len(array) == rows else array)

    def _each(self, change: Callable[[np.ndarray], np.ndarray]) -> Packed:
        return replace(
            self,
            integers=np.ascontiguousarray(change(self.integers)),
            scale=change(self.scale),
            zero=None if self.zero is None else change(self.zero),
        )

    def transposed(self, order: Sequence[int]) -> Packed:
        """Return it with its axes in another order."""
        return self._each(lambda array: array.transpose(order))


def spread(parameters: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return block parameters repeated to ``shape``, whose sizes are multiples of theirs."""
    for axis, (have, wanted) in enumerate(zip(parameters.shape, shape, strict=True)):
        if have != wanted:
            parameters = np.repeat(parameters, wanted // max(have, 1), axis)
    return parameters


def blocks(parameters: np.ndarray, axis: int, block: int, size: int) -> np.ndarray:
    """Return block parameters whose blocks divide the axis.

    Args:
        parameters: One entry per block along ``axis``; the last block may be cut off.
        axis: The axis that has blocks.
        block: Elements of a whole block.
        size: Size of the weight's axis.

    MIL knows whole blocks alone. Where the last one is short, blocks become shorter until they
    divide the axis, each with the parameters of the one that it was part of: no value changes.
    """
    if size % block == 0:
        return parameters
    shorter = math.gcd(block, size)
    repeated = np.repeat(parameters, block // shorter, axis)
    return np.take(repeated, range(size // shorter), axis)


def store(packed: Packed, ios: int) -> Var | None:
    """Return the operation that holds a weight; None where this iOS has no such operation."""
    if ios >= 18:
        kind = packed.integers.dtype.name.replace("8", str(packed.bits))
        data = packed.integers.astype(NARROW_TYPES[kind])
        zero = None if packed.zero is None else packed.zero.astype(data.dtype)
        return mb.constexpr_blockwise_shift_scale(data=data, scale=packed.scale, offset=zero)
    varies = [axis for axis, size in enumerate(packed.scale.shape) if size > 1]
    axis = varies[0] if varies else 0
    if len(varies) > 1 or (varies and packed.scale.shape[axis] != packed.integers.shape[axis]):
        return None
    form = (-1,) if varies else ()
    zero = np.zeros_like(packed.scale) if packed.zero is None else packed.zero
    return mb.constexpr_affine_dequantize(
        quantized_data=packed.integers,
        zero_point=_parameter(zero.astype(packed.integers.dtype), form),
        scale=_parameter(packed.scale, form),
        axis=np.int32(axis),
    )


def packed(var: Var) -> Packed | None:
    """Return what a value that :func:`store` made holds; None for any other value."""
    made = var.op
    if made is None:
        return None
    if made.op_type == "constexpr_blockwise_shift_scale":
        narrow = type_name(made.data) in ("int4", "uint4")
        signed = type_name(made.data).startswith("int")
        plain = np.dtype(np.int8 if signed else np.uint8)
        return Packed(
            integers=made.data.val.astype(plain),
            bits=4 if narrow else 8,
            scale=made.scale.val,
            zero=None if made.offset is None else made.offset.val.astype(plain),
        )
    if made.op_type == "constexpr_affine_dequantize":
        integers = made.quantized_data.val
        shape = [1] * integers.ndim
        if made.scale.rank:
            shape[int(made.axis.val)] = -1
        scale, zero = np.asarray(made.scale.val), np.asarray(made.zero_point.val)
        return Packed(
            integers=integers,
            bits=8,
            scale=scale.reshape(shape),
            zero=zero.reshape(shape) if zero.any() else None,
        )
    return None


def is_weight(var: Var) -> bool:
    """Return whether a value is constant: as it stands, or kept in fewer bits."""
    return var.val is not None or packed(var) is not None


def transposed(var: Var, order: Sequence[int], ios: int) -> Var:
    """Return a value with its axes in another order; a constant one is changed where it lies."""
    if var.val is not None:
        return mb.const(val=np.ascontiguousarray(np.transpose(var.val, order)))
    found = packed(var)
    moved = None if found is None else store(found.transposed(order), ios)
    return mb.transpose(x=var, perm=list(order)) if moved is None else moved


def _parameter(array: np.ndarray, form: tuple[int, ...]) -> Any:
    flat = array.reshape(form) if form else array.reshape(())
    return flat if form else flat[()]
