"""Four-bit weights with one scale per block of the input axis, as ``MatMulNBits`` stores them.

Source: ONNX Runtime, docs/ContribOperators.md, ``com.microsoft.MatMulNBits``. The integers are
``[outputs, blocks, block / 2]`` bytes with the earlier of two inputs in the low half, the scales
``[outputs, blocks]``; an element means ``(q - 8) * scale``, and the last block is filled up.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgedeploy.quant.numerics import BLOCK_BYTES, LEAST_SCALE

GREATEST = 7
"""Symmetric: of the sixteen levels -8 is not used."""

MIDDLE = 8
"""What stands for zero among the unsigned four bits."""

Index = tuple[slice, slice]
"""Which outputs, and which blocks of their inputs."""


def block_scales(weight: np.ndarray, block: int, *, inputs_last: bool) -> np.ndarray:
    """Return the symmetric scales of all blocks, float32 ``[outputs, blocks]``.

    Args:
        weight: Float array ``[inputs, outputs]``, or ``[outputs, inputs]`` with ``inputs_last``;
            read in parts, so that it may be a mapped file.
        block: Inputs that share a scale.
        inputs_last: Which of the two layouts it is.
    """
    scales = np.empty(_sizes(weight, block, inputs_last), np.float32)
    for index, part in _parts(weight, block, inputs_last):
        scales[index] = _scales(part)
    return scales


def pack_blocks(weight: np.ndarray, block: int, *, inputs_last: bool) -> np.ndarray:
    """Return the weight in four bits, uint8 ``[outputs, blocks, block / 2]``.

    The scales are those of :func:`block_scales`, found once more, because the scales of all weights
    of a large model are too much to keep until they are written.

    Args:
        weight: As in :func:`block_scales`.
        block: Inputs that share a scale, an even number.
        inputs_last: As in :func:`block_scales`.
    """
    packed = np.empty((*_sizes(weight, block, inputs_last), block // 2), np.uint8)
    for index, part in _parts(weight, block, inputs_last):
        levels = part / _scales(part)[..., None]
        np.rint(levels, out=levels)
        levels += MIDDLE
        halves = levels.astype(np.uint8)
        pairs = halves[..., 1::2] << 4
        pairs |= halves[..., 0::2]
        packed[index] = pairs
    return packed


def _scales(part: np.ndarray) -> np.ndarray:
    if part.flags.c_contiguous:  # NumPy is slow at many short reductions along the last axis
        starts = np.arange(0, part.size, part.shape[-1])
        peaks = np.maximum.reduceat(np.abs(part).reshape(-1), starts).reshape(part.shape[:-1])
    else:
        peaks = np.maximum(part.max(axis=-1), -part.min(axis=-1))
    scales = peaks / np.float32(GREATEST)
    return np.where(scales < LEAST_SCALE, np.float32(1), scales)


def _sizes(weight: np.ndarray, block: int, inputs_last: bool) -> tuple[int, int]:
    outputs, inputs = weight.shape if inputs_last else weight.shape[::-1]
    return outputs, -(-inputs // block)


def _parts(weight: np.ndarray, block: int, inputs_last: bool) -> Iterator[tuple[Index, np.ndarray]]:
    """Yield parts ``[outputs, blocks, block]`` of about BLOCK_BYTES, contiguous in ``weight``.

    The axes of a part are in this order whatever the layout; NumPy works through them in the order
    in which they lie in memory.
    """
    outputs, blocks = _sizes(weight, block, inputs_last)
    if not weight.size:
        return
    row_bytes = weight.nbytes // weight.shape[0]
    if inputs_last:
        rows = max(1, BLOCK_BYTES // row_bytes)
        for start in range(0, outputs, rows):
            part = _filled(weight[start : start + rows].T, blocks * block).T
            yield (slice(start, start + rows), slice(None)), part.reshape(-1, blocks, block)
        return
    count = max(1, BLOCK_BYTES // (row_bytes * block))
    for start in range(0, blocks, count):
        end = min(start + count, blocks)
        part = _filled(weight[start * block : end * block], (end - start) * block)
        part = part.reshape(end - start, block, outputs).transpose(2, 0, 1)
        yield (slice(None), slice(start, end)), part


def _filled(part: np.ndarray, inputs: int) -> np.ndarray:
    """Return ``part``, ``[inputs, ...]``, with zeros for the inputs that it lacks."""
    missing = inputs - part.shape[0]
    return np.pad(part, ((0, missing), (0, 0))) if missing else part
